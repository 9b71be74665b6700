"""Feature columns: from what a file holds to the dtype of their kind, with the place of what does not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from recdistill.data.sources.base import RESERVED, Kind
from recdistill.data.sources.files import printable
from recdistill.data.sources.folders import data_files
from recdistill.data.sources.frames import Form, read_frame
from recdistill.data.sources.numbers import Decimal, other_decimal, to_numbers
from recdistill.data.sources.rows import ROW, Part
from recdistill.errors import InputError

SEPARATOR = "|"
Place = Callable[[int], str]
"""``file:row`` of a position in a column, for messages."""


def read_side(
    path: str | Path,
    side: str,
    id_column: str,
    kinds: Mapping[str, Kind],
    *,
    rename: Mapping[str, str] | None = None,
    separator: str | Mapping[str, str] = SEPARATOR,
    quote: str | None = '"',
    key: str = "data.features",
    form: Form | None = None,
    warnings: list[str] | None = None,
) -> pl.DataFrame:
    """The features of users or items from a CSV, TSV, JSON lines or Parquet file.

    Args:
        side: ``user`` or ``item``.
        id_column: column of the id.
        kinds: the features to read, by the name they get.
        rename: the column of a feature in the file, where it has another name.
        separator: between the values of a multi-valued cell, of all features or by name.
        quote: quote character of a text file; None takes quotes as text.
        key: config key of the file, for messages.
        form: how the file is written down, in place of ``quote``.
        warnings: takes a sentence for rows without an id and for ids that occur twice.

    Returns:
        Column ``side`` and one column a feature; one row an id, the first where it occurs twice.

    Raises:
        InputError: for a file that can't be read, lacks a column, or holds what is not of its kind.
    """
    files = data_files(path, key)
    columns = {name: (rename or {}).get(name, name) for name in kinds}
    base = key.removesuffix(".file")
    part = Part(files[0], keys={side: f"{base}.id", **dict.fromkeys(columns, f"{base}.columns")})
    form = form or Form(quote=quote)
    frame = read_frame(files, {side: id_column, **columns}, form, part)
    named = frame.filter(frame[side].is_not_null() & (frame[side].str.strip_chars() != ""))
    separators = separator if isinstance(separator, Mapping) else dict.fromkeys(kinds, separator)

    def place(at: int) -> str:
        return part.place(named[ROW][at])

    features = named.with_columns(
        to_kind(named[name], kind, columns[name], place, separators[name], form.decimal) for name, kind in kinds.items()
    )
    single = features.select(side, *kinds).unique(side, keep="first", maintain_order=True)
    if warnings is not None:
        warnings += _oddities(part, frame.height - named.height, named.height - single.height)
    return single


def _oddities(part: Part, nameless: int, repeated: int) -> list[str]:
    """What was passed over, one sentence each."""
    name = printable(part.path.name)
    found = [f"{name}: rows without an id are left out: {nameless:,}"] if nameless else []
    if repeated:
        found.append(f"{name}: rows that repeat an id are left out: {repeated:,}; the first of each stays")
    return found


def as_kind(
    column: pl.Series, kind: Kind, file: str, name: str, separator: str = SEPARATOR, first_row: int = 2
) -> pl.Series:
    """:func:`to_kind` for a column of which no row was left out.

    Args:
        file: for messages.
        first_row: number of the first row, as the user counts.
    """
    return to_kind(column, kind, name, lambda at: f"{file}:{at + first_row}", separator)


def to_kind(
    column: pl.Series, kind: Kind, name: str, place: Place, separator: str = SEPARATOR, decimal: Decimal = "point"
) -> pl.Series:
    """A column in the dtype of a kind, null where it is missing.

    Args:
        column: as it was read; text, or what Parquet and JSON hold.
        name: the file's name of the column, for messages.

    Raises:
        InputError: a cell is not of the kind, or the name is one of the log's own.
    """
    if column.name in RESERVED and not (column.name == "title" and kind == "text"):
        raise InputError(
            f"a feature can't be called '{column.name}'",
            where="data.features",
            why=f"these names are the log's own: {', '.join(RESERVED)}",
            fix=f"{column.name}_feature: {{kind: {kind}, column: {printable(name)}}}",
        )
    listed = isinstance(column.dtype, pl.List | pl.Array)
    if column.dtype == pl.Binary or (column.dtype.is_nested() and not (listed and kind in ("multi", "vector"))):
        raise _wrong_type(column, kind, name, place)
    if kind == "numeric":
        return _numbers(column, name, place, decimal)
    if kind == "vector":
        return _vectors(column, name, place)
    if kind == "multi":
        return _sets(column, name, place, separator)
    return _filled(column.cast(pl.String))


def _wrong_type(column: pl.Series, kind: Kind, name: str, place: Place) -> InputError:
    fits = ["multi", "vector"] if isinstance(column.dtype, pl.List | pl.Array) else []
    return InputError(
        f"column '{printable(name)}' is {column.dtype}, which can't be {kind}",
        where=f"{place(0)}:{printable(name)}",
        fix=f"one of the kinds {' and '.join(fits)}, or leave the feature out" if fits else "leave the feature out",
    )


def _filled(text: pl.Series) -> pl.Series:
    """Text without blanks around it, null where nothing is left."""
    text = text.str.strip_chars()
    return text.set(text == "", None)


def _sets(column: pl.Series, name: str, place: Place, separator: str) -> pl.Series:
    if not isinstance(column.dtype, pl.List | pl.Array):
        column = _filled(column.cast(pl.String)).str.split(separator)
    lists = column.arr.to_list() if isinstance(column.dtype, pl.Array) else column
    assert isinstance(lists.dtype, pl.List)
    if lists.dtype.inner.is_nested():
        raise _wrong_type(column, "multi", name, place)
    values = lists.cast(pl.List(pl.String)).list.eval(pl.element().str.strip_chars())
    return values.list.eval(pl.element().filter(pl.element() != ""))


def _numbers(column: pl.Series, name: str, place: Place, decimal: Decimal) -> pl.Series:
    text = _filled(column) if column.dtype == pl.String else column
    numbers = to_numbers(text, decimal)
    # NaN is how tables of numbers write what is missing.
    there = text.is_not_null() & ~numbers.is_nan().fill_null(False) if text.dtype.is_float() else text.is_not_null()
    numbers = numbers.set(~numbers.is_finite().fill_null(False), None)
    bad = (numbers.is_null() & there).arg_true()
    if len(bad):
        other = other_decimal(text.gather(bad), decimal)
        repair = f"decimal: {other} beside the name of the file (data.decimal for the log)" if other else "repair it"
        raise InputError(
            f"{text[bad[0]]!r} in column '{printable(name)}' is no finite number",
            where=f"{place(bad[0])}:{printable(name)}",
            why="the feature is numeric; empty cells are taken as missing",
            fix=f"{repair}, or make the feature categorical",
        )
    return numbers


def _vectors(column: pl.Series, name: str, place: Place) -> pl.Series:
    if not isinstance(column.dtype, pl.List | pl.Array):
        column = _split(column.cast(pl.String))
    lists = (column.arr.to_list() if isinstance(column.dtype, pl.Array) else column).cast(pl.List(pl.Float32))
    lists = lists.set(lists.list.len() == 0, None)
    lengths = lists.list.len()
    found = lengths.drop_nulls().value_counts().sort("count", descending=True)
    width = int(found[column.name][0]) if found.height else 0
    odd = lists.list.eval(pl.element().is_null() | ~pl.element().is_finite()).list.any()
    bad = ((lengths != width) | odd).fill_null(False).arg_true()
    if len(bad) or not width:
        row = bad[0] if len(bad) else 0
        raise InputError(
            f"column '{printable(name)}' does not hold vectors of one length",
            where=f"{place(row)}:{printable(name)}",
            why=f"most have {width} finite numbers, this one has {lengths[row] or 0} entries",
            fix="repair the row, or leave the feature out",
        )
    return lists.list.to_array(width)


def _split(text: pl.Series) -> pl.Series:
    """Lists of numbers from text such as ``[0.5, 1]`` and ``0.5 1``; null where a cell is empty."""
    bare = text.str.strip_chars(" []")
    bare = bare.set(bare == "", None).str.replace_all(",", " ", literal=True)
    words = bare.str.extract_all(r"[^\s]+")
    return words.list.eval(pl.element().cast(pl.Float32, strict=False))
