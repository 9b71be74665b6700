"""Feature columns: from what a file holds to the dtype of their kind, with the place of what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from recdistill.data.sources.base import RESERVED, Kind
from recdistill.data.sources.files import existing_file, suffix
from recdistill.data.sources.parquet import read_parquet
from recdistill.data.sources.rows import Part
from recdistill.data.sources.text import read_text
from recdistill.errors import InputError

SEPARATOR = "|"


def read_side(
    path: str | Path,
    side: str,
    id_column: str,
    kinds: Mapping[str, Kind],
    *,
    rename: Mapping[str, str] | None = None,
    separator: str = SEPARATOR,
    quote: str | None = '"',
    key: str = "data.features",
) -> pl.DataFrame:
    """The features of users or items from a CSV, TSV or Parquet file.

    Args:
        side: ``user`` or ``item``.
        id_column: column of the id.
        kinds: the features to read, by the name they get.
        rename: the column of a feature in the file, where it has another name.
        separator: between the values of a multi-valued cell.
        quote: quote character of a text file; None takes quotes as text.
        key: config key of the file, for messages.

    Returns:
        Column ``side`` and one column a feature; one row an id, the first where it occurs twice.

    Raises:
        InputError: for a file that can't be read, lacks a column, or holds what is not of its kind.
    """
    file = existing_file(path, key)
    columns = {name: (rename or {}).get(name, name) for name in kinds}
    part = Part(file)
    if suffix(file) in {".parquet", ".pq"}:
        part.first_row = 1
        frame = read_parquet(file, {side: id_column, **columns})
    else:
        frame = read_text(file, {side: id_column, **columns}, None, quote, part)
    frame = frame.drop_nulls(side)
    frame = frame.with_columns(
        as_kind(frame[name], kind, f"{file}", columns[name], separator, part.first_row).alias(name)
        for name, kind in kinds.items()
    )
    return frame.select(side, *kinds).unique(side, keep="first", maintain_order=True)


def as_kind(
    column: pl.Series, kind: Kind, file: str, name: str, separator: str = SEPARATOR, first_row: int = 2
) -> pl.Series:
    """A column in the dtype of a kind, null where it is missing.

    Args:
        column: as it was read; text, or what Parquet and JSON hold.
        file, name: the file and its name of the column, for messages.
        first_row: number of the first row, as the user counts.

    Raises:
        InputError: a cell is not of the kind, or the name is one of the log's own.
    """
    if column.name in RESERVED and not (column.name == "title" and kind == "text"):
        raise InputError(f"a feature can't be called '{column.name}'", where=f"{file}:{name}", fix="rename it")
    if kind == "numeric":
        return _numbers(column, file, name, first_row)
    if kind == "vector":
        return _vectors(column, file, name, first_row)
    if kind == "multi":
        if not isinstance(column.dtype, pl.List):
            column = column.cast(pl.String).str.split(separator)
        return column.cast(pl.List(pl.String)).list.eval(pl.element().str.strip_chars().replace("", None).drop_nulls())
    if column.dtype.is_nested():
        raise InputError(
            f"column '{name}' is {column.dtype}, not {kind}", where=f"{file}:{name}", fix="choose another kind"
        )
    return column.cast(pl.String).str.strip_chars().replace("", None)


def _numbers(column: pl.Series, file: str, name: str, first_row: int) -> pl.Series:
    text = column.str.strip_chars().replace("", None) if column.dtype == pl.String else column
    numbers = text.cast(pl.Float64, strict=False)
    numbers = pl.select(pl.when(numbers.is_finite()).then(numbers)).to_series().alias(column.name)
    bad = (numbers.is_null() & text.is_not_null()).arg_true()
    if len(bad):
        raise InputError(
            f"{text[bad[0]]!r} in column '{name}' is no finite number",
            where=f"{file}:{bad[0] + first_row}:{name}",
            why="the feature is numeric; empty cells are taken as missing",
            fix="repair it, or make the feature categorical",
        )
    return numbers


def _vectors(column: pl.Series, file: str, name: str, first_row: int) -> pl.Series:
    if column.dtype == pl.String:
        column = column.str.strip_chars(" []").str.split(" " if "," not in (column[0] or "") else ",")
        column = column.list.eval(pl.element().str.strip_chars().cast(pl.Float32, strict=False))
    lists = column.cast(pl.List(pl.Float32))
    lengths = lists.list.len()
    width = lengths.drop_nulls().mode().sort()[0] if lengths.null_count() < len(lengths) else 0
    bad = (
        (lengths != width) | lists.list.eval(pl.element().is_null() | ~pl.element().is_finite()).list.any()
    ).arg_true()
    if len(bad) or not width:
        row = bad[0] if len(bad) else 0
        raise InputError(
            f"column '{name}' does not hold vectors of one length",
            where=f"{file}:{row + first_row}:{name}",
            why=f"most have {width} finite numbers, this one has {lengths[row]} entries",
            fix="repair the row, or leave the feature out",
        )
    return lists.list.to_array(width)
