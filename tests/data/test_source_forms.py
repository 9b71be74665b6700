"""Dates and numbers of other forms, some kinds of events, odd times and blanks, compared with plain Python."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recdistill.data.sources.base import RawLog
from recdistill.data.sources.given import Given
from recdistill.data.sources.table import Table
from recdistill.errors import InputError


def read(folder: Path, text: str, name: str = "log.csv", **arguments: Any) -> RawLog:
    (folder / name).write_text(text)
    return Table(str(folder / name), **arguments).read()


def refused(folder: Path, text: str, **arguments: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        read(folder, text, **arguments)
    assert caught.value.where
    return caught.value


def log_of(cells: list[str], column: str) -> str:
    return f"user;item;{column}\n" + "".join(f"u{at};i;{cell}\n" for at, cell in enumerate(cells))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.sampled_from(["%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M %p", "%d-%m-%y %H:%M", "%Y%m%d%H%M", "%d %b %Y %H:%M"]),
    times=st.lists(st.integers(3 * 10**6, 6 * 10**7).map(lambda minutes: minutes * 60), min_size=1, max_size=6),
)
def test_dates_of_a_given_form(tmp_path: Path, form: str, times: list[int]) -> None:
    times = [time for time in times if 1970 <= datetime.fromtimestamp(time, UTC).year < 2068] or [0]
    cells = [datetime.fromtimestamp(time, UTC).strftime(form) for time in times]
    log = read(tmp_path, log_of(cells, "ts"), time="ts", time_format=form)
    assert log.events["time"].to_list() == times
    assert log.time_unit == "s"


@pytest.mark.parametrize(
    ("cells", "fix"),
    [
        (["31.12.2024 10:05", "01.02.2025 23:59"], "'data.time_format=\"%d.%m.%Y %H:%M\"'"),
        (["31/12/2024", "01/02/2025"], "data.time_format=%d/%m/%Y"),
        (["01/02/2024"], "data.time_format=%d/%m/%Y, or data.time_format=%m/%d/%Y"),
        (["12/31/24", "01/02/25", "2024-01-01"], "data.time_format=%m/%d/%y"),
        (["spring", "summer"], "'data.time_format=\"%d.%m.%Y %H:%M\"', or whatever their form is"),
    ],
)
def test_another_form_is_offered_and_no_drop(tmp_path: Path, cells: list[str], fix: str) -> None:
    assert refused(tmp_path, log_of(cells, "ts"), time="ts").fix == fix


def test_a_few_bad_dates_can_be_left_out(tmp_path: Path) -> None:
    cells = ["31.12.2024", "01.01.2025", "soon"]
    error = refused(tmp_path, log_of(cells, "ts"), time="ts", time_format="%d.%m.%Y")
    assert "on_bad_rows=drop" in (error.fix or "")
    log = read(tmp_path, log_of(cells, "ts"), time="ts", time_format="%d.%m.%Y", on_bad_rows="drop")
    assert log.dropped == {"a time that is not of the form %d.%m.%Y": 1}


def test_a_form_that_is_none(tmp_path: Path) -> None:
    assert refused(tmp_path, log_of(["1"], "ts"), time="ts", time_format="%M").where == "data.time_format"


@pytest.mark.parametrize("column", ["user", "ts", "value"])
def test_no_drop_where_most_rows_are_bad(tmp_path: Path, column: str) -> None:
    text = (
        "user,item,value,ts\n"
        + "u,i,1,1\n"
        + {"user": ",i,1,1\n", "ts": "u,i,1,x1\n", "value": "u,i,x,1\n"}[column] * 2
    )
    assert "drop" not in (refused(tmp_path, text, value="value", time="ts").fix or "")


@given(values=st.lists(st.decimals(-(10**6), 10**6, places=2), min_size=1, max_size=6))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_decimal_commas(tmp_path: Path, values: list[Any]) -> None:
    features = {"context": {"columns": {"price": "numeric"}}}
    text = log_of(
        [f"{str(value).replace('.', ',')};{str(-value).replace('.', ',')}" for value in values], "value;price"
    )
    log = read(tmp_path, text, value="value", decimal="comma", features=features)
    assert log.events["value"].to_list() == [float(value) for value in values]
    assert log.events["price"].to_list() == [float(-value) for value in values]


def test_the_other_decimal_sign_is_offered(tmp_path: Path) -> None:
    assert refused(tmp_path, log_of(["22,13", "1,5"], "v"), value="v").fix == "data.decimal=comma"
    # One that parts thousands must not become 1.234.
    assert refused(tmp_path, log_of(["1.234", "2.5"], "v"), value="v", decimal="comma").fix == "data.decimal=point"
    features = {"context": {"columns": {"v": "numeric"}}}
    assert "data.decimal" in (refused(tmp_path, log_of(["22,13"], "v"), features=features).fix or "")


def test_decimal_commas_of_features_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item;price\na;1,5\nb;\n")
    item = {"file": "items.csv", "decimal": "comma", "columns": {"price": "numeric"}}
    log = read(tmp_path, "user,item\nu,a\nu,b\n", features={"item": item})
    assert log.items is not None
    assert dict(log.items.select("item", "price").rows()) == {"a": 1.5, "b": None}


EVENTS = ["view", "buy", "cart", "view", "", "buy"]


@pytest.mark.parametrize("kept", ["buy", ["buy", "cart"], ["view"]])
def test_some_kinds_of_events(tmp_path: Path, kept: str | list[str]) -> None:
    texts = [kept] if isinstance(kept, str) else kept
    log = read(tmp_path, log_of(EVENTS, "event"), only={"event": kept})
    assert log.events["user"].to_list() == [f"u{at}" for at, event in enumerate(EVENTS) if event in texts]
    assert log.dropped == {f"event is none of {', '.join(texts)}": sum(event not in texts for event in EVENTS)}
    assert log.events.columns == ["user", "item"]


def test_kinds_that_are_numbers_or_flags(tmp_path: Path) -> None:
    text = '{"user": "a", "item": 1, "type": 2, "own": true}\n{"user": "b", "item": 1, "type": 3, "own": false}\n'
    assert read(tmp_path, text, "log.jsonl", only={"type": 2}).events["user"].to_list() == ["a"]
    assert read(tmp_path, text, "log.jsonl", only={"own": False, "type": [2, 3]}).events["user"].to_list() == ["b"]


def test_rows_of_other_kinds_may_be_bad(tmp_path: Path) -> None:
    text = "user,item,event,ts\nu,,search,never\nu,i,buy,5\n"
    assert read(tmp_path, text, time="ts", only={"event": "buy"}).events.rows() == [("u", "i", 5)]


def test_no_event_of_that_kind(tmp_path: Path) -> None:
    cells = ["bought"] * 3 + [f"k{at:02}" for at in range(20)]
    error = refused(tmp_path, log_of(cells, "event"), only={"event": "bougth"})
    assert error.fix == "'data.only={event: bought}'"
    assert "there is 'bought': 3, " in (error.why or "")
    assert (error.why or "").endswith("and 11 more")
    assert (
        refused(tmp_path, log_of(cells, "event"), only={"evnt": "x"}).fix == "'event' in place of 'evnt' in data.only"
    )
    log = read(tmp_path, log_of(cells, "event"), only={"event": ["bought", "sold"]})
    assert log.warnings == ["log.csv: column 'event' never is 'sold'"]


def test_a_split_of_some_events(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.csv").write_text("user;item;e;v;t\nu;i;buy;1,5;31.12.2024\nu;j;view;x;x\n")
    source = Given(str(tmp_path), value="v", time="t", time_format="%d.%m.%Y", decimal="comma", only={"e": "buy"})
    log = source.read()
    assert log.events.rows() == [("u", "i", 1.5, 1735603200, part) for part in range(3)]
    assert log.dropped == {"e is none of buy": 3}
    assert source.fingerprint() != Given(str(tmp_path), only={"e": "view"}).fingerprint()


ODD = [0, -1, -441763200, 4828464000, 2**63 - 1]


def test_odd_times_are_told_and_stay(tmp_path: Path) -> None:
    good = [1_400_000_000 + at for at in range(7)]
    log = read(tmp_path, log_of([str(time) for time in [*good, *ODD]], "ts"), time="ts")
    assert log.events["time"].to_list() == [*good, *ODD]
    (warning,) = log.warnings
    assert warning.startswith("5 of 12 times are before 1973 or after 2099 (taken as s), the first, 0, at ")
    assert f"{tmp_path / 'log.csv'}:9;" in warning
    assert "data.filters.after=1973-01-01 data.filters.before=2100-01-01" in warning


@pytest.mark.parametrize("scale", [1, 10**3, 10**6, 10**9])
def test_the_years_of_odd_times(tmp_path: Path, scale: int) -> None:
    seconds = [int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1973, 1990, 2000, 2010, 2020, 2099, 2100)]
    times = [str(second * scale) for second in seconds] + [str((seconds[0] - 1) * scale)]
    (warning,) = read(tmp_path, log_of(times, "ts"), time="ts").warnings
    assert warning.startswith("2 of 8 times ")


def test_steps_are_no_clock_times(tmp_path: Path) -> None:
    assert read(tmp_path, log_of(["0", "-1", "5", "6"], "ts"), time="ts").warnings == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(st.text("ab ", min_size=1, max_size=4).filter(str.strip), min_size=1, max_size=9))
def test_ids_that_differ_in_blanks_are_told(tmp_path: Path, ids: list[str]) -> None:
    log = read(tmp_path, "user,item\n" + "".join(f"u,{found}\n" for found in ids))
    assert log.events["item"].to_list() == ids
    groups = Counter(found.strip() for found in set(ids))
    alike = sum(count for count in groups.values() if count > 1)
    assert [warning.split(" differ")[0] for warning in log.warnings] == [f"log.csv: {alike} item ids"] * bool(alike)
