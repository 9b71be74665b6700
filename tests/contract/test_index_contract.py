"""Every index below conf/index: its lists are those of a sort, or nearly; its settings are those of its class."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from recdistill.config.check import check_nodes
from recdistill.models.build import instantiate
from recdistill.retrieval.base import PAD, Index
from recdistill.retrieval.exact import Exact

FOLDER = Path(__file__).resolve().parents[2] / "conf" / "index"
OPTIONS = sorted(file.stem for file in FOLDER.glob("*.yaml") if file.stem != "none")
RECALL = {"exact": 1.0, "exact_int8": 0.99}


def node(option: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / f"{option}.yaml").read_text(encoding="utf-8"))[option]
    return found


def index_of(option: str) -> Index:
    index: Index = instantiate(node(option))
    for package in index.packages:
        pytest.importorskip(package, reason="pip install 'recdistill[index]'")
    return index


def vectors(n: int, dim: int, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal((n, dim), np.float32)


@pytest.mark.parametrize("option", OPTIONS)
def test_the_yaml_names_what_the_class_takes(option: str) -> None:
    assert check_nodes({option: node(option)}) == []
    parameters = inspect.signature(type(instantiate(node(option)))).parameters
    assert set(node(option)) - {"_target_"} == set(parameters)
    assert {name: p.default for name, p in parameters.items()} == {
        k: v for k, v in node(option).items() if k != "_target_"
    }
    head = (FOLDER / f"{option}.yaml").read_text(encoding="utf-8").splitlines()[:3]
    assert [line.split(":")[0] for line in head[1:]] == ["# Source", "# Try"]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("size", [(1, 3), (50, 8), (6000, 24)], ids=str)
def test_lists(option: str, size: tuple[int, int]) -> None:
    n, dim = size
    table, queries, k = vectors(n, dim, 0), vectors(20, dim, 1), 10
    searcher = index_of(option).build(table)
    found = searcher.search(queries, k)
    assert searcher.shape == size
    assert searcher.nbytes >= n * dim
    assert found.items.dtype == np.int64
    assert found.scores.dtype == np.float32
    assert found.items.shape == found.scores.shape == (20, k)
    there = found.items != PAD
    assert (there.sum(1) == min(k, n)).all() or option not in RECALL
    assert (found.scores[~there] == -np.inf).all()
    for row, own in zip(found.items, there, strict=True):
        assert len(set(row[own])) == own.sum()
        assert own[: own.sum()].all()
    assert (np.diff(np.where(there, found.scores, np.float32(-1e9)), axis=1) <= 0).all()
    exact = np.take_along_axis(queries @ table.T, found.items.clip(min=0), 1)
    assert np.abs(found.scores - exact)[there].max() < 0.05 * np.abs(exact).max()
    expected = Exact().build(table).search(queries, k)
    shared = (expected.items[:, :, None] == found.items[:, None]) & (expected.items != PAD)[:, :, None]
    assert shared.sum() / (expected.items != PAD).sum() >= RECALL.get(option, 0.5)


@pytest.mark.parametrize("option", OPTIONS)
def test_the_same_lists_one_by_one_and_built_again(option: str) -> None:
    table, queries = vectors(3000, 16, 2), vectors(9, 16, 3)
    searcher = index_of(option).build(table)
    together = searcher.search(queries, 7)
    alone = np.concatenate([searcher.search(query[None], 7).items for query in queries])
    again = index_of(option).build(table.copy()).search(queries, 7)
    assert np.array_equal(together.items, alone)
    if option != "hnsw":  # its graph depends on which thread comes first
        assert np.array_equal(together.items, again.items)


@pytest.mark.parametrize(
    ("option", "setting"),
    [("exact_int8", "rescore"), ("ivf_sq8", "lists"), ("ivf_sq8", "probe"), ("hnsw", "width"), ("hnsw", "neighbours")],
)
def test_wrong_settings_name_their_key(option: str, setting: str) -> None:
    with pytest.raises(Exception, match=f"index.{option}.{setting}"):
        instantiate(node(option) | {setting: -1})
