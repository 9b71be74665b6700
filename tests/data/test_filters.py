"""Filters against plain loops."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.columns import codes
from recdistill.data.filters import Filters, instant, k_core
from recdistill.data.repeats import one_per_pair, without_duplicates
from recdistill.errors import InputError

ROWS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 4)), max_size=60)


def frame(rows: list[tuple[int, int, int]]) -> pl.DataFrame:
    schema = {"user": pl.Int64, "item": pl.Int64, "time": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("user", "item").cast(pl.String))


def slow_k_core(pairs: list[tuple[str, str]], k: int) -> list[tuple[str, str]]:
    while True:
        users, items = Counter(u for u, _ in set(pairs)), Counter(i for _, i in set(pairs))
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
    assert [step["filter"] for step in steps] == ["min_value=2", "duplicates=drop", "repeats=first", "k_core=2"]
    assert [step["rows"] for step in steps] == [[12, 10], [10, 5], [5, 5], [5, 4]]
    assert [step["users"] for step in steps] == [[4, 3], [3, 3], [3, 3], [3, 2]]
    assert [step["items"] for step in steps] == [[3, 3], [3, 3], [3, 3], [3, 2]]


def test_nothing_left_names_the_filter() -> None:
    events = pl.DataFrame({"user": ["a", "b"], "item": ["x", "y"]})
    with pytest.raises(InputError, match="k_core=5: 2 rows -> 0") as caught:
        Filters(k_core=5).apply(events)
    assert caught.value.where == "data.filters"
    with pytest.raises(InputError, match=r"no value column[\s\S]*data.filters.min_value=null"):
        Filters(min_value=4).apply(events)


def test_codes_follow_sorted_ids() -> None:
    assert codes(pl.Series(["10", "2", "01", "2"])).tolist() == [1, 2, 0, 2]


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_duplicates_are_rows_alike_in_all_columns(rows: list[tuple[int, int, int]]) -> None:
    kept = without_duplicates(frame(rows), "drop").rows()
    assert kept == list(dict.fromkeys((str(user), str(item), time) for user, item, time in rows))
    if len(kept) == len(rows):
        assert without_duplicates(frame(rows), "error").height == len(rows)
    else:
        with pytest.raises(InputError, match=f"{len(rows) - len(kept)} of {len(rows)} rows repeat") as caught:
            without_duplicates(frame(rows), "error")
        assert caught.value.where == "data.filters.duplicates"


def test_lists_and_vectors_tell_rows_apart() -> None:
    schema = {"user": pl.String, "item": pl.String, "tags": pl.List(pl.String), "seen": pl.Array(pl.Float32, 2)}
    rows = [("a", "x", ["p"], [1, 2]), ("a", "x", ["p"], [1, 2]), ("a", "x", None, [1, 2]), ("a", "x", ["p"], [1, 3])]
    events = pl.DataFrame(rows, schema=schema, orient="row")
    assert without_duplicates(events, "drop").height == 3
    assert one_per_pair(events, "first").height == 1


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_repeats_may_stay_or_be_an_error(rows: list[tuple[int, int, int]]) -> None:
    events = frame(rows)
    assert one_per_pair(events, "all").equals(events)
    pairs = Counter(row[:2] for row in rows)
    if len(pairs) == len(rows):
        assert one_per_pair(events, "error").equals(events)
    else:
        with pytest.raises(InputError, match=f"{len(rows) - len(pairs)} of {len(rows)} events repeat") as caught:
            one_per_pair(events, "error")
        named = {f"the first: user '{user}', item '{item}'" for (user, item), count in pairs.items() if count > 1}
        assert caught.value.why in named


def test_equal_times_are_decided_by_content_not_by_row_order() -> None:
    events = pl.DataFrame({"user": ["a"] * 3, "item": ["x"] * 3, "time": [1, 1, 1], "place": ["b", "c", "a"]})
    for keep, place in (("first", "a"), ("last", "c")):
        for order in ([0, 1, 2], [2, 0, 1]):
            assert one_per_pair(events[order], keep)["place"].to_list() == [place]  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(ROWS, st.integers(0, 4), st.integers(0, 5))
def test_time_window(rows: list[tuple[int, int, int]], after: int, before: int) -> None:
    filters = Filters(after=after, before=before, repeats="all")
    expected = [row for row in dict.fromkeys(rows) if after <= row[2] < before]
    if not expected:
        with pytest.raises(InputError, match="leave nothing"):
            filters.apply(frame(rows))
        return
    kept, steps = filters.apply(frame(rows))
    assert kept["time"].to_list() == [time for *_, time in expected]
    assert [step["filter"] for step in steps[:2]] == [f"after={after}", f"before={before}"]
    assert steps[0]["rows"] == [len(rows), sum(time >= after for *_, time in rows)]


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("2001-09-09", "s", 1_000_000_000 - 6400),
        ("2001-09-09T01:46:40", "ms", 10**12),
        ("2001-09-09T01:46:40+00:00", "us", 10**15),
        ("2001-09-09T03:46:40+02:00", "ns", 10**18),
        ("2001-09-09T01:46:40.000001", "s", 10**9 + 1),
        ("1969-12-31T23:59:59.5", "s", 0),
    ],
)
def test_dates_are_utc_in_the_unit_of_the_log(text: str, unit: str, expected: int) -> None:
    assert instant(text, unit, "after") == expected


def test_windows_that_make_no_sense() -> None:
    with pytest.raises(InputError, match="'soon' is neither") as caught:
        Filters(before="soon")
    assert caught.value.where == "data.filters.before"
    with pytest.raises(InputError, match="2020 is a time shortly after 1970") as caught:
        Filters(after=2020).apply(frame([(1, 2, 3)]))
    assert caught.value.fix == "data.filters.after=2020-01-01 for the year"
    assert Filters(before=2020).apply(frame([(1, 2, 3)]), "step")[0].height == 1
    with pytest.raises(InputError, match="no clock times"):
        Filters(after="2020-01-01").apply(frame([(1, 2, 3)]), "step")
    with pytest.raises(InputError, match="a time window needs times"):
        Filters(after=3).apply(pl.DataFrame({"user": ["a"], "item": ["x"]}))


def test_a_table_of_examples_has_neither_users_nor_items() -> None:
    table = pl.DataFrame({"value": [1.0, 0.0, 1.0], "time": [1, 2, 1], "place": ["p", "q", "p"]})
    kept, steps = Filters(before=2).apply(table)
    assert kept.height == 2
    assert steps == [{"filter": "before=2", "rows": [3, 2]}]
    with pytest.raises(InputError, match="a k-core needs users and items"):
        Filters(k_core=2).apply(table)
    with pytest.raises(InputError, match="1 of 3 rows repeat"):
        Filters(duplicates="error").apply(table)
