"""Item tables that start from a file: rows by original id, lengths that differ, files that do not fit."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import save_file

from recdistill.content.files import content_of
from recdistill.content.spaces import narrowed
from recdistill.data.interactions import Schema
from recdistill.errors import InputError
from recdistill.models.item_init import initialise_items
from recdistill.models.lightgcn import LightGCN
from recdistill.models.mf import MF
from recdistill.models.popularity import Popularity

ITEMS = np.array(["7", "01", "1", "NA", "é 🎬", "9223372036854775808"])
VECTORS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
KEY = "student.fit.item_init"


def write(folder: Path, kind: str, ids: list[str], vectors: np.ndarray) -> Path:
    file = folder / f"vectors.{kind}"
    if kind == "parquet":
        pl.DataFrame({"item": ids, "vector": vectors.tolist()}).write_parquet(file)
        return file
    np.save(file, vectors) if kind == "npy" else save_file({"any": vectors}, file)
    file.with_suffix(".ids").write_text("".join(f"{i}\n" for i in ids), encoding="utf-8")
    return file


def new(dim: int, kind: type[MF] | type[LightGCN] = MF, n_items: int = len(ITEMS)) -> MF | LightGCN:
    torch.manual_seed(0)
    return kind(Schema(n_users=3, n_items=n_items), dim=dim, init_std=1.0)


@pytest.mark.parametrize("model", [MF, LightGCN])
@pytest.mark.parametrize("kind", ["npy", "safetensors", "parquet"])
def test_rows_are_found_by_their_original_ids(kind: str, model: type[MF], tmp_path: Path) -> None:
    """In another order, with ids that nobody has and items that are missing: these stay random."""
    order = [5, 2, 0, 1, 4]
    ids = [*(str(ITEMS[i]) for i in order), "stranger"]
    file = write(tmp_path, kind, ids, np.concatenate([VECTORS[order], np.ones((1, 4), np.float32)]))
    before, table = new(4, model).item.weight.detach().clone(), new(4, model)
    initialise_items(table, str(file), ITEMS, KEY)
    for row in range(6):
        expected = torch.from_numpy(VECTORS[row]) if row in order else before[row]
        assert torch.equal(table.item.weight[row], expected), row
    assert torch.equal(table.user.weight, new(4, model).user.weight)


def test_without_ids_row_n_is_of_the_id_n(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", VECTORS)
    model = new(4, n_items=3)
    initialise_items(model, str(tmp_path / "x.npy"), np.array(["5", "0", "3"]), KEY)
    assert torch.equal(model.item.weight, torch.from_numpy(VECTORS[[5, 0, 3]]))


def test_longer_vectors_keep_what_so_few_numbers_can(tmp_path: Path) -> None:
    """Dot products as near as by NumPy's truncated SVD."""
    file = write(tmp_path, "npy", [str(i) for i in ITEMS], VECTORS)
    model = new(2)
    initialise_items(model, str(file), ITEMS, KEY)
    u, s, v = np.linalg.svd(VECTORS)
    best = (u[:, :2] * s[:2]) @ v[:2]
    found = model.item.weight.detach().numpy()
    np.testing.assert_allclose(found @ found.T, best @ best.T, atol=1e-5)
    _, kept = narrowed(torch.from_numpy(VECTORS), 2)
    assert kept == pytest.approx((s[:2] ** 2).sum() / (s**2).sum())


def test_the_sign_is_not_the_library_s() -> None:
    vectors = torch.from_numpy(VECTORS)
    turned = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))[0] @ vectors
    first, second = (narrowed(x, 3)[0] for x in (vectors, turned))
    # The same directions, whatever the rows: equal Gram matrices give equal projections.
    torch.testing.assert_close(first.T @ first, second.T @ second, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(narrowed(-vectors, 3)[0], -first, atol=1e-5, rtol=1e-5)


def test_shorter_vectors_fill_the_first_columns(tmp_path: Path) -> None:
    file = write(tmp_path, "npy", [str(i) for i in ITEMS], VECTORS)
    before, model = new(7).item.weight.detach().clone(), new(7)
    initialise_items(model, str(file), ITEMS, KEY)
    assert torch.equal(model.item.weight[:, :4], torch.from_numpy(VECTORS))
    assert torch.equal(model.item.weight[:, 4:], before[:, 4:])


def test_few_rows_of_long_vectors(tmp_path: Path) -> None:
    """Fewer vectors than numbers in one: the directions that are left are 0."""
    file = write(tmp_path, "npy", ["7"], np.arange(9, dtype=np.float32)[None])
    model = new(3)
    initialise_items(model, str(file), ITEMS, KEY)
    assert model.item.weight[0].norm().item() == pytest.approx(np.linalg.norm(np.arange(9)), rel=1e-5)


def test_the_content_is_known_by_file_and_ids(tmp_path: Path) -> None:
    file = write(tmp_path, "npy", ["a", "b"], VECTORS[:2])
    seen = [content_of(str(file), KEY)]
    file.with_suffix(".ids").write_text("b\na\n")
    seen.append(content_of(str(file), KEY))
    np.save(file, VECTORS[1:3])
    seen.append(content_of(str(file), KEY))
    assert all(a != b for a, b in itertools.combinations(seen, 2))
    assert content_of(str(file), KEY) == seen[-1]


@pytest.mark.parametrize(
    ("kind", "ids", "vectors", "said"),
    [
        ("npy", ["x", "y"], VECTORS[:2], "none is of an item"),
        ("npy", ["x", "x"], VECTORS[:2], "an id occurs twice"),
        ("npy", ["x"], VECTORS[:2], "1 ids for the 2 rows"),
        ("npy", ["7"], np.full((1, 4), np.inf, np.float32), "no finite numbers"),
        ("npy", ["7"], np.ones(4, np.float32), "does not hold vectors"),
        ("parquet", ["7", "7"], VECTORS[:2], "item '7' has two vectors"),
        ("parquet", ["7"], np.full((1, 4), np.nan, np.float32), "not finite"),
        ("parquet", ["7"], np.ones(1, np.float32), "does not hold vectors"),
    ],
)
def test_files_that_do_not_fit(kind: str, ids: list[str], vectors: np.ndarray, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        initialise_items(new(4), str(write(tmp_path, kind, ids, vectors)), ITEMS, KEY)
    assert said in str(caught.value)


def test_ragged_and_missing_and_pickled(tmp_path: Path) -> None:
    pl.DataFrame({"item": ["7", "1"], "vector": [[1.0, 2.0], [3.0]]}).write_parquet(tmp_path / "ragged.parquet")
    np.save(tmp_path / "object.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    pl.DataFrame({"id": ["7"], "vector": [[1.0]]}).write_parquet(tmp_path / "names.parquet")
    pl.DataFrame({"item": [], "vector": []}).write_parquet(tmp_path / "empty.parquet")
    for name in ("ragged.parquet", "object.npy", "names.parquet", "empty.parquet", "none.npy"):
        with pytest.raises(InputError):
            initialise_items(new(4), str(tmp_path / name), ITEMS, KEY)


def test_a_model_without_a_table(tmp_path: Path) -> None:
    file = write(tmp_path, "npy", ["7"], VECTORS[:1])
    with pytest.raises(InputError, match="Popularity has no table of 6 item vectors"):
        initialise_items(Popularity(Schema(3, 6)), str(file), ITEMS, KEY)
