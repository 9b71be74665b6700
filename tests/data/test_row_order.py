"""Shuffling the rows of a file changes neither a hash of the split nor a metric; and other promises of preparation."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.filters import Filters
from recdistill.data.interactions import Dataset, Interactions
from recdistill.data.prepare import prepare
from recdistill.data.sources.base import RawLog, Source
from recdistill.data.sources.table import Table
from recdistill.data.splits import (
    ColdItem,
    ColdUser,
    GlobalTemporal,
    KFold,
    LeaveOneOut,
    PerUserTemporal,
    RandomSplit,
    Split,
)
from recdistill.errors import InputError
from recdistill.models.linear import EASE
from recdistill.tasks.batches import ranking_epoch
from recdistill.tasks.ranking import Ranking, scorer

SPLITS = [
    GlobalTemporal(),
    PerUserTemporal(),
    LeaveOneOut(),
    RandomSplit(),
    KFold(4, 2),
    ColdUser(0.2, 0.3),
    ColdItem(),
    ColdItem(warm=0.2),
]
by_name = pytest.mark.parametrize("split", SPLITS, ids=lambda split: type(split).__name__)


def rows(seed: int, n: int = 300) -> list[str]:
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 25, n), rng.integers(0, 30, n)
    day, value = rng.integers(1, 28, n), rng.integers(1, 6, n)
    return [f"0{u},é{i},{v},2024-02-{d:02}" for u, i, v, d in zip(user, item, value, day, strict=True)]


def prepared(path: Path, lines: list[str], split: Split, **filters: object) -> Dataset:
    path.write_text("\n".join(["user,item,value,time", *lines]) + "\n", encoding="utf-8")
    source = Table(str(path), value="value", time="time")
    found = prepare(source, Filters(**filters), split)  # type: ignore[arg-type]
    assert isinstance(found, Dataset)
    return found


def metrics(data: Dataset) -> dict[str, float]:
    model = EASE(data.schema, l2=10.0)
    model.fit(data.train)
    return Ranking().evaluate(model, data, "test", [5, 10]).means()


@by_name
@pytest.mark.parametrize("repeats", ["first", "last", "all"])
def test_shuffled_rows_change_no_hash_and_no_metric(split: Split, repeats: str, tmp_path: Path) -> None:
    for seed in range(3):
        lines = rows(seed)
        shuffled = random.Random(seed).sample(lines, len(lines))
        one, two = (
            prepared(tmp_path / "log.csv", order, split, repeats=repeats, k_core=3) for order in (lines, shuffled)
        )
        assert one.manifest["parts"] == two.manifest["parts"]
        assert one.fingerprint == two.fingerprint
        assert one.manifest["source_fingerprint"] != two.manifest["source_fingerprint"]
        if not split.holds_out_items:
            assert metrics(one) == metrics(two)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_shuffled_rows_under_a_temporal_split(seed: int, rng: random.Random) -> None:
    lines = rows(seed, 120)
    with tempfile.TemporaryDirectory() as temporary:
        found = [
            prepared(Path(temporary) / "log.csv", order, GlobalTemporal(0.2, 0.2))
            for order in (lines, rng.sample(lines, len(lines)))
        ]
    assert found[0].manifest["parts"] == found[1].manifest["parts"]
    assert metrics(found[0]) == metrics(found[1])


class Frame(Source):
    """A log from memory."""

    def __init__(self, events: pl.DataFrame, **more: object):
        self.log = RawLog(events, **more)  # type: ignore[arg-type]

    def read(self) -> RawLog:
        return self.log

    def fingerprint(self) -> str:
        return "frame"

    def where(self) -> str:
        return "memory"


@by_name
def test_no_pair_of_an_earlier_part_reaches_a_later_one(split: Split, tmp_path: Path) -> None:
    data = prepared(tmp_path / "log.csv", rows(1), split, repeats="all")
    earlier: set[tuple[int, int]] = set()
    for part in (data.train, *([data.known] if data.known else []), data.valid, data.test):
        own = list(zip(part.user.tolist(), part.item.tolist(), strict=True))
        assert not earlier & set(own)
        earlier |= set(own)
    if not isinstance(split, ColdItem | ColdUser):
        assert len(data.train) > len(set(zip(data.train.user.tolist(), data.train.item.tolist(), strict=True)))
        again = data.report["lost"]["test"]["pair of an earlier part"]
        assert (again == 0) is isinstance(split, KFold), "a fold takes all repeats of a pair"


def test_context_follows_its_event_under_all_repeats() -> None:
    rng = np.random.default_rng(0)
    user, item, time_ = (rng.integers(0, high, 200).astype(str) for high in (8, 9, 10**6))
    events = pl.DataFrame({"user": user, "item": item, "time": time_, "place": time_}).cast({"time": pl.Int64})
    data = prepare(Frame(events, kinds={"context": {"place": "categorical"}}), Filters(repeats="all"), GlobalTemporal())
    assert isinstance(data, Dataset)
    words = data.train.context.vocabularies["place"]
    for part in (data.train, data.valid, data.test):
        assert part.time is not None
        places = words[part.context.categorical["place"].numpy()]
        known = [str(t) if str(t) in set(words) else "" for t in part.time.tolist()]
        assert places.tolist() == known


@pytest.mark.parametrize("split", [PerUserTemporal(), LeaveOneOut(), ColdUser(0, 0.5), GlobalTemporal()])
def test_a_user_with_one_event_is_only_trained_on_and_counted(split: Split) -> None:
    events = {"user": ["one", *"aaaabbbbcccc"], "item": ["x", *"xyzwxyzwxyzw"], "time": [0, *range(1, 13)]}
    data = prepare(Frame(pl.DataFrame(events)), Filters(), split)
    assert isinstance(data, Dataset)
    alone = int(np.flatnonzero(data.users == "one")[0])
    assert alone in data.train.user.tolist()
    assert alone not in [*data.valid.user.tolist(), *data.test.user.tolist()]
    others = {*data.valid.user.tolist(), *data.test.user.tolist(), *(data.known.user.tolist() if data.known else [])}
    assert data.report["n_train_only"] == len(set(data.train.user.tolist()) - others) >= 1


@by_name
@pytest.mark.parametrize("column", ["user", "item"])
def test_one_user_or_one_item_ends_well(split: Split, column: str) -> None:
    ids = {"user": [f"u{n}" for n in range(20)], "item": [f"i{n}" for n in range(20)]}
    events = pl.DataFrame({**ids, column: ["only"] * 20, "time": range(20)})
    try:
        data = prepare(Frame(events), Filters(), split)
    except InputError as error:
        if not error.fix:
            raise
        return
    assert isinstance(data, Dataset)
    numbers = [data.report[name] for name in ("density", "gini", "head_share", "median_history")]
    assert np.isfinite(numbers).all()


def test_one_item_with_nearly_all_rows_does_not_hang() -> None:
    rng = np.random.default_rng(0)
    n = 200_000
    item = np.where(rng.random(n) < 0.99, 0, rng.integers(1, 5000, n)).astype(str)
    user = rng.integers(0, 150_000, n).astype(str)
    started = time.monotonic()
    log = Frame(pl.DataFrame({"user": user, "item": item, "time": rng.integers(0, 10**9, n)}))
    data = prepare(log, Filters(), GlobalTemporal())
    assert isinstance(data, Dataset)
    ranking_epoch(data.train, seed=0, epoch=0, batch_size=4096, negatives=4, queries=64)
    assert data.report["gini"] > 0.9
    assert time.monotonic() - started < 10


def test_a_user_who_has_everything_ends_the_sampler() -> None:
    user = torch.arange(50).repeat_interleave(100)
    item = torch.arange(100).repeat(50)
    data = Interactions(user, item, 50, 100)
    started = time.monotonic()
    epoch = ranking_epoch(data, seed=0, epoch=0, batch_size=512, negatives=8, queries=8)
    assert time.monotonic() - started < 1
    assert bool(((epoch.negative >= 0) & (epoch.negative < 100)).all())


def test_scorer_without_cold_users_is_the_model() -> None:
    rng = np.random.default_rng(0)
    events = pl.DataFrame({name: rng.integers(0, 9, 90).astype(str) for name in ("user", "item")})
    data = prepare(Frame(events), Filters(), RandomSplit())
    assert isinstance(data, Dataset)
    model = EASE(data.schema)
    model.fit(data.train)
    users = torch.tensor([2, 0])
    assert torch.equal(scorer(model, data)(users), model.scores(users))


def test_density_counts_pairs_once() -> None:
    events = pl.DataFrame({"user": list("aaabbc"), "item": list("xxyxyx"), "time": [1, 2, 3, 4, 5, 6]})
    data = prepare(Frame(events), Filters(repeats="all"), GlobalTemporal(0, 0.2))
    assert isinstance(data, Dataset)
    assert len(data.train) == 5
    assert data.report["density"] == 4 / (2 * 2)
