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
    ColdItem,
    ColdUser,
    GivenSplit,
    GlobalTemporal,
    KFold,
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
SPLITS = [
    GlobalTemporal(0.2, 0.2),
    PerUserTemporal(0.2, 0.2),
    LeaveOneOut(),
    RandomSplit(0.2, 0.2, seed=3),
    KFold(3, 2, 0.2, seed=1),
    ColdUser(0.3, 0.3, 0.5, seed=2),
    ColdItem(0.2, 0.3, seed=2),
    ColdItem(0.2, 0.2, seed=3, warm=0.2),
]
TRAIN, VALID, TEST, KNOWN = range(4)


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
    by_user = defaultdict(list)
    for row, part in split(PerUserTemporal(valid, test), rows).items():
        by_user[row[0]].append((row[2], part))
    for own in by_user.values():
        n_test = n_valid = 0
        if len(own) >= 3:
            n_test = min(max(int(len(own) * test + 0.5), 1), len(own) - (2 if valid else 1))
            n_valid = min(max(int(len(own) * valid + 0.5), 1 if valid else 0), len(own) - 1 - n_test)
        expected = [0] * (len(own) - n_valid - n_test) + [1] * n_valid + [2] * n_test
        assert [part for _, part in sorted(own)] == expected


@settings(max_examples=50, deadline=None)
@given(PAIRS)
def test_leave_one_out(rows: list[tuple[int, int, int]]) -> None:
    assume(len({time for *_, time in rows}) > 1)
    found = split(LeaveOneOut(), rows)
    for user in {row[0] for row in rows}:
        parts = [part for _, part in sorted((row[2], found[row]) for row in rows if row[0] == user)]
        n = len(parts)
        assert parts == ([0] * n if n < 3 else [0] * (n - 2) + [1, 2])


def test_leave_one_out_without_time_draws_and_says_so() -> None:
    events = pl.DataFrame({"user": [1] * 30 + [2] * 30, "item": [*range(30)] * 2})
    one, same, other = (LeaveOneOut(seed).assign(events) for seed in (0, 0, 1))
    assert "drawn at random (seed 0)" in one.note
    assert one.part.tolist() == same.part.tolist() != other.part.tolist()
    assert [one.part[:30].tolist().count(part) for part in range(3)] == [28, 1, 1]


@pytest.mark.parametrize("method", [LeaveOneOut, PerUserTemporal, ColdUser])
def test_events_of_one_time_are_drawn_and_counted(method: type[LeaveOneOut]) -> None:
    """Whoever gives the smaller id to the old and popular item must not get it into training."""
    tied = [(user, item, time) for user in range(200) for item, time in enumerate([1, 2, 3, 9, 9, 9])]
    free = [(user, item, item) for user in range(200, 300) for item in range(6)]
    found = method(seed=0).assign(frame(tied + free))
    rows = [(user, item, time, part) for (user, item, time), part in zip(tied + free, found.part, strict=True)]
    last = [sum(part == TEST for *_, time, part in rows[at::6] if time == 9) for at in (3, 4, 5)]
    assert sum(last) >= 15
    assert max(last) < 2 * min(last) + 10, "by their ids all would be the last item's"
    torn = {u for u, _, t, p in rows for v, _, s, q in rows[u * 6 : u * 6 + 6] if u == v and t == s and p != q}
    assert f"for {len(torn)} of 300 users a cut falls among events of one time" in found.note
    other = method(seed=1).assign(frame(tied + free))
    assert (other.part != found.part).any()


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
    assert "data/split=random, or name a column of times" in str(caught.value.fix)


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
    assert [method.leaks_time for method in (*SPLITS, GivenSplit())] == [False, *[True] * 7, None]
    assert [type(method) for method in SPLITS if method.holds_out_items] == [ColdItem]


@settings(max_examples=60, deadline=None)
@given(PAIRS, st.integers(2, 6), st.sampled_from([0.0, 0.2]), st.integers(0, 3))
def test_folds_cover_each_row_once(rows: list[tuple[int, int, int]], folds: int, valid: float, seed: int) -> None:
    parts = np.stack([KFold(folds, fold, valid, seed).assign(frame(rows)).part for fold in range(1, folds + 1)])
    assert ((parts == TEST).sum(axis=0) == 1).all()
    sizes = (parts == TEST).sum(axis=1)
    assert sizes.max() - sizes.min() <= 1
    assert ((parts == VALID).sum(axis=1) == round(len(rows) * valid)).all()


def test_folds_that_make_no_sense() -> None:
    with pytest.raises(InputError, match="no fold 4 of 3") as caught:
        KFold(3, 4)
    assert caught.value.fix == "-m data.split.fold=1,2,3"
    with pytest.raises(InputError, match="nothing to train on"):
        KFold(2, 1, valid=0.5)


@settings(max_examples=60, deadline=None)
@given(PAIRS, st.sampled_from([0.0, 0.3]), st.sampled_from([0.3, 0.6]), st.sampled_from([0.2, 0.5, 0.8]), st.booleans())
def test_cold_users(rows: list[tuple[int, int, int]], valid: float, test: float, known: float, timed: bool) -> None:
    assume(len({time for *_, time in rows}) > 1)
    events = frame(rows) if timed else frame(rows).drop("time")
    found = ColdUser(valid, test, known, seed=4).assign(events)
    assert ("the log has no time" in found.note) is not timed
    by_user = defaultdict(list)
    for row, part in zip(rows, found.part.tolist(), strict=True):
        by_user[row[0]].append((row[2], part != KNOWN, part))
    held = defaultdict(int)
    for own in by_user.values():
        parts = [part for *_, part in sorted(own)]
        if TRAIN in parts:
            assert set(parts) == {TRAIN}
            continue
        target = max(parts, key=lambda part: part != KNOWN)
        assert len(own) >= 2, "a user with one event is trained on"
        n_targets = min(max(int(len(own) * (1 - known) + 0.5), 1), len(own) - 1)
        expected = [KNOWN] * (len(own) - n_targets) + [target] * n_targets
        assert (parts if timed else sorted(parts, reverse=True)) == expected
        held[target] += 1
    eligible = sum(len(own) >= 2 for own in by_user.values())
    assert held[VALID] == min(round(eligible * valid), eligible - held[TEST])
    assert held[TEST] == round(eligible * test)


@settings(max_examples=40, deadline=None)
@given(PAIRS)
def test_cold_items(rows: list[tuple[int, int, int]]) -> None:
    found = split(ColdItem(0.2, 0.4, seed=1), rows)
    parts: dict[int, set[int]] = defaultdict(set)
    for row, part in found.items():
        parts[row[1]].add(part)
    assert all(len(own) == 1 for own in parts.values())
    assert sum(own == {TEST} for own in parts.values()) == round(len(parts) * 0.4)
    assert sum(own == {VALID} for own in parts.values()) == round(len(parts) * 0.2)


@pytest.mark.parametrize("method", [ColdUser(0.2, 0.2), ColdItem(0.2, 0.2)])
def test_seeds_draw_others(method: ColdUser | ColdItem) -> None:
    rows = [(user, item, user + item) for user in range(20) for item in range(20)]
    first, other = split(method, rows), split(type(method)(0.2, 0.2, seed=1), rows)
    assert first == split(type(method)(0.2, 0.2, seed=0), rows)
    assert first != other


@pytest.mark.parametrize("method", SPLITS, ids=lambda method: type(method).__name__)
def test_a_table_of_examples(method: Split) -> None:
    table = pl.DataFrame({"value": [1.0] * 9, "time": range(9), "place": list("abcdefghi")})
    if isinstance(method, GlobalTemporal | RandomSplit | KFold):
        assert sorted(set(method.assign(table).part.tolist())) == [TRAIN, VALID, TEST]
        return
    with pytest.raises(InputError, match=r"splits by (user|item), and the data have no") as caught:
        method.assign(table)
    assert "data/split=random" in str(caught.value.fix)


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_context_decides_between_rows_that_are_otherwise_alike(rng: random.Random) -> None:
    rows = [(1, 2, 3, [place]) for place in "abcdefgh"]
    shuffled = rng.sample(rows, len(rows))
    for method in (RandomSplit(0.2, 0.2), KFold(3)):
        found = []
        for order in (rows, shuffled):
            events = pl.DataFrame(order, schema=["user", "item", "time", "place"], orient="row")
            found.append(dict(zip(events["place"].list.first(), method.assign(events).part.tolist(), strict=True)))
        assert found[0] == found[1]


@settings(max_examples=60, deadline=None)
@given(PAIRS, st.sampled_from([0.0, 0.2]), st.sampled_from([0.1, 0.4]), st.integers(0, 3))
def test_warm_events_of_cold_items(rows: list[tuple[int, int, int]], valid: float, warm: float, seed: int) -> None:
    """The same items are held out; of the others' events some go to validation and test, and each keeps one."""
    pairs = list(dict.fromkeys((user, item) for user, item, _ in rows))
    rows = [(user, item, 0) for user, item in pairs]
    plain = split(ColdItem(valid, 0.3, seed), rows)
    parts = split(ColdItem(valid, 0.3, seed, warm), rows)
    cold = {row[1] for row, part in plain.items() if part != TRAIN}
    assert all(parts[row] == plain[row] for row in rows if row[1] in cold)
    trained = [row for row in rows if row[1] not in cold]
    kept = [row for row in trained if parts[row] == TRAIN]
    for side in (0, 1):
        assert {row[side] for row in kept} == {row[side] for row in trained}
    n_test, n_valid = (sum(parts[row] == part for row in trained) for part in (TEST, VALID))
    assert n_test <= round(len(trained) * warm)
    assert n_valid == (n_test if valid else 0)
    assert ColdItem().holds_out_items
    assert not ColdItem(warm=0.1).holds_out_items
