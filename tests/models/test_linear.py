"""Item-item models: what is computed in blocks, weighted similarities, and memory that is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from recdistill.data.interactions import Interactions, Schema
from recdistill.errors import InputError, ResourceError
from recdistill.export.bundle import WEIGHTS, count_parameters, load_model, save_model
from recdistill.models import linear
from recdistill.models.linear import EASE, ItemKNN, LinearItemModel, free_memory, history_matrix, idf_weighted
from recdistill.stages.summary import label


def dense(train: Interactions) -> np.ndarray:
    x = np.zeros((train.n_users, train.n_items))
    x[train.user, train.item] = 1
    return x


@pytest.mark.parametrize("block", [1, 3, 5, 17, 100])
def test_the_size_of_a_block_changes_nothing(train: Interactions, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = Schema(train.n_users, train.n_items)
    whole: list[LinearItemModel] = [EASE(schema, l2=3.0), ItemKNN(schema, k=4), ItemKNN(schema, k=4, idf=True)]
    parts: list[LinearItemModel] = [EASE(schema, l2=3.0), ItemKNN(schema, k=4), ItemKNN(schema, k=4, idf=True)]
    for model in whole:
        model.fit(train)
    monkeypatch.setattr(linear, "BLOCK", block)
    for model, other in zip(parts, whole, strict=True):
        model.fit(train)
        torch.testing.assert_close(model.weight.sort(0).values, other.weight.sort(0).values, atol=1e-6, rtol=1e-5)
    inverse = np.linalg.inv(dense(train).T @ dense(train) + 3.0 * np.eye(train.n_items))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(parts[0].weight, expected, atol=1e-6)


@pytest.mark.parametrize("shrinkage", [0.0, 5.0])
def test_idf_is_the_cosine_of_weighted_users(train: Interactions, shrinkage: float) -> None:
    model = ItemKNN(Schema(train.n_users, train.n_items), k=99, shrinkage=shrinkage, idf=True)
    model.fit(train)
    x = dense(train)
    weight = np.log(1 + train.n_items / x.sum(1))
    weight /= np.sqrt((x * weight[:, None] ** 2).sum() / x.sum())
    y = x * weight[:, None]
    norm = np.linalg.norm(y, axis=0)
    expected = (y.T @ y) / (norm[:, None] * norm + shrinkage)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(model.weight, expected, atol=1e-6)


def test_idf_keeps_the_scale_and_takes_users_without_history(train: Interactions) -> None:
    wider = Interactions(train.user, train.item, train.n_users + 2, train.n_items)
    weighted = idf_weighted(history_matrix(wider))
    assert weighted.shape == (train.n_users + 2, train.n_items)
    assert float((weighted.data**2).mean()) == pytest.approx(1, abs=1e-5)
    long, short = np.argmax(np.diff(weighted.indptr)), np.argmin(np.diff(weighted.indptr)[: train.n_users])
    assert weighted[long].max() < weighted[short].max()


@pytest.mark.parametrize(("kind", "needed"), [(EASE, "4.0 GiB"), (ItemKNN, "4.0 GiB")])
def test_a_matrix_that_does_not_fit_is_refused_before_it_is_made(
    kind: type[LinearItemModel], needed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "free_memory", lambda: 3 * 2**30)
    with pytest.raises(ResourceError, match=f"{kind.__name__} needs {needed} of memory, 3.0 GiB are free") as caught:
        kind(Schema(2, 2**15))
    assert "32,768² pairs" in str(caught.value)
    assert "k_core" in str(caught.value)
    assert caught.value.exit_code == 4


def test_ease_asks_for_the_matrix_that_it_inverts(train: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    model = EASE(Schema(train.n_users, train.n_items))
    monkeypatch.setattr(linear, "free_memory", lambda: train.n_items**2 * 12 - 1)
    with pytest.raises(ResourceError, match="EASE needs"):
        model.fit(train)


def test_ease_without_an_inverse_says_so() -> None:
    twins = Interactions(torch.arange(3).repeat(2), torch.tensor([0, 0, 0, 1, 1, 1]), 3, 2)
    with pytest.raises(InputError, match="too small for these data"):
        EASE(Schema(3, 2), l2=1e-300).fit(twins)


def test_free_memory_is_some_of_the_machines() -> None:
    import os

    assert 2**20 < free_memory() <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_item_knn_is_stored_without_its_zeros(tmp_path: Path) -> None:
    n_items = 400
    rng = torch.Generator().manual_seed(0)
    pairs = torch.randint(0, 300 * n_items, (4000,), generator=rng).unique()
    train = Interactions(pairs // n_items, pairs % n_items, 300, n_items)
    model = ItemKNN(Schema(300, n_items), k=10)
    model.fit(train)
    save_model(tmp_path, model, {"_target_": "recdistill.models.linear.ItemKNN", "k": 10})
    values = int(model.weight.count_nonzero())
    assert values < 0.03 * n_items**2
    assert (tmp_path / WEIGHTS).stat().st_size < (4 + 2) * values + 2 * n_items + 1000  # not 4 * n_items**2
    assert count_parameters(tmp_path)["nonzeros"] == values
    assert label(tmp_path, "baseline", {}) == "ItemKNN"  # and not "pruned"
    again = load_model(tmp_path, train)
    assert torch.equal(again.weight, model.weight)
    torch.testing.assert_close(again.scores(torch.arange(300)), model.scores(torch.arange(300)), atol=1e-6, rtol=0)
