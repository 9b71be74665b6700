"""Every pass below conf/rerank: what it does against a plain loop over users, and what holds for all of them."""

from __future__ import annotations

import inspect
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from recdistill.config.check import check_nodes
from recdistill.data.csr import Csr
from recdistill.errors import InputError
from recdistill.evaluation.topk import PAD, top_k
from recdistill.models.build import instantiate
from recdistill.rerank.base import Lists, Reranker, Reranking, Shelf
from recdistill.rerank.caps import Caps
from recdistill.rerank.dpp import DPP
from recdistill.rerank.freshness import Freshness
from recdistill.rerank.mmr import MMR
from recdistill.rerank.popularity import Popularity
from recdistill.rerank.rules import Rules

FOLDER = Path(__file__).resolve().parents[2] / "conf" / "rerank"
OPTIONS = sorted(file.stem for file in FOLDER.glob("*.yaml") if file.stem != "none")
N_ITEMS, N_USERS = 30, 12


def node(option: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / f"{option}.yaml").read_text(encoding="utf-8"))[option]
    return found


def shelf(seed: int = 0) -> Shelf:
    rng = torch.Generator().manual_seed(seed)
    user, item = torch.randint(20, (200,), generator=rng), torch.randint(N_ITEMS, (200,), generator=rng)
    category = torch.stack([torch.arange(N_ITEMS) % 4, torch.arange(N_ITEMS) % 5 + 4], 1)
    rows = torch.arange(N_ITEMS).repeat_interleave(2)
    return Shelf(
        np.array([f"i{n}" for n in range(N_ITEMS)], dtype=object), Csr.from_pairs(user, item, 20),
        Csr.from_pairs(rows, category.flatten(), N_ITEMS), torch.randn(N_ITEMS, 6, generator=rng),
        torch.rand(N_ITEMS, generator=rng, dtype=torch.float64) * 100,
    )  # fmt: skip


def scores(seed: int = 1) -> Tensor:
    """Of users who have had none, some and nearly all of the items."""
    rng = torch.Generator().manual_seed(seed)
    found = torch.randn(N_USERS, N_ITEMS, generator=rng)
    for user in range(N_USERS):
        found[user, torch.randperm(N_ITEMS, generator=rng)[: [0, 3, 15, 27, 30][user % 5]]] = -torch.inf
    return found


def bound(one: Reranker, of: Shelf | None = None) -> Reranking:
    of = of or shelf()
    one.bind(of, "rerank.x")
    return Reranking([one], of.n_items)


def candidates(row: Tensor, n: int) -> list[int]:
    order = sorted((i for i in range(len(row)) if row[i] > -torch.inf), key=lambda i: (-float(row[i]), i))
    return order[:n]


def relevances(row: Tensor, items: list[int]) -> dict[int, float]:
    values = [float(row[i]) for i in items]
    span = max(values) - min(values) if values else 0
    return {i: (float(row[i]) - min(values)) / span if span else 0.0 for i in items}


def padded(rows: list[list[int]], k: int) -> list[list[int]]:
    return [(row + [PAD] * k)[:k] for row in rows]


@pytest.mark.parametrize("option", OPTIONS)
def test_the_yaml_names_what_the_class_takes(option: str) -> None:
    assert check_nodes({option: node(option)}) == []
    parameters = inspect.signature(type(instantiate(node(option)))).parameters
    own = {key: value for key, value in node(option).items() if key != "_target_"}
    assert {name: p.default for name, p in parameters.items()} == own
    head = (FOLDER / f"{option}.yaml").read_text(encoding="utf-8").splitlines()[:3]
    assert [line.split(":")[0] for line in head[1:]] == ["# Source", "# Try"]


@pytest.mark.parametrize("k", [1, 10, N_ITEMS, 40])
@pytest.mark.parametrize("option", OPTIONS)
def test_what_holds_for_all(option: str, k: int) -> None:
    of_all, reranking = scores(), bound(instantiate(node(option)))
    found = reranking.lists(of_all, k)
    assert found.items.shape == found.scores.shape == (N_USERS, k)
    for row, (items, values) in enumerate(zip(*found, strict=True)):
        real = items[items != PAD]
        assert len(set(real.tolist())) == len(real)
        assert len(real) == min(k, int((of_all[row] > -torch.inf).sum()))
        assert (items[len(real) :] == PAD).all()
        assert (of_all[row, real] > -torch.inf).all()
        assert (values[: len(real)].diff() <= 0).all()
        assert (values[len(real) :] == -torch.inf).all()
    one_by_one = torch.cat([reranking.lists(row[None], k).items for row in of_all])
    assert torch.equal(found.items, one_by_one)


@pytest.mark.parametrize("option", OPTIONS)
def test_the_scorer_ranks_as_the_lists(option: str) -> None:
    reranking, none = (
        bound(instantiate(node(option))),
        Csr.from_pairs(torch.zeros(0).long(), torch.zeros(0).long(), N_USERS),
    )
    again = reranking.scorer(lambda users: scores()[users], none, 10)(torch.arange(N_USERS))
    values, items = again.sort(dim=1, descending=True, stable=True)
    expected = reranking.lists(scores(), 10).items
    assert torch.equal(items[:, :10].masked_fill(values[:, :10] == -torch.inf, PAD), expected)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("n", [8, 100])
def test_mmr_by_brute_force(weight: float, n: int) -> None:
    of, rows = shelf(), scores()
    unit = of.unit("content")
    expected = []
    for row in rows:
        left, chosen = candidates(row, max(n, 6)), []
        share = relevances(row, left)
        while left and len(chosen) < 6:

            def value(i: int) -> float:
                alike = max((float(unit[i] @ unit[j]) for j in chosen), default=0.0)  # noqa: B023
                return weight * share[i] - (1 - weight) * alike  # noqa: B023

            best = max(left, key=lambda i: round(value(i), 5))
            left.remove(best)
            chosen.append(best)
        expected.append(chosen)
    found = bound(MMR(weight=weight, by="content", candidates=n), of).lists(rows, 6)
    assert found.items.tolist() == padded(expected, 6)
    if weight == 1:
        assert found.items.tolist() == padded([candidates(row, 6) for row in rows], 6)


@pytest.mark.parametrize("weight", [0.0, 0.5, 0.9])
def test_dpp_by_determinants(weight: float) -> None:
    of, rows = shelf(), scores()
    unit = of.unit("content").double()
    expected = []
    for row in rows:
        items = candidates(row, 12)
        share = relevances(row, items)
        quality = {i: np.exp(weight / (2 * (1 - weight)) * share[i]) for i in items}

        def determinant(chosen: list[int]) -> float:
            kernel = unit[chosen] @ unit[chosen].T
            each = torch.tensor([quality[i] for i in chosen])  # noqa: B023
            return round(float(torch.linalg.det(kernel * each[:, None] * each)), 6)

        chosen: list[int] = []
        while len(chosen) < min(5, len(items)):  # vectors have 6 numbers
            chosen.append(max((i for i in items if i not in chosen), key=lambda i: determinant([*chosen, i])))
        expected.append(chosen)
    found = bound(DPP(weight=weight, by="content", candidates=12), of).lists(rows, 5)
    assert found.items.tolist() == padded(expected, 5)


def test_dpp_is_near_the_best_of_all_lists() -> None:
    of = shelf()
    unit, row = of.unit("content").double(), scores()[0]
    items = candidates(row, 10)
    found = bound(DPP(weight=0.0, by="content", candidates=10), of).lists(row[None], 3).items[0].tolist()
    volumes = {
        own: float(torch.linalg.det(unit[list(own)] @ unit[list(own)].T)) for own in itertools.combinations(items, 3)
    }
    assert volumes[tuple(sorted(found, key=items.index))] >= (1 - 1 / np.e) * max(volumes.values())


def test_dpp_fills_up_with_what_adds_nothing() -> None:
    of = Shelf(
        np.array(list("abcd"), dtype=object), shelf().train, vectors=torch.tensor([[1.0, 0], [1, 0], [0, 1], [1, 0]])
    )
    found = bound(DPP(by="content"), of).lists(torch.tensor([[4.0, 3, 2, 1]]), 4)
    assert found.items.tolist() == [[0, 2, 1, 3]]


@pytest.mark.parametrize(("most", "length"), [(1, 5), (2, 10), (3, 10), (1, 30)])
def test_caps_by_brute_force(most: int, length: int) -> None:
    of, rows = shelf(), scores()
    expected = []
    for row in rows:
        counts, kept, over = np.zeros(of.members.shape[1]), [], []
        for item in candidates(row, 30):
            own = of.members[item].numpy()
            if len(kept) < length and (counts[own] < most).all():
                counts[own] += 1
                kept.append(item)
            else:
                over.append(item)
        expected.append(kept + over)
    found = bound(Caps(most=most, length=length), of).lists(rows, 10)
    assert found.items.tolist() == padded(expected, 10)


def test_popularity_and_freshness_by_hand() -> None:
    of, rows = shelf(), scores()
    assert of.age is not None
    logs = of.popularity.log1p() / of.popularity.max().log1p()
    changes = {Popularity(weight=0.7): -0.7 * logs, Freshness(weight=2.0, half_life=20): 2 * 2 ** (-of.age / 20)}
    for one, change in changes.items():
        found, plain = bound(one, of).lists(rows, 10), []
        for row in rows:
            items = candidates(row, 100)
            share = relevances(row, items)
            plain.append(sorted(items, key=lambda i: -(share[i] + float(change[i]))))
        assert found.items.tolist() == padded(plain, 10)


def test_popular_items_become_rarer_and_new_ones_more() -> None:
    of, rows = shelf(), scores()[::5]
    assert of.age is not None
    plain = torch.tensor([candidates(row, 10) for row in rows])
    rarer = bound(Popularity(weight=1.0), of).lists(rows, 10).items
    newer = bound(Freshness(weight=1.0), of).lists(rows, 10).items
    assert of.popularity[rarer].mean() < of.popularity[plain].mean()
    assert of.age[newer].mean() < of.age[plain].mean()


def test_rules(tmp_path: Path) -> None:
    rows = scores()
    (tmp_path / "deny.txt").write_text("i3\ni7\n\n")
    found = bound(Rules(deny=str(tmp_path / "deny.txt"), pin=["i9", "i3", "i1"], candidates=5)).lists(rows, 8)
    for row, items in zip(rows, found.items.tolist(), strict=True):
        pinned = [i for i in (9, 1) if row[i] > -torch.inf]
        assert items[: len(pinned)] == pinned
        assert not {3, 7} & set(items)
        rest = [i for i in candidates(row, 8) if i not in (1, 9, 3, 7)]
        assert [i for i in items[len(pinned) :] if i != PAD][: len(rest)] == rest[: 8 - len(pinned)]


def test_passes_follow_each_other() -> None:
    of, rows = shelf(), scores()
    passes: list[Reranker] = [MMR(weight=0.3, by="content"), Rules(deny=["i4"], pin=["i2"]), Caps(most=2)]
    for one in passes:
        one.bind(of, "rerank.x")
    together = Reranking(passes, N_ITEMS).lists(rows, 10)
    second = passes[1](passes[0](Lists(*top_k(rows, N_ITEMS)), 10), 10)
    third = passes[2](second, 10)
    real = together.items != PAD
    assert torch.equal(together.items[real], third.items[:, :10][real])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: bound(MMR(by="content"), Shelf(np.array(["a"], dtype=object), shelf().train)), "no vectors"),
        (lambda: bound(Caps(), Shelf(np.array(["a"], dtype=object), shelf().train)), "no categories"),
        (lambda: bound(Freshness(), Shelf(np.array(["a"], dtype=object), shelf().train)), "no times"),
        (lambda: bound(Rules(deny=["nothing"])), "'nothing'"),
        (lambda: bound(Rules(pin="nowhere.txt")), "nowhere.txt"),
        (lambda: MMR(weight=1.5), "rerank.mmr.weight"), (lambda: DPP(weight=1.0), "rerank.dpp.weight"),
        (lambda: Caps(most=0), "rerank.caps.most"), (lambda: Freshness(half_life=0), "rerank.freshness.half_life"),
        (lambda: Popularity(weight=-1), "rerank.popularity.weight"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused(make: Any, said: str) -> None:
    with pytest.raises(InputError) as error:
        make()
    assert said in str(error.value)


def test_likeness_by_history_is_that_of_who_had_them() -> None:
    of = shelf()
    table = torch.zeros(20, N_ITEMS)
    user, item = of.train.rows(torch.arange(20))
    table[user, item] = 1
    unit = torch.nn.functional.normalize(table, dim=0)
    assert torch.allclose(of.unit("history") @ of.unit("history").T, unit.T @ unit, atol=1e-5)
    assert torch.equal(of.unit(None), of.unit("content"))
