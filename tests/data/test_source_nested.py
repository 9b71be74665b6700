"""Columns of objects: ``who.id`` in JSON lines and Parquet, compared with Python's own json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recdistill.data.sources.base import RawLog
from recdistill.data.sources.table import Table
from recdistill.errors import InputError

ROWS: list[dict[str, Any]] = [
    {"who": {"id": "01", "at": {"city": "Bonn", "tags": ["a", "b"]}}, "product": {"id": 2**64, "price": 1.5}, "ts": 1},
    {"who": {"id": "u 2", "at": {"city": None, "tags": []}}, "product": {"id": 7, "price": 2}, "ts": 2},
    {"who": {"id": "NA", "at": None}, "product": {"price": 0, "id": 8}, "ts": 3},
]


def lines(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def parquet(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "log.parquet"
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)
    return path


CONTEXT = {
    "context": {
        "columns": {
            "city": {"kind": "categorical", "column": "who.at.city"},
            "tags": {"kind": "multi", "column": "who.at.tags"},
        }
    }
}


def read(path: Path, **arguments: Any) -> RawLog:
    return Table(str(path), **{"user": "who.id", "item": "product.id", **arguments}).read()


@pytest.mark.parametrize("write", [lines, parquet])
def test_fields_of_objects(tmp_path: Path, write: Any) -> None:
    rows = ROWS if write is lines else [{**row, "product": {**row["product"], "id": 7, "price": 0.5}} for row in ROWS]
    log = read(write(tmp_path, rows), value="product.price", time="ts", features=CONTEXT)
    assert log.events["user"].to_list() == [row["who"]["id"] for row in rows]
    assert log.events["item"].to_list() == [str(row["product"]["id"]) for row in rows]
    assert log.events["value"].to_list() == [float(row["product"]["price"]) for row in rows]
    assert log.events["city"].to_list() == [(row["who"]["at"] or {}).get("city") for row in rows]
    assert [list(tags or []) for tags in log.events["tags"].to_list()] == [
        (row["who"]["at"] or {}).get("tags") or [] for row in rows
    ]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ids=st.lists(
        st.one_of(st.integers(-(2**63), 2**64), st.text('ab1.é"\\', min_size=1, max_size=4)), min_size=1, max_size=8
    )
)
def test_ids_below_objects_stay_exact(tmp_path: Path, ids: list[int | str]) -> None:
    log = read(lines(tmp_path, [{"who": {"id": found}, "product": {"id": "p"}} for found in ids]))
    assert log.events["user"].to_list() == [str(found) for found in ids]


@pytest.mark.parametrize("write", [lines, parquet])
def test_a_column_of_that_name_wins(tmp_path: Path, write: Any) -> None:
    rows = [{"who": {"id": "inside"}, "who.id": "column", "product": {"id": "p"}}]
    assert read(write(tmp_path, rows)).events["user"].to_list() == ["column"]


@pytest.mark.parametrize("write", [lines, parquet])
def test_a_column_of_objects_offers_its_fields(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path, [{"user": "u", "product": {"name": "x", "id": "p", "at": {"x": 1}}}])
    with pytest.raises(InputError, match="holds objects") as caught:
        Table(str(path), item="product").read()
    assert caught.value.fix == "data.item=product.id"
    assert caught.value.why == "the fields are product.name, product.id, product.at.x"
    assert Table(str(path), item="product.id").read().events.rows() == [("u", "p")]
    with pytest.raises(InputError, match="holds objects") as caught:
        Table(str(path), item="product.id", value="product.at").read()
    assert caught.value.fix == "data.value=product.at.x"


@pytest.mark.parametrize("write", [lines, parquet])
def test_a_missing_column_is_looked_for_below(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path, [{"user": "u", "product": {"id": "p"}}])
    with pytest.raises(InputError, match="no column 'item'") as caught:
        Table(str(path)).read()
    assert caught.value.fix == "data.item=product.id"
    with pytest.raises(InputError, match=r"no column 'product\.idd'") as caught:
        Table(str(path), item="product.idd").read()
    assert caught.value.fix == "data.item=product.id"


def test_text_where_objects_are(tmp_path: Path) -> None:
    path = lines(tmp_path, [{"who": {"id": 1}, "product": {"id": 1}}] * 1200 + [{"who": "me", "product": {"id": 1}}])
    with pytest.raises(InputError, match="one table"):
        read(path)
