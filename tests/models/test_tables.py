"""Compressed tables against loops over ids in NumPy, and the fits against other ways to the same answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from recdistill.data.interactions import Interactions, Schema
from recdistill.errors import InputError
from recdistill.models.mf import MF
from recdistill.models.tables.base import Table, least_squares_sum, read_form, svd_factors, with_penalties
from recdistill.models.tables.hashing import PRIME, Hashing
from recdistill.models.tables.md import MD
from recdistill.models.tables.mixed import Mixed
from recdistill.models.tables.pq import PQ, kmeans, nearest
from recdistill.models.tables.qr import QR
from recdistill.models.tables.tt import TT, bases_of, widths_of


def target(rows: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def check(table: Table, expected: list[np.ndarray]) -> None:
    found = table.eval()(torch.arange(table.rows)).detach().double().numpy()
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(numbers(table.weight), np.stack(expected), rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def numbers(part: Tensor) -> np.ndarray:
    return part.detach().double().numpy()


# Each kind id by id.


@pytest.mark.parametrize("hashes", [1, 2, 3])
def test_hashing_is_a_sum_of_buckets(hashes: int) -> None:
    table = Hashing(50, 4, 0.5, share=0.2, hashes=hashes)
    buckets = numbers(table.buckets)
    assert len(buckets) == 10
    check(table, [sum(buckets[(a * i + b) % PRIME % 10] for a, b in table.hashes) for i in range(50)])


def test_hash_functions_are_spread_and_stay_what_they_are() -> None:
    table = Hashing(100_000, 1, share=0.001, hashes=2, seed=1)
    counts = torch.bincount(table.bucket(torch.arange(100_000)).flatten(), minlength=100)
    assert int(counts.min()) > 1600  # 2000 on average
    assert int(counts.max()) < 2400
    assert table.hashes == [(113153329, 631969064), (1520142105, 1174236067)]  # nothing of them is in a file
    assert Hashing(10, 1, seed=2).hashes != Hashing(10, 1, seed=1).hashes
    large = Hashing(2**31, 1, share=1e-9)
    assert int(large.bucket(torch.tensor(2**31 - 1)).min()) >= 0  # no overflow


@pytest.mark.parametrize("how", ["mult", "add"])
@pytest.mark.parametrize("share", [None, 0.3, 1.0])
def test_qr_composes_quotient_and_remainder(how: str, share: float | None) -> None:
    table = QR(23, 3, 0.5, share=share, how=how)  # type: ignore[arg-type]
    rest, whole, m = numbers(table.remainder), numbers(table.quotient), table.m
    assert m == {None: 5, 0.3: 7, 1.0: 23}[share]
    pairs = [(rest[i % m], whole[i // m]) for i in range(23)]
    check(table, [a * b if how == "mult" else a + b for a, b in pairs])
    assert len({(i % m, i // m) for i in range(23)}) == 23


@pytest.mark.parametrize(("dim", "parts"), [(6, 2), (7, 3), (3, 8), (4, 1)])
def test_pq_joins_the_nearest_centroids(dim: int, parts: int) -> None:
    table = PQ(40, dim, 0.5, parts=parts, codes=5)
    parts = table.parts
    books = numbers(table.codebook).reshape(parts, 5, -1)
    latent = np.zeros((40, parts * table.width))
    assert table.latent is not None
    latent[:, :dim] = numbers(table.latent)
    rows, codes = [], []
    for vector in latent.reshape(40, parts, -1):
        own = [int(((book - part) ** 2).sum(1).argmin()) for book, part in zip(books, vector, strict=True)]
        codes.append(own)
        rows.append(np.concatenate([book[code] for book, code in zip(books, own, strict=True)])[:dim])
    check(table, rows)
    table.settle()
    assert table.codes.tolist() == codes
    assert table.codes.dtype == torch.uint8
    assert set(table.state_dict()) == {"codes", "codebook"}
    check(table, rows)


def test_pq_gradients_are_those_of_the_centroids_and_straight_through() -> None:
    table = PQ(10, 4, 1.0, parts=2, codes=3, commitment=0.0).train()
    assert table.latent is not None
    probe = target(10, 4)
    (table(torch.arange(10)) * probe).sum().backward()
    assert torch.equal(table.latent.grad, probe)
    loose = table.codebook.grad.clone()
    table.settle()
    table.zero_grad()
    (table(torch.arange(10)) * probe).sum().backward()
    torch.testing.assert_close(table.codebook.grad, loose)


def test_pq_commitment_is_relative_to_the_centroids() -> None:
    table = PQ(30, 4, 1.0, parts=2, codes=3, commitment=0.5)
    assert table.latent is not None
    chosen = table.weight.detach()
    expected = 0.5 * ((table.latent - chosen).square().mean() / chosen.square().mean()).item()
    penalty = table.penalty()
    assert penalty is not None
    assert penalty.item() == pytest.approx(expected, rel=1e-5)
    penalty.backward()
    assert table.codebook.grad is None
    table.settle()
    assert table.penalty() is None


@pytest.mark.parametrize(("rows", "dim", "rank"), [(27, 8, 2), (23, 6, 3), (2, 7, 4), (100, 12, 100)])
def test_tt_multiplies_three_cores(rows: int, dim: int, rank: int) -> None:
    table = TT(rows, dim, 0.5, rank=rank)
    (n1, n2, n3), (d1, d2, d3), ranks = table.bases, table.widths, table.ranks
    cores = [
        numbers(core).reshape(n, ranks[k], d, ranks[k + 1]) if k else numbers(core).reshape(n, d, ranks[1])[:, None]
        for k, (core, n, d) in enumerate(zip(table.cores, (n1, n2, n3), (d1, d2, d3), strict=True))
    ]
    expected = []
    for i in range(rows):
        digits = i // (n2 * n3), i // n3 % n2, i % n3
        one, two, three = (core[digit] for core, digit in zip(cores, digits, strict=True))
        expected.append(np.einsum("axb,byc,czd->axyzd", one, two, three).reshape(dim))
    check(table, expected)


def test_tt_shapes_hold_what_they_must() -> None:
    for rows in (*range(1, 60), 1682, 10**6, 12_345_678):
        a, b, c = bases_of(rows)
        assert a * b * c >= rows
        assert a * b * c <= 2 * rows + 6
    assert [widths_of(dim) for dim in (1, 7, 12, 64, 100)] == [(1, 1, 1), (1, 1, 7), (2, 2, 3), (4, 4, 4), (4, 5, 5)]


def test_mixed_maps_the_vectors_of_bands() -> None:
    table = Mixed(20, 8, 0.5, rows_of=[0.1, 0.25], lengths=[1.0, 0.5, 0.125])
    counts = torch.randint(5, (20,), generator=torch.Generator().manual_seed(0))
    table.count(counts)
    order = sorted(range(20), key=lambda row: (-int(counts[row]), row))
    assert [order.index(row) for row in range(20)] == table.place.tolist()
    bands, maps = [numbers(band) for band in table.bands], [numbers(part) for part in table.maps]
    assert [band.shape for band in bands] == [(2, 8), (5, 4), (13, 1)]
    expected = []
    for row in range(20):
        place = order.index(row)
        if place < 2:
            expected.append(bands[0][place])
        elif place < 7:
            expected.append(bands[1][place - 2] @ maps[0])
        else:
            expected.append(bands[2][place - 7] @ maps[1])
    check(table, expected)


def test_mixed_says_what_does_not_fit() -> None:
    with pytest.raises(InputError, match="one length more"):
        Mixed(20, 8, rows_of=[0.1], lengths=[1.0])
    with pytest.raises(InputError, match="bands with shares"):
        Mixed(20, 8, rows_of=[0.8, 0.8], lengths=[1.0, 0.5, 0.1])


def test_frequencies_come_from_the_training_part_alone() -> None:
    item = torch.tensor([3, 3, 3, 1, 1, 7])
    train = Interactions(torch.tensor([0, 1, 2, 1, 2, 2]), item, 4, 9)
    model = MF(Schema(4, 9), dim=8, table=lambda **sizes: Mixed(**sizes, rows_of=[0.25], lengths=[0.25, 0.125]))
    model.bind(train)
    assert isinstance(model.item, Mixed)
    assert model.item.place[[3, 1, 7, 0]].tolist() == [0, 1, 2, 3]
    assert model.user.place.tolist() == [2, 1, 0, 3]  # type: ignore[union-attr]


def test_md_reads_prefixes() -> None:
    table = MD(10, 8, 0.5, serve=0.25)
    with torch.no_grad():
        table.basis.normal_()
    columns, basis = numbers(table.columns), numbers(table.basis)
    assert table.prefixes == (2, 4, 8)
    for number, length in enumerate(table.prefixes):
        table.train()
        read_form([table], number)
        whole = np.stack([sum(columns[i, j] * basis[j] for j in range(length)) for i in range(10)])
        np.testing.assert_allclose(numbers(table.weight), whole, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(numbers(table(torch.arange(10))), whole, rtol=1e-5, atol=1e-6)
    check(table, [sum(columns[i, j] * basis[j] for j in range(2)) for i in range(10)])
    shorter = MD(10, 8, serve=0.5, nested=[0.125, 0.5])
    assert shorter.prefixes == (1, 4)
    shorter.settle()
    assert shorter.prefixes == ()
    shorter.loosen()
    assert shorter.prefixes == (1, 4)
    with pytest.raises(InputError, match="prefixes of"):
        MD(10, 8, serve=0.5, nested=[0.25])


# Fits.


def test_sums_are_fit_by_least_squares() -> None:
    index, wanted = torch.randint(12, (50, 3), generator=torch.Generator().manual_seed(1)), target(50, 4)
    design = np.zeros((50, 12))
    for row, own in enumerate(index.tolist()):
        for bucket in own:
            design[row, bucket] += 1
    best, *_ = np.linalg.lstsq(design, numbers(wanted), rcond=None)
    np.testing.assert_allclose(numbers(least_squares_sum(index, wanted, 12)), best, atol=1e-5)


def test_sums_with_more_buckets_than_rows_are_exact_and_short() -> None:
    index, wanted = torch.randint(40, (10, 2), generator=torch.Generator().manual_seed(1)), target(10, 3)
    found = least_squares_sum(index, wanted, 40)
    design = np.zeros((10, 40))
    for row, own in enumerate(index.tolist()):
        for bucket in own:
            design[row, bucket] += 1
    np.testing.assert_allclose(numbers(found), np.linalg.pinv(design) @ numbers(wanted), atol=1e-5)


def test_a_product_is_fit_by_the_best_matrix_of_rank_one() -> None:
    table, wanted = QR(24, 2, share=0.25, how="mult"), target(24, 2).abs() + 0.5
    table.fit(wanted)
    for column in range(2):
        matrix = numbers(wanted[:, column]).reshape(4, 6)
        left, size, right = np.linalg.svd(matrix)
        found = numbers(table.weight[:, column]).reshape(4, 6)
        np.testing.assert_allclose(found, size[0] * np.outer(left[:, 0], right[0]), atol=1e-4)


@pytest.mark.parametrize("rows", [1, 2, 50])
def test_full_size_forms_hold_any_table_exactly(rows: int) -> None:
    wanted = target(rows, 6)
    forms = [
        QR(rows, 6, share=1.0), QR(rows, 6, share=1.0, how="add"), PQ(rows, 6, parts=3, codes=rows),
        TT(rows, 6, rank=10**6), MD(rows, 6, serve=1.0), Mixed(rows, 6, rows_of=[0.3], lengths=[1.0, 1.0]),
    ]  # fmt: skip
    for table in forms:
        table.fit(wanted)
        table.settle()
        exact = isinstance(table, PQ | Mixed) or (isinstance(table, QR) and table.how == "mult")
        torch.testing.assert_close(
            table.eval().weight, wanted, rtol=0 if exact else 1e-5, atol=0 if exact else 1e-5, msg=str(table)
        )


@pytest.mark.parametrize("rank", [2, 5])
def test_tt_svd_is_as_near_as_it_promises(rank: int) -> None:
    """The squared error is at most that of both cuts together (Oseledets 2011, theorem 2.2)."""
    wanted = target(60, 8)
    table = TT(60, 8, rank=rank)
    table.fit(wanted)
    (n1, n2, n3), (d1, d2, d3) = table.bases, table.widths
    filled = np.zeros((n1 * n2 * n3, 8))
    filled[:60] = numbers(wanted)
    tensor = filled.reshape(n1, n2, n3, d1, d2, d3).transpose(0, 3, 1, 4, 2, 5)
    first = np.linalg.svd(tensor.reshape(n1 * d1, -1), compute_uv=False)[rank:]
    second = np.linalg.svd(tensor.reshape(n1 * d1 * n2 * d2, -1), compute_uv=False)[rank:]
    error = ((numbers(table.weight) - numbers(wanted)) ** 2).sum()
    assert error <= (first**2).sum() + (second**2).sum() + 1e-6


def test_a_prefix_is_the_truncated_svd() -> None:
    wanted = target(30, 8)
    table = MD(30, 8, serve=0.25)
    table.fit(wanted)
    left, size, right = np.linalg.svd(numbers(wanted), full_matrices=False)
    np.testing.assert_allclose(numbers(table.eval().weight), left[:, :2] * size[:2] @ right[:2], atol=1e-5)
    first, second = svd_factors(target(2, 5), 4)
    torch.testing.assert_close(first @ second, target(2, 5))


def test_kmeans_finds_groups_and_is_a_local_optimum() -> None:
    centres = 10 * target(6, 3, 5)
    points = centres.repeat(20, 1) + 0.1 * target(120, 3)
    found = kmeans(points, 6)
    distance = torch.cdist(centres, found).amin(1)
    assert float(distance.max()) < 0.5
    again = kmeans(target(200, 2), 7)
    own = nearest(target(200, 2).unsqueeze(1), again.unsqueeze(0))[:, 0]
    for centroid in range(7):
        torch.testing.assert_close(target(200, 2)[own == centroid].mean(0), again[centroid], atol=1e-4, rtol=1e-4)
    same = kmeans(torch.ones(20, 2), 4)  # no four different points
    assert bool(torch.isfinite(same).all())
    assert torch.equal(kmeans(points, 500), points)


def test_penalties_are_added_to_the_loss() -> None:
    table, loss = QR(10, 4, share=0.5), torch.tensor(2.0)
    terms: dict[str, torch.Tensor] = {"bpr": loss}
    assert with_penalties(loss, terms, [table]) is loss
    table.hold(table.weight.detach(), 3.0)
    assert float(with_penalties(loss, terms, [table]).detach()) == pytest.approx(2.0)
    anchor = table.weight.detach() + 1  # each entry is off by 1
    table.hold(anchor, 3.0)
    total = float(with_penalties(loss, terms, [table, table]).detach())
    assert total > 2.0
    assert total == pytest.approx(2.0 + 2 * 3.0 / float(anchor.square().mean()))
    assert total == pytest.approx(2.0 + float(terms["table_penalty"].detach()))
    table.hold(torch.zeros(10, 4), 0.0)
    assert with_penalties(loss, {}, [table]) is loss


def test_large_tables_are_held_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recdistill.models.tables.base.HELD_ROWS", 64)
    table, anchor = QR(500, 4, 1.0, share=0.5), target(500, 4)
    table.hold(anchor, 1.0)
    values = []
    for seed in range(200):
        torch.manual_seed(seed)
        penalty = table.penalty()
        assert penalty is not None
        values.append(penalty.item())
    whole = float((table.weight.detach() - anchor).square().mean() / anchor.square().mean())
    assert np.mean(values) == pytest.approx(whole, rel=0.05)


def test_numbers_of_a_file_are_looked_at() -> None:
    codes = PQ(10, 4, parts=2, codes=3)
    codes.settle()
    codes.require_sound()
    codes.codes[3, 1] = 3
    with pytest.raises(ValueError, match="there are 3 centroids"):
        codes.require_sound()
    bands = Mixed(20, 8)
    bands.require_sound()
    bands.place[0] = 1
    with pytest.raises(ValueError, match="each once"):
        bands.require_sound()
