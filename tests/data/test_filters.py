"""Filters against plain loops."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.filters import Filters, codes, k_core, one_per_pair
from recdistill.errors import InputError

ROWS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 4)), max_size=60)


def frame(rows: list[tuple[int, int, int]]) -> pl.DataFrame:
    schema = {"user": pl.Int64, "item": pl.Int64, "time": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("user", "item").cast(pl.String))


def slow_k_core(pairs: list[tuple[str, str]], k: int) -> list[tuple[str, str]]:
    while True:
        users, items = Counter(u for u, _ in pairs), Counter(i for _, i in pairs)
        kept = [(u, i) for u, i in pairs if users[u] >= k and items[i] >= k]
        if kept == pairs:
            return kept
        pairs = kept


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(2, 4))
def test_k_core_is_the_fixed_point(rows: list[tuple[int, int, int]], k: int) -> None:
    events = frame(rows)
    assert k_core(events, k).select("user", "item").rows() == slow_k_core(events.select("user", "item").rows(), k)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.sampled_from(["first", "last"]))
def test_one_event_a_pair(rows: list[tuple[int, int, int]], keep: str) -> None:
    expected: dict[tuple[str, str], int] = {}
    for user, item, time in rows:
        best = expected.get((str(user), str(item)), time)
        expected[str(user), str(item)] = min(best, time) if keep == "first" else max(best, time)
    kept = one_per_pair(frame(rows), keep)  # type: ignore[arg-type]
    assert {(user, item): time for user, item, time in kept.rows()} == expected
    assert kept.height == len(expected)


def test_without_time_the_order_of_rows_decides() -> None:
    events = pl.DataFrame({"user": ["a", "a"], "item": ["x", "x"], "value": [2.0, 1.0]})
    assert one_per_pair(events, "first")["value"].to_list() == [2.0]
    assert one_per_pair(events, "last")["value"].to_list() == [1.0]


def test_given_parts_are_kept_apart() -> None:
    events = pl.DataFrame({"user": ["a"] * 3, "item": ["x"] * 3, "part": [0, 0, 2]})
    assert one_per_pair(events, "first")["part"].to_list() == [0, 2]


def test_each_step_is_accounted_for() -> None:
    events = pl.DataFrame(
        {"user": list("aabbcd"), "item": list("xyxyxz"), "value": [5.0, 5, 5, 5, 1, 5], "time": range(6)}
    )
    kept, steps = Filters(k_core=2, min_value=2).apply(pl.concat([events, events]))
    assert sorted(kept.select("user", "item").rows()) == [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]
    assert [step["filter"] for step in steps] == ["min_value=2", "repeats=first", "k_core=2"]
    assert [step["rows"] for step in steps] == [[12, 10], [10, 5], [5, 4]]
    assert [step["users"] for step in steps] == [[4, 3], [3, 3], [3, 2]]
    assert [step["items"] for step in steps] == [[3, 3], [3, 3], [3, 2]]


def test_nothing_left_names_the_filter() -> None:
    events = pl.DataFrame({"user": ["a", "b"], "item": ["x", "y"]})
    with pytest.raises(InputError, match="k_core=5: 2 rows -> 0") as caught:
        Filters(k_core=5).apply(events)
    assert caught.value.where == "data.filters"
    with pytest.raises(InputError, match=r"no value column[\s\S]*data.filters.min_value=null"):
        Filters(min_value=4).apply(events)


def test_codes_follow_sorted_ids() -> None:
    assert codes(pl.Series(["10", "2", "01", "2"])).tolist() == [1, 2, 0, 2]
