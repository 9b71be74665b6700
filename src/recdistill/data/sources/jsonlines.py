"""JSON lines: one object a line, its keys as columns, every number as the text that it was written in."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from recdistill.data.sources import nested
from recdistill.data.sources.encodings import has_mark, rewritten
from recdistill.data.sources.files import (
    Encoding,
    broken_archive,
    check_encoding,
    lines,
    printable,
)
from recdistill.data.sources.rows import ROW, Part, missing_columns
from recdistill.errors import InputError

_HEAD = 1000  # rows from which the columns and their types are told
_PATTERN = frozenset("*?[")  # characters that polars would take for a pattern of names


def read_json_lines(path: Path, wanted: dict[str, str], part: Part, *, encoding: Encoding = "utf-8") -> pl.DataFrame:
    """The wanted columns of a file of JSON lines under our names, with their row numbers.

    A key that a row lacks, or that is null there, is missing. Numbers, true and false come as text, so that an id
    never passes through a float; lists keep their type. ``who.id`` is the key ``id`` of the objects under ``who``.

    Raises:
        InputError: for a line that is no JSON object, or a key that none of the first rows has.
    """
    part.first_row = 1
    if encoding == "utf-8":
        check_encoding(path)
    content = None
    if encoding != "utf-8" or has_mark(path) or _PATTERN & set(str(path)):
        content = rewritten(path, encoding, ",")
    types = _parse(path, content, None)
    if not types.height:
        return pl.DataFrame(schema={ROW: pl.UInt32, **dict.fromkeys(wanted, pl.String)})
    found = {ours: nested.find(theirs, types.schema) for ours, theirs in wanted.items()}
    paths = {ours: way for ours, way in found.items() if way}
    if len(paths) < len(wanted):
        raise missing_columns(path, wanted, nested.names(types.schema), str(path), keys=part.keys)
    nested.refuse_objects(path, wanted, types.schema, part.keys)
    _check_ids(path, wanted, types.select(nested.column(way).alias(ours) for ours, way in paths.items()).schema)
    schema = nested.pruned(list(paths.values()), types.schema)
    frame = _parse(path, content, {name: _kept(dtype) for name, dtype in schema.items()})
    return frame.select(ROW, **{ours: nested.column(way) for ours, way in paths.items()})


def _kept(found: pl.DataType) -> pl.DataType:
    """The type that a column is read as, from the one that its first rows have."""
    if isinstance(found, pl.Struct):
        return pl.Struct({name: _kept(dtype) for name, dtype in nested.fields(found).items()})
    if not isinstance(found, pl.List):
        return pl.String()
    return pl.List(pl.Float64() if found.inner.is_numeric() else pl.String())


def _check_ids(path: Path, wanted: dict[str, str], types: pl.Schema) -> None:
    for ours in sorted({"user", "item", "title_item"} & set(wanted)):
        found = types[ours]
        if found.is_nested() or found == pl.Boolean:
            raise InputError(
                f"'{printable(wanted[ours])}' can't hold ids: it is {found}",
                where=f"{path}:{wanted[ours]}",
                fix="write the ids as text or integers",
            )


def _parse(path: Path, content: bytes | None, schema: dict[str, pl.DataType] | None) -> pl.DataFrame:
    """All rows in a schema, or the first ones in the types that they have."""
    data = path if content is None else content
    try:
        if schema is None:
            return pl.read_ndjson(data, infer_schema_length=_HEAD, n_rows=_HEAD)
        return pl.read_ndjson(data, schema=schema, row_index_name=ROW)
    except pl.exceptions.PolarsError as error:
        text = lines(path, content=content)
        if not (text.str.strip_chars() != "").any():
            return pl.DataFrame()
        raise _bad_line(path, text, error) from error
    except OSError as error:
        raise broken_archive(path, str(error)) from error


def _bad_line(path: Path, text: pl.Series, error: Exception) -> InputError:
    """The error for the first line that is no JSON object."""
    for row, line in enumerate(text, start=1):
        try:
            whole = not line.strip() or isinstance(json.loads(line), dict)
            why = "each line holds one object, such as {...}"
        except ValueError as reason:
            whole, why = False, str(reason)
        if not whole:
            return InputError(
                "a line is no JSON object: " + repr(line[:60]),
                where=f"{path}:{row}",
                why=printable(why),
                fix="repair the line; a file that is one list becomes lines by: jq -c '.[]' FILE > FILE.jsonl",
            )
    return InputError(
        f"'{path}' can't be read as one table",
        where=str(path),
        why=printable(str(error).strip().split("\n")[0])[:200],
        fix="write the values of a key in one type: all lists, all objects, or none",
    )
