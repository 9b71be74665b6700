"""Cells and rows of ids, against loops over the lines; and the place of what is wrong in them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.sources.counts import graph_facts, not_listed
from recdistill.data.sources.id_rows import read_counted_rows, read_id_rows, unroll
from recdistill.data.sources.plain import Cells, file_in, read_lines
from recdistill.data.statistics import rows_by_part
from recdistill.errors import InputError

EVENTS = Cells("log", "::", ("user", "item", "value", "time"))
TEXT = st.text(st.characters(exclude_characters="\n\r:\x1f", exclude_categories=["Cs"]), max_size=6)


def written(folder: Path, text: str | bytes, name: str = "log") -> Path:
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=8))
def test_cells_are_those_of_a_loop(rows: list[tuple[str, str, str]]) -> None:
    text = "\n".join("::".join(("x", *row)) for row in rows)
    with TemporaryDirectory() as folder:
        found = Cells("log", "::", ("a", "b", "c", "d")).read(written(Path(folder), text))
    assert found.rows() == [tuple(line.split("::")) for line in text.split("\n")]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 10**20), min_size=1, max_size=5), min_size=1, max_size=8), st.booleans())
def test_rows_of_ids_are_those_of_a_loop(rows: list[list[int]], counted: bool) -> None:
    lines = [([len(row)] if counted else []) + row for row in rows]
    with TemporaryDirectory() as name:
        folder = written(Path(name), "\n".join(" ".join(map(str, line)) for line in lines))
        found = (read_counted_rows if counted else read_id_rows)(folder / "log")
    assert found.to_list() == [[str(number) for number in row] for row in rows]
    row, position, item = unroll(found.list.slice(1))
    expected = [(at, place, str(number)) for at, ids in enumerate(rows) for place, number in enumerate(ids[1:])]
    assert list(zip(row.tolist(), position.tolist(), item.to_list(), strict=True)) == expected


def test_events_have_the_dtypes_of_a_log(tmp_path: Path) -> None:
    events = EVENTS.read_events(written(tmp_path, "01::NA::4.5::978300760\r\n1::7::-3::-5\r\n\n"))
    assert events.schema == {"user": pl.String, "item": pl.String, "value": pl.Float64, "time": pl.Int64}
    assert events.rows() == [("01", "NA", 4.5, 978300760), ("1", "7", -3.0, -5)]


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("1::2::3::4\n1::2::3\n", "log:2", "a row of 4 cells is needed, and this one has 3"),
        ("1::2::3::4\n\n1::2::3::4\n", "log:2", "this one has 1"),
        ("1::2::3::4\n::2::3::4\n", "log:2:user", "an id is missing"),
        ("1:: ::3::4\n", "log:1:item", "an id is missing"),
        ("1::2::good::4\n1::2::bad::4\n", "log:1:value", "no finite number: 'good' (and 1 more)"),
        ("1::2::inf::4\n", "log:1:value", "no finite number"),
        ("1::2::::4\n", "log:1:value", "no finite number"),
        ("1::2::3::4.5\n", "log:1:time", "no integer: '4.5'"),
        ("\n \n", "log", "blank lines only"),
        ("", "log", "is empty"),
    ],
)
def test_what_is_wrong_with_cells_has_a_place(tmp_path: Path, text: str, where: str, what: str) -> None:
    with pytest.raises(InputError) as caught:
        EVENTS.read_events(written(tmp_path, text))
    assert what in caught.value.what
    assert caught.value.where == f"{tmp_path}/{where}"
    assert caught.value.fix


def test_a_header_is_checked_and_counted(tmp_path: Path) -> None:
    cells = Cells("log", "\t", ("user", "item"), ("userID", "artistID"))
    assert cells.read(written(tmp_path, "userID\tartistID\n1\t2\n")).rows() == [("1", "2")]
    with pytest.raises(InputError, match="another header") as caught:
        cells.read(written(tmp_path, "user\tartist\n1\t2\n"))
    assert caught.value.where == f"{tmp_path}/log:1"
    with pytest.raises(InputError) as caught:
        cells.read_events(written(tmp_path, "userID\tartistID\n1\t2\n\t2\n"))
    assert caught.value.where == f"{tmp_path}/log:3:user"
    with pytest.raises(InputError, match="header and no rows"):
        cells.read(written(tmp_path, "userID\tartistID\n"))


def test_an_id_is_listed_once(tmp_path: Path) -> None:
    cells = Cells("log", "::", ("item", "title"))
    with pytest.raises(InputError, match="listed twice: '7'") as caught:
        cells.read_listed(written(tmp_path, "7::a\n8::b\n7::c\n"), "item")
    assert caught.value.where == f"{tmp_path}/log:3:item"


def test_latin1_by_choice_only(tmp_path: Path) -> None:
    file = written(tmp_path, "1::Les Misérables\n".encode("latin-1")) / "log"
    assert read_lines(file, latin1=True).to_list() == ["1::Les Misérables"]
    with pytest.raises(InputError, match="not UTF-8"):
        read_lines(file)
    assert read_lines(written(tmp_path, "1::Les Misérables\r\n") / "log", latin1=True).to_list() == [
        "1::Les Misérables"
    ]


@pytest.mark.parametrize(
    ("text", "row", "what"),
    [
        ("1 2\n3 x4\n", 2, "'x4' is no integer id"),
        ("0,1,2\n", 1, "'0,1,2' is no integer id"),
        ("1 2\n\n3 4\n", 2, "a blank line"),
        ("1 -2\n", 1, "'-2' is no integer id"),
        ("1 ٣\n", 1, "'٣' is no integer id"),
    ],
)
def test_what_is_wrong_with_rows_of_ids_has_a_place(tmp_path: Path, text: str, row: int, what: str) -> None:
    with pytest.raises(InputError) as caught:
        read_id_rows(written(tmp_path, text) / "log")
    assert what in caught.value.what
    assert caught.value.where == f"{tmp_path}/log:{row}"


@pytest.mark.parametrize("line", ["3 1 2", "1 1 2", "99999999999999999999 1"])
def test_a_count_that_does_not_match(tmp_path: Path, line: str) -> None:
    with pytest.raises(InputError, match=f"says {line.split()[0]} ids") as caught:
        read_counted_rows(written(tmp_path, f"1 5\n0\n{line}") / "log")
    assert caught.value.where == f"{tmp_path}/log:3"


def test_a_folder_is_needed(tmp_path: Path) -> None:
    file = written(tmp_path, "x") / "log"
    with pytest.raises(InputError, match="its folder is needed") as caught:
        file_in(file, "log")
    assert caught.value.fix == f"data.path={tmp_path}"
    with pytest.raises(InputError, match="no file 'logg'") as caught:
        file_in(tmp_path, "logg")
    assert caught.value.why == "there is log"
    with pytest.raises(InputError, match="no file") as caught:
        file_in(tmp_path, "logg", "data.train")
    assert str(caught.value.fix).endswith(f"data.train={tmp_path}/log")
    with pytest.raises(InputError, match="no file"):
        file_in(tmp_path / "nothing", "log")


def test_counts(tmp_path: Path) -> None:
    assert rows_by_part(pl.Series([0, 0, 2, 1], dtype=pl.Int8)) == "2 train + 1 valid + 1 test; train and valid 3"
    assert rows_by_part(pl.Series([0, 2, 2], dtype=pl.Int8)) == "1 train + 2 test"
    assert not_listed(pl.Series(["a", "b", "b", "c"]), pl.Series(["c"])) == 2
    assert graph_facts(tmp_path) == {}
    (tmp_path / "kg_x").mkdir()
    written(tmp_path / "kg_x", "1\ta\t2\n1\tb\t3\n2\ta\t3\n", "kg.txt")
    written(tmp_path / "kg_x", "7\t0\n8\t1\n", "item_index2entity_id.txt")
    assert graph_facts(tmp_path) == {"knowledge graph": "3 triples, 2 relations", "items in the graph": 2}
