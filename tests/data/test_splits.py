"""Splits against plain loops, and what each promises."""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from recdistill.data.splits import (
    GivenSplit,
    GlobalTemporal,
    LeaveOneOut,
    PerUserTemporal,
    RandomSplit,
    Split,
)
from recdistill.errors import InputError

PAIRS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 30)),
    min_size=4, max_size=60, unique_by=lambda row: row[:2],
)  # fmt: skip
SPLITS = [GlobalTemporal(0.2, 0.2), PerUserTemporal(0.2, 0.2), LeaveOneOut(), RandomSplit(0.2, 0.2, seed=3)]


def frame(rows: list[tuple[int, int, int]]) -> pl.DataFrame:
    schema = {"user": pl.Int64, "item": pl.Int64, "time": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def split(method: Split, rows: list[tuple[int, int, int]]) -> dict[tuple[int, int, int], int]:
    return dict(zip(rows, method.assign(frame(rows)).part.tolist(), strict=True))


@settings(max_examples=50, deadline=None)
@given(PAIRS, st.randoms(use_true_random=False), st.sampled_from(SPLITS))
def test_the_order_of_rows_has_no_say(rows: list[tuple[int, int, int]], rng: random.Random, method: Split) -> None:
    assume(len({time for *_, time in rows}) > 2)
    shuffled = rows[:]
    rng.shuffle(shuffled)
    assert split(method, rows) == split(method, shuffled)


@settings(max_examples=80, deadline=None)
@given(PAIRS, st.sampled_from([0.0, 0.1, 0.3]), st.sampled_from([0.1, 0.4]))
def test_global_cuts(rows: list[tuple[int, int, int]], valid: float, test: float) -> None:
    distinct = sorted({time for *_, time in rows})
    assume(len(distinct) > 2)
    found = GlobalTemporal(valid, test).assign(frame(rows))
    times = [[time for (*_, time), part in zip(rows, found.part, strict=True) if part == p] for p in range(3)]
    assert times[0]
    assert times[2]
    assert max(times[0]) < min(times[1] or times[2])
    assert bool(times[1]) == (valid > 0)
    if times[1]:
        assert max(times[1]) < min(times[2])
        assert found.cuts["valid"] == min(times[1])
    assert found.cuts["test"] == min(times[2])
    # No other cut comes nearer to the share of the test.
    wanted = len(rows) * test
    lowest = 2 if valid else 1
    best = min(abs(sum(time >= cut for *_, time in rows) - wanted) for cut in distinct[lowest:])
    assert abs(len(times[2]) - wanted) == pytest.approx(best)


@settings(max_examples=80, deadline=None)
@given(PAIRS, st.sampled_from([0.0, 0.1, 0.45]), st.sampled_from([0.1, 0.45]))
def test_per_user_shares(rows: list[tuple[int, int, int]], valid: float, test: float) -> None:
    assume(len({time for *_, time in rows}) > 1)
    expected: dict[tuple[int, int, int], int] = {}
    by_user = defaultdict(list)
    for row in rows:
        by_user[row[0]].append(row)
    for own in by_user.values():
        own.sort(key=lambda row: (row[2], row[1]))
        n_test = n_valid = 0
        if len(own) >= 3:
            n_test = min(max(int(len(own) * test + 0.5), 1), len(own) - (2 if valid else 1))
            n_valid = min(max(int(len(own) * valid + 0.5), 1 if valid else 0), len(own) - 1 - n_test)
        for place, row in enumerate(reversed(own)):
            expected[row] = 2 if place < n_test else 1 if place < n_test + n_valid else 0
    assert split(PerUserTemporal(valid, test), rows) == expected


@settings(max_examples=50, deadline=None)
@given(PAIRS)
def test_leave_one_out(rows: list[tuple[int, int, int]]) -> None:
    assume(len({time for *_, time in rows}) > 1)
    found = split(LeaveOneOut(), rows)
    for user in {row[0] for row in rows}:
        own = sorted((row for row in rows if row[0] == user), key=lambda row: (row[2], row[1]))
        parts = [found[row] for row in own]
        assert parts == ([0] * len(own) if len(own) < 3 else [0] * (len(own) - 2) + [1, 2])


def test_leave_one_out_without_time_draws_and_says_so() -> None:
    events = pl.DataFrame({"user": [1] * 30 + [2] * 30, "item": [*range(30)] * 2})
    one, same, other = (LeaveOneOut(seed).assign(events) for seed in (0, 0, 1))
    assert "drawn at random (seed 0)" in one.note
    assert one.part.tolist() == same.part.tolist() != other.part.tolist()
    assert [one.part[:30].tolist().count(part) for part in range(3)] == [28, 1, 1]


def test_random_shares_and_seeds() -> None:
    rows = [(user, item, 0) for user in range(50) for item in range(20)]
    parts = [RandomSplit(0.1, 0.2, seed).assign(frame(rows)).part for seed in (0, 0, 1)]
    assert np.bincount(parts[0]).tolist() == [700, 100, 200]
    assert (parts[0] == parts[1]).all()
    assert (parts[0] != parts[2]).any()


def test_the_global_generators_are_left_alone() -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    for method in SPLITS:
        method.assign(frame([(u, i, u + i) for u in range(4) for i in range(5)]))
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index, union-attr]


@pytest.mark.parametrize("method", [GlobalTemporal(), PerUserTemporal(), LeaveOneOut()])
def test_all_times_equal(method: Split) -> None:
    with pytest.raises(InputError, match="times that differ") as caught:
        method.assign(frame([(1, item, 7) for item in range(9)]))
    assert caught.value.where == "data.split"
    assert caught.value.why == "all 9 are 7"


@pytest.mark.parametrize("method", [GlobalTemporal(), PerUserTemporal()])
def test_no_times(method: Split) -> None:
    with pytest.raises(InputError, match="no time column") as caught:
        method.assign(pl.DataFrame({"user": [1], "item": [2]}))
    assert "data.time=COLUMN, or data/split=random" in str(caught.value.fix)


def test_too_few_times_and_wrong_shares() -> None:
    with pytest.raises(InputError, match="2 distinct times can't be cut into 3 parts"):
        GlobalTemporal().assign(frame([(1, item, item % 2) for item in range(9)]))
    with pytest.raises(InputError, match=r"valid 0.5 \+ test 0.5 is 1 or more"):
        RandomSplit(0.5, 0.5)


def test_given() -> None:
    events = pl.DataFrame({"user": [1, 1], "item": [2, 3], "part": [0, 2]})
    assert GivenSplit().assign(events).part.tolist() == [0, 2]
    with pytest.raises(InputError, match="brings no split"):
        GivenSplit().assign(events.drop("part"))


def test_leak_labels() -> None:
    assert [method.leaks_time for method in (*SPLITS, GivenSplit())] == [False, True, True, True, None]
