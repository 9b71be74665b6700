"""Timelines and histories against sorted Python lists; windows against what they are for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.interactions import Interactions
from recdistill.errors import InputError
from recdistill.tasks.timeline import Timeline
from recdistill.tasks.windows import Sequences, windows


def part(events: list[tuple[int, int, int]], n_users: int = 5, n_items: int = 6, **more: Any) -> Interactions:
    """Interactions of (user, item, time)."""
    user, item, time = (torch.tensor([e[i] for e in events], dtype=torch.int64) for i in range(3))
    return Interactions(user, item, n_users, n_items, time=time, **more)


def of_user(timeline: Timeline, user: int) -> list[int]:
    return timeline.item[timeline.indptr[user] : timeline.indptr[user + 1]].tolist()


EVENT = st.tuples(st.integers(0, 4), st.integers(0, 7), st.integers(-3, 3))
LATER = st.tuples(st.integers(0, 6), st.integers(0, 7), st.integers(-3, 3))


@settings(deadline=None, max_examples=60)
@given(st.lists(EVENT, max_size=30), st.lists(LATER, max_size=15))
def test_events_are_in_the_order_of_time_and_of_the_parts(first: list[Any], second: list[Any]) -> None:
    if len({time for _, _, time in first + second}) == 1:
        first = [*first, (0, 0, 9)]
    timeline = Timeline.of(part(first), part(second, n_cold_users=2))
    assert len(timeline.indptr) == 5 + 2 + 1
    for user in range(7):
        groups: dict[tuple[int, int], Counter[int]] = {}
        for number, events in enumerate((first, second)):
            for owner, item, time in events:
                if owner == user and item < 6:
                    groups.setdefault((time, number), Counter())[item] += 1
        left = of_user(timeline, user)
        for key in sorted(groups):  # of each moment and part the same items, in any order
            size = groups[key].total()
            assert Counter(left[:size]) == groups[key]
            left = left[size:]
        assert not left


@settings(deadline=None, max_examples=60)
@given(st.lists(EVENT, min_size=2, max_size=30), st.integers(1, 6))
def test_histories_are_the_last_items(events: list[Any], length: int) -> None:
    timeline = Timeline.of(part([*events, (0, 0, 9), (0, 0, -9)]))
    lists = [of_user(timeline, user) for user in range(5)]
    whole = timeline.last(torch.arange(5), length).tolist()
    width = max(1, min(length, max(map(len, lists))))
    for row, items in zip(whole, lists, strict=True):
        assert row == items[-length:] + [6] * (width - len(items[-length:]))
    rows = torch.arange(len(timeline))
    beginnings = [items[: i + 1] for items in lists for i in range(len(items))]
    assert timeline.users(rows).tolist() == [user for user in range(5) for _ in lists[user]]
    for row, items in zip(timeline.upto(rows, length).tolist(), beginnings, strict=True):
        assert [item for item in row if item < 6] == items[-length:]
        assert row == sorted(row, key=lambda item: item == 6)  # padding stands behind
    assert timeline.upto(rows[:0], length).shape[0] == 0


def test_equal_times_are_in_no_order_of_ids_and_always_in_the_same() -> None:
    n = 2000
    events = part([(0, item, 0) for item in range(n)] + [(1, 0, 1)], n_users=2, n_items=n)
    first, second = Timeline.of(events), Timeline.of(events)
    assert torch.equal(first.item, second.item)
    drawn = first.item[:n].double()
    assert sorted(drawn.tolist()) == list(range(n))
    assert abs(torch.corrcoef(torch.stack([drawn, torch.arange(n).double()]))[0, 1]) < 0.1
    # What was learned of the training part is what a history is read from later.
    later = Timeline.of(events, part([(0, 5, 2)], n_users=2, n_items=n))
    assert of_user(later, 0)[:-1] == of_user(first, 0)


def test_without_an_order_there_is_no_timeline() -> None:
    bare = Interactions(torch.tensor([0, 0]), torch.tensor([0, 1]), 1, 2)
    with pytest.raises(InputError, match="needs times") as error:
        Timeline.of(bare)
    assert error.value.fix is not None
    assert "task=ranking" in error.value.fix
    with pytest.raises(InputError, match="all times are the same"):
        Timeline.of(part([(0, 0, 4), (0, 1, 4)]))


def test_a_user_without_events_has_padding_alone() -> None:
    timeline = Timeline.of(part([(1, 2, 0), (1, 3, 1)]))
    assert timeline.last(torch.tensor([0, 4]), 3).tolist() == [[6], [6]]
    nothing = Timeline(torch.zeros(6, dtype=torch.int64), torch.empty(0, dtype=torch.int64), 6)
    assert nothing.last(torch.tensor([0, 4]), 3).tolist() == [[6], [6]]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 25), min_size=1, max_size=8), st.integers(1, 7), st.data())
def test_windows_reach_every_event_but_the_first(sizes: list[int], max_length: int, data: Any) -> None:
    stride = data.draw(st.integers(1, max_length))
    indptr = torch.tensor([0, *sizes]).cumsum(0)
    timeline = Timeline(indptr, torch.zeros(int(indptr[-1]), dtype=torch.int64), 1)
    first, count = windows(timeline, max_length, stride)
    found: dict[int, list[tuple[int, int]]] = {}
    for row, places in zip(first.tolist(), count.tolist(), strict=True):
        user = int(timeline.users(torch.tensor([row])))
        found.setdefault(user, []).append((row - int(indptr[user]), places))
    for user, size in enumerate(sizes):
        mine = found.get(user, [])
        targets = [start + i + 1 for start, places in mine for i in range(places)]
        assert set(targets) == set(range(1, size))
        assert all(1 <= places <= max_length for _, places in mine)
        assert len(mine) == (
            0 if size < 2 else 1 + max(0, -(-(size - 1 - max_length) // stride))
        )  # no more than needed
        if len(mine) > 1:
            assert all(places == max_length for _, places in mine)
            assert mine[-1][0] + max_length == size - 1
            assert [start for start, _ in mine[:-1]] == [i * stride for i in range(len(mine) - 1)]


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(InputError, match="no user has two events"):
        Sequences.of(part([(0, 0, 0), (1, 1, 1)]), torch.device("cpu"), 5)
