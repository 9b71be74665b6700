"""Tables of examples: which row is where, what the report counts, and that order has no say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data import store
from recdistill.data.filters import Filters
from recdistill.data.interactions import Examples, TableDataset
from recdistill.data.prepare import prepare
from recdistill.data.sources.base import PARTS, Kind, RawLog, Source
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

KINDS: dict[str, Kind] = {"site": "categorical", "price": "numeric", "tags": "multi", "image": "vector"}
DTYPES = {
    "value": pl.Float64(),
    "time": pl.Int64(),
    "part": pl.Int8(),
    "site": pl.String(),
    "price": pl.Float64(),
    "tags": pl.List(pl.String),
    "image": pl.Array(pl.Float32, 2),
}
SITES = st.none() | st.sampled_from(["a", "b", "01", "1"])
ROW = st.tuples(
    st.sampled_from([0.0, 1.0]),
    st.integers(0, 9),
    st.integers(0, 2),
    SITES,
    st.none() | st.integers(0, 3).map(float),
    st.none() | st.lists(st.sampled_from(["x", "y", "z"]), max_size=3),
    st.none() | st.lists(st.integers(0, 2).map(float), min_size=2, max_size=2),
)
TABLE = st.lists(ROW, min_size=4, max_size=14)
SPLITS: list[Split] = [RandomSplit(0.2, 0.3), KFold(3, 2), GivenSplit(), GlobalTemporal(0.2, 0.3)]


class Memory(Source):
    """A table from memory."""

    def __init__(self, events: pl.DataFrame, kinds: dict[str, Kind] = KINDS):
        self.events, self.kinds = events, kinds

    def read(self) -> RawLog:
        return RawLog(self.events, kinds={"context": self.kinds})

    def fingerprint(self) -> str:
        return "memory"

    def where(self) -> str:
        return "memory"


def frame(rows: list[Any]) -> pl.DataFrame:
    columns = zip(*rows, strict=True)
    return pl.DataFrame(
        [pl.Series(name, column, dtype=dtype) for (name, dtype), column in zip(DTYPES.items(), columns, strict=True)]
    )


def prepared(events: pl.DataFrame, split: Split, filters: Filters | None = None) -> TableDataset:
    dataset = prepare(Memory(events), filters or Filters(), split)
    assert isinstance(dataset, TableDataset)
    return dataset


def contents(part: Examples) -> Counter[tuple[Any, ...]]:
    """The rows of a part in words, as a multiset; what training does not know is None."""
    features = part.features
    words, tags = features.vocabularies["site"], features.vocabularies["tags"]
    assert part.time is not None
    rows: Counter[tuple[Any, ...]] = Counter()
    for row in range(len(part)):
        code, price = int(features.categorical["site"][row]), float(features.numeric["price"][row])
        sets = features.multi["tags"]
        members = sets.indices[sets.indptr[row] : sets.indptr[row + 1]].tolist()
        image = features.vector["image"][row].tolist()
        rows[
            float(part.label[row]),
            int(part.time[row]),
            words[code] if code else None,
            None if np.isnan(price) else price,
            tuple(tags[member] for member in members),
            None if np.isnan(image[0]) else tuple(image),
        ] += 1
    return rows


def expected(rows: list[Any], train: list[Any]) -> Counter[tuple[Any, ...]]:
    sites = {row[3] for row in train} - {None}
    tags = {tag for row in train for tag in row[5] or []}
    return Counter(
        (
            label,
            time,
            site if site in sites else None,
            price,
            tuple(sorted({tag for tag in members or [] if tag in tags})),
            None if image is None else tuple(image),
        )
        for label, time, _, site, price, members, image in rows
    )


@settings(max_examples=50, deadline=None)
@given(TABLE)
def test_given_parts_hold_their_rows(rows: list[Any]) -> None:
    train = [row for row in rows if row[2] == 0]
    if not train:
        with pytest.raises(InputError, match="training part is empty"):
            prepared(frame(rows), GivenSplit())
        return
    dataset = prepared(frame(rows), GivenSplit())
    for number, name in enumerate(PARTS):
        assert contents(getattr(dataset, name)) == expected([row for row in rows if row[2] == number], train)


@settings(max_examples=50, deadline=None)
@given(TABLE, st.randoms())
@pytest.mark.parametrize("split", SPLITS, ids=lambda split: type(split).__name__)
def test_order_of_rows_and_columns_has_no_say(split: Split, rows: list[Any], random: Any) -> None:
    events = frame(rows)
    names = list(events.columns)
    shuffled = events[random.sample(range(len(rows)), len(rows))]
    random.shuffle(names)
    outcomes = []
    for table in (events, shuffled.select(names)):
        try:
            dataset = prepared(table, split)
            outcomes.append([dataset.fingerprint, dataset.manifest["parts"], dataset.report["parts"]])
        except InputError as error:
            outcomes.append([str(error)])
    assert outcomes[0] == outcomes[1]


@settings(max_examples=50, deadline=None)
@given(TABLE)
def test_the_report_counts(rows: list[Any]) -> None:
    rows = [(*rows[0][:2], 0, *rows[0][3:]), *rows[1:]]  # one row of training at least
    dataset = prepared(frame(rows), GivenSplit())
    train = [row for row in rows if row[2] == 0]
    sites = {row[3] for row in train} - {None}
    for number, name in enumerate(PARTS):
        part = [row for row in rows if row[2] == number]
        assert dataset.report["parts"][name] == {
            "rows": len(part),
            "positive": sum(row[0] == 1 for row in part),
            "empty_cells": sum(cell is None for row in part for cell in row[3:]),
            "unseen_values": sum(row[3] is not None and row[3] not in sites for row in part),
        }
    alike = Counter(str((*row[:2], *row[3:])) for row in rows)
    assert dataset.report["duplicates"] == sum(count - 1 for count in alike.values())
    assert dataset.report["fields"]["site"] == len(sites)
    prices = [row[4] for row in train if row[4] is not None]
    assert dataset.report["numeric"]["price"] == pytest.approx(
        [np.mean(prices), np.std(prices)] if prices else [0, 0], abs=1e-9
    )


@settings(max_examples=30, deadline=None)
@given(TABLE)
def test_a_random_split_shares_out_every_row(rows: list[Any]) -> None:
    dataset = prepared(frame(rows), RandomSplit(0.25, 0.25, seed=3))
    sizes = {name: len(getattr(dataset, name)) for name in PARTS}
    assert sizes["test"] == sizes["valid"] == round(len(rows) / 4)
    assert sum(sizes.values()) == len(rows)
    labels = torch.cat([getattr(dataset, name).label for name in PARTS])
    assert sorted(labels.tolist()) == sorted(row[0] for row in rows)
    assert any("brings a split of its own" in warning for warning in dataset.report["warnings"])


@pytest.mark.parametrize("split", [LeaveOneOut(), PerUserTemporal(), ColdUser(), ColdItem()])
def test_splits_by_user_or_item_say_what_they_need(split: Split) -> None:
    with pytest.raises(InputError, match=type(split).__name__) as caught:
        prepared(frame(ROWS), split)
    assert "data/split=" in str(caught.value.fix)


ROWS = [
    (1.0, 3, 0, "a", 2.0, ["x"], [1.0, 0.0]),
    (0.0, 1, 0, "b", None, ["y", "x"], None),
    (1.0, 2, 1, "c", 1.0, None, [0.0, 0.0]),
    (0.0, 5, 2, None, 4.0, ["z"], [2.0, 1.0]),
    (1.0, 4, 2, "a", 0.0, [], [0.0, 1.0]),
]


def test_the_store_gives_back_what_it_took(tmp_path: Path) -> None:
    dataset = prepared(frame(ROWS), GivenSplit())
    store.save(dataset, tmp_path)
    loaded = store.load(tmp_path)
    assert isinstance(loaded, TableDataset)
    store.verify(loaded)
    assert loaded.fingerprint == dataset.fingerprint
    assert loaded.schema == dataset.schema
    for name in PARTS:
        assert contents(getattr(loaded, name)) == contents(getattr(dataset, name))
    assert loaded.train.features.moments == dataset.train.features.moments


def test_a_part_that_is_not_asked_for_need_not_be_there(tmp_path: Path) -> None:
    store.save(prepared(frame(ROWS), GivenSplit()), tmp_path)
    for file in tmp_path.glob("test.*"):
        file.unlink()
    loaded = store.load(tmp_path, ("train", "valid"))
    assert [len(loaded.train), len(loaded.valid), len(loaded.test)] == [2, 1, 0]


def test_a_changed_label_is_found(tmp_path: Path) -> None:
    dataset = prepared(frame(ROWS), GivenSplit())
    store.save(dataset, tmp_path)
    store.save(prepared(frame([(0.0, *ROWS[0][1:]), *ROWS[1:]]), GivenSplit()), tmp_path / "other")
    (tmp_path / "other" / "train.safetensors").replace(tmp_path / "train.safetensors")
    with pytest.raises(InputError, match="train part is not the one that was prepared"):
        store.verify(store.load(tmp_path))


def test_a_table_has_no_pairs(tmp_path: Path) -> None:
    store.save(prepared(frame(ROWS), GivenSplit()), tmp_path)
    with pytest.raises(InputError, match="without users and items to rank") as caught:
        store.load_pairs(tmp_path)
    assert "site, price, tags, image" in str(caught.value)


def test_schema_is_that_of_training() -> None:
    assert prepared(frame(ROWS), GivenSplit()).schema.features["categorical"] == {"site": 3}  # missing or unknown, a, b


def test_duplicates_stay_unless_they_are_an_error() -> None:
    twice = frame([*ROWS, ROWS[0]])
    dataset = prepared(twice, GivenSplit())
    assert len(dataset.train) == 3
    assert "1 rows occur more than once; all are kept" in dataset.report["warnings"]
    with pytest.raises(InputError) as caught:
        prepared(twice, GivenSplit(), Filters(duplicates="error"))
    assert caught.value.where == "data.filters.duplicates"


def test_labels_of_one_kind_are_warned_of() -> None:
    dataset = prepared(frame([row for row in ROWS if row[2] != 2 or row[0] == 1]), GivenSplit())
    assert "all labels of the test part are alike: nothing can be told apart there" in dataset.report["warnings"]


def test_a_temporal_split_of_a_table_is_by_time() -> None:
    dataset = prepared(frame(ROWS).drop("part"), GlobalTemporal(0.2, 0.2))
    times = [getattr(dataset, name).time.tolist() for name in PARTS]
    assert [sorted(part) for part in times] == [[1, 2, 3], [4], [5]]
    assert dataset.manifest["leaks_time"] is False


def test_another_row_gives_another_fingerprint() -> None:
    prints = {prepared(frame(ROWS), GivenSplit()).fingerprint}
    for at, value in ((0, 0.0), (1, 9), (3, "b"), (4, 2.5), (5, ["y"]), (6, [1.0, 1.0])):
        row = list(ROWS[0])
        row[at] = value
        prints.add(prepared(frame([tuple(row), *ROWS[1:]]), GivenSplit()).fingerprint)
    assert len(prints) == 7


def test_labels_of_more_than_two_kinds_are_counted() -> None:
    images = pl.Series("image", [[float(n), 0.0] for n in range(6)], dtype=pl.Array(pl.Float32, 2))
    part = pl.Series("part", [0, 0, 0, 0, 1, 1], dtype=pl.Int8)
    events = pl.DataFrame([pl.Series("value", [0.0, 1.0, 2.0, 2.0, 0.0, 0.0]), part, images])
    dataset = prepare(Memory(events, {"image": "vector"}), Filters(), GivenSplit())
    assert [list(counts.items())[:2] for counts in dataset.report["parts"].values()] == [
        [("rows", 4), ("labels", 3)], [("rows", 2), ("labels", 1)], [("rows", 0), ("labels", 0)],
    ]  # fmt: skip
    assert "all labels of the valid part are alike: nothing can be told apart there" in dataset.report["warnings"]
    assert not any("of the train part are alike" in warning for warning in dataset.report["warnings"])
