"""What the evaluation leaves behind: values by user, figures beyond accuracy, slices; and where items' features go."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from stage_kit import models

from recdistill.data import store as data_store
from recdistill.data.csr import Csr
from recdistill.data.features import Features
from recdistill.data.filters import Filters
from recdistill.data.interactions import Dataset
from recdistill.data.prepare import prepare
from recdistill.data.sources.synthetic import Synthetic
from recdistill.data.splits import GlobalTemporal
from recdistill.stages.evaluate import catalogue_of

Cli = Callable[..., int]


@pytest.fixture(scope="module")
def log() -> Dataset:
    return prepare(Synthetic(n_users=60, n_items=40, niches=4), Filters(), GlobalTemporal())


def test_a_run_keeps_it_all(cli: Cli) -> None:
    assert cli("run", "run.name=one", "alpha=0", "evaluation.metric=map@5") == 0
    summary = json.loads(Path("outputs/one/summary.json").read_text())
    data = data_store.load(models(Path("outputs/cache"), "data")[0], data_store.PARTS)
    for row in summary["rows"]:
        users = pl.read_parquet(Path("outputs/one", row["folder"], "per_user.parquet"))
        assert set(users["user"]) <= set(data.users.tolist())
        number = {name: at for at, name in enumerate(data.users.tolist())}
        at = torch.tensor([number[name] for name in users["user"]])
        assert users["n_relevant"].to_list() == data.test.csr.counts()[at].tolist()
        assert users["n_history"].to_list() == data.train.csr.counts()[at].tolist()
        assert users["map@5"].mean() == pytest.approx(row["metrics"]["map@5"])

        assert row["beyond"]["k"] == 5
        assert row["beyond"]["coverage"] == row["metrics"]["coverage@5"]
        assert row["beyond"]["category_by"] == "genre"
        by_users, by_items = ([s for s in row["slices"] if s["by"] == by] for by in ("users", "items"))
        assert sum(s["users"] for s in by_users) == summary["n_users"] == users.height
        assert sum(s["pairs"] for s in by_users) == sum(s["pairs"] for s in by_items) == users["n_relevant"].sum()
        whole = sum(s["users"] * s["metrics"]["map@5"] for s in by_users if s["users"])
        assert whole / users.height == pytest.approx(row["metrics"]["map@5"])
        assert set(by_users[0]["metrics"]) == {"map@5", "recall@5"}
    page = Path("outputs/one/report.html").read_text()
    assert "Beyond accuracy" in page
    assert "MAP@5 by users and items" in page


def test_the_same_evaluation_is_read_again_and_another_metric_made(cli: Cli) -> None:
    for name, words in (("a", ()), ("b", ()), ("c", ("evaluation.metric=recall@5",))):
        assert cli("evaluate", "alpha=0", f"run.name={name}", *words) == 0
        made = len(models(Path("outputs/cache"), "evaluate"))
        assert made == (8 if name == "c" else 4)  # teacher, its int8 and int4, student alone


def test_categories_and_vectors_come_from_the_items_features(log: Dataset) -> None:
    n = len(log.items)
    sets = Csr.from_pairs(torch.arange(n), torch.arange(n) % 3 + 1, n)
    plain, names = catalogue_of(replace(log, item_features=Features()))
    assert plain.categories is plain.vectors is None
    assert names == {"diversity_by": "co-occurrence in training"}

    vectors = torch.rand(n, 4)
    found, names = catalogue_of(replace(log, item_features=Features(multi={"tags": sets}, vector={"image": vectors})))
    assert found.categories is sets
    assert found.vectors is vectors
    assert names == {"diversity_by": "image", "category_by": "tags"}

    codes = torch.arange(n) % 3  # 0 is unknown
    found, names = catalogue_of(replace(log, item_features=Features(categorical={"brand": codes})))
    assert names["category_by"] == "brand"
    assert found.categories is not None
    assert found.categories.counts().tolist() == [int(code > 0) for code in codes.tolist()]
    np.testing.assert_array_equal(found.categories.indices, codes[codes > 0])
