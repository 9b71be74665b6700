"""Histories with their targets: the log that they were cut from, and that no target is trained on."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.filters import Filters
from recdistill.data.interactions import Dataset
from recdistill.data.prepare import prepare
from recdistill.data.sources.base import PARTS, RawLog
from recdistill.data.sources.histories import Histories
from recdistill.data.splits import GivenSplit
from recdistill.errors import InputError

LONGEST = 10
Row = tuple[str, list[str], str]
Sequences = dict[str, list[str]]


def write(folder: Path, **parts: list[Row]) -> Histories:
    for name, rows in parts.items():
        with (folder / f"{name}.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["user_id", "history_item_title", "item_title", "history_item_id", "item_id"])
            writer.writerows([user, "['a, \"b\"']", "c,d", f"[{', '.join(seen)}]", item] for user, seen, item in rows)
    return Histories(str(folder))


def cut(sequences: Sequences, ends: tuple[int, int]) -> dict[str, list[Row]]:
    """The rows of each part: event k of a user is the target of a row, of train below the first end, and so on."""
    rows: dict[str, list[Row]] = {name: [] for name in PARTS}
    for user, items in sequences.items():
        for at in range(1, len(items)):
            part = "train" if at < ends[0] else "valid" if at < ends[1] else "test"
            rows[part].append((user, items[max(at - LONGEST, 0) : at], items[at]))
    return rows


def events(log: RawLog) -> set[tuple[str, str, int, int]]:
    return set(log.events.select("user", "item", "time", "part").iter_rows())


ITEMS = st.lists(st.integers(0, 40).map(str), min_size=2, max_size=16, unique=True)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["A1", "A2", "01", "1"]), ITEMS, min_size=1), st.integers(1, 6), st.randoms())
def test_the_log_is_put_together_again(
    tmp_path_factory: pytest.TempPathFactory, sequences: Sequences, end: int, chance: random.Random
) -> None:
    """Of each user all is there, in order, from the first item that a history still shows."""
    rows = cut(sequences, (end, end + 2))
    kept = {name: found for name, found in rows.items() if found and name != "train"}
    if not kept:
        return
    for found in kept.values():
        chance.shuffle(found)
        # Histories that were cut are equally long: their order is that of the file.
        found.sort(key=lambda row: sequences[row[0]].index(row[2]))
    source = write(tmp_path_factory.mktemp("histories"), **kept)
    source.names |= {name: None for name in ("valid", "test") if name not in kept}
    expected = set()
    for user, items in sequences.items():
        first = max(end, 1)
        start = max(first - LONGEST, 0)
        if len(items) > first:
            parts = [0 if at < first else 1 if at < end + 2 else 2 for at in range(len(items))]
            expected |= {(user, items[at], at - start, parts[at]) for at in range(start, len(items))}
    assert events(source.read()) == expected


def test_a_target_that_a_later_history_shows_is_not_trained_on(tmp_path: Path) -> None:
    rows: dict[str, list[Row]] = {
        "valid": [("u", ["1", "2"], "3")],
        "test": [("u", ["1", "2", "3"], "4"), ("u", ["1", "2", "3", "4"], "5")],
    }
    log = write(tmp_path, **rows).read()
    assert events(log) == {("u", "1", 0, 0), ("u", "2", 1, 0), ("u", "3", 2, 1), ("u", "4", 3, 2), ("u", "5", 4, 2)}
    assert log.facts["valid targets"] == "1 of 1 users"
    assert log.facts["test targets"] == "2 of 1 users"
    assert log.warnings == ["train.csv is not there: trained on is what the histories of the other parts still show"]


def test_another_users_target_says_nothing(tmp_path: Path) -> None:
    log = write(tmp_path, valid=[("u", ["1"], "2")], test=[("v", ["2"], "1")]).read()
    assert events(log) == {("u", "1", 0, 0), ("u", "2", 1, 1), ("v", "2", 0, 0), ("v", "1", 1, 2)}


def test_what_is_bought_again_is_the_target(tmp_path: Path) -> None:
    log = write(tmp_path, valid=[("u", ["1", "2"], "3")], test=[("u", ["1", "2", "3"], "1")]).read()
    assert events(log) == {("u", "2", 1, 0), ("u", "3", 2, 1), ("u", "1", 3, 2)}
    assert "1 pairs of a user and an item bought before are targets again: they count as such" in log.warnings


def test_the_training_file_is_read_where_it_is(tmp_path: Path) -> None:
    rows = cut({"u": ["1", "2", "3", "4", "5"], "v": ["7", "8"]}, (3, 4))
    log = write(tmp_path, **rows).read()
    times = {"1": 0, "2": 1, "3": 2, "4": 3, "5": 4}
    parts = {"1": 0, "2": 0, "3": 0, "4": 1, "5": 2}
    assert events(log) == {("u", item, times[item], parts[item]) for item in times} | {
        ("v", "7", 0, 0),
        ("v", "8", 1, 0),
    }
    assert log.warnings == []


def test_texts_and_codes_of_items(tmp_path: Path) -> None:
    source = write(tmp_path, valid=[("u", ["0"], "1")], test=[("u", ["0", "1"], "2")])
    texts = {
        "0": {"title": "Tape, clear", "description": "['Sticky']"},
        "1": {"title": "Pen", "description": "['', '']"},
        "9": {"title": "", "description": ""},
    }
    (tmp_path / "Office.item.json").write_text(json.dumps(texts))
    (tmp_path / "info.txt").write_text("<a_1><b_2>\tTape, clear\t0\n<a_3>\tPen\t1\n")
    log = source.read()
    assert log.items is not None
    assert log.items.rows() == [
        ("0", "Tape, clear", "['Sticky']", "<a_1><b_2>"),
        ("1", "Pen", None, "<a_3>"),
        ("9", None, None, None),
    ]
    assert log.kinds == {"item": {"description": "text", "code": "categorical"}}
    assert log.facts["items listed"] == 3
    before = source.fingerprint()
    (tmp_path / "info.txt").unlink()
    assert source.fingerprint() != before
    assert source.read().kinds == {"item": {"description": "text"}}
    (tmp_path / "Office.item.json").write_text("[1, 2]")
    with pytest.raises(InputError, match="not an object of items"):
        source.read()


@pytest.mark.parametrize(
    ("cell", "value", "where"),
    [
        ("[1, 2]", "[1, x]", "valid.csv:2:history_item_id"),
        ("[1, 2]", "__import__('os')", "valid.csv:2:history_item_id"),
        (",3\n", ",\n", "valid.csv:2:item_id"),
        ("\nu,", "\n,", "valid.csv:2:user_id"),
    ],
)
def test_a_bad_cell_is_named(tmp_path: Path, cell: str, value: str, where: str) -> None:
    source = write(tmp_path, valid=[("u", ["1", "2"], "3")], test=[("u", ["1"], "2")])
    file = tmp_path / "valid.csv"
    text = file.read_text().replace("\r\n", "\n")
    assert cell in text
    file.write_text(text.replace(cell, value))
    with pytest.raises(InputError) as caught:
        source.read()
    assert str(caught.value.where).endswith(where)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        Histories(str(tmp_path / "nothing")).read()
    with pytest.raises(InputError, match=r"no file .*valid\.csv"):
        Histories(str(tmp_path)).read()
    write(tmp_path, valid=[("u", ["1"], "2")])
    with pytest.raises(InputError, match=r"no file .*test\.csv"):
        Histories(str(tmp_path)).read()
    assert Histories(str(tmp_path), test=None).read().events.height == 2
    with pytest.raises(InputError, match="folder is needed"):
        Histories(str(tmp_path / "valid.csv")).read()


def test_another_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "valid.csv").write_text("user,item\na,b\n")
    with pytest.raises(InputError, match="no column 'user_id'") as caught:
        Histories(str(tmp_path), train=None, test=None).read()
    assert "data=files" in str(caught.value.fix)


def test_the_order_of_rows_has_no_say_while_histories_grow(tmp_path: Path) -> None:
    rows = cut({f"u{user}": [str(user + step) for step in range(7)] for user in range(6)}, (3, 5))
    prints = []
    for _ in range(2):
        for found in rows.values():
            random.Random(len(prints)).shuffle(found)
        folder = tmp_path / str(len(prints))
        folder.mkdir()
        dataset = prepare(write(folder, **rows), Filters(), GivenSplit())
        assert isinstance(dataset, Dataset)
        prints.append(dataset.fingerprint)
    assert prints[0] == prints[1]


SHARED = Path(__file__).parents[3] / "shared" / "data" / "amazon-office-text"


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data")
def test_no_target_of_the_published_files_is_trained_on() -> None:
    log = Histories(str(SHARED)).read()
    targets = pl.concat(pl.read_csv(SHARED / f"{name}.csv", infer_schema=False) for name in ("valid", "test"))
    pairs = set(targets.select("user_id", "item_id").iter_rows())
    trained = set(log.events.filter(pl.col("part") == 0).select("user", "item").iter_rows())
    assert not pairs & trained
    shown = {
        (user, item)
        for user, history in targets.select("user_id", "history_item_id").iter_rows()
        for item in json.loads(history.replace("'", '"'))
    }
    assert trained == {(user, str(item)) for user, item in shown} - pairs
    assert log.events.filter(pl.col("part") > 0).height == targets.height
