"""Columns inside columns: ``who.id`` is the field ``id`` of the objects in the column ``who``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from recdistill.data.sources.files import printable
from recdistill.data.sources.rows import likely_column, other_column
from recdistill.errors import InputError

Schema = Mapping[str, pl.DataType]


def find(name: str, schema: Schema) -> tuple[str, ...] | None:
    """The column that a name means, and the fields below it, outermost first; None where there is none.

    A column that is called like the whole name wins, then the one with the longest name.
    """
    if name in schema:
        return (name,)
    dots = [at for at, char in enumerate(name) if char == "."]
    for at in reversed(dots):
        below = find(name[at + 1 :], fields(schema.get(name[:at])))
        if below:
            return (name[:at], *below)
    return None


def names(schema: Schema) -> list[str]:
    """All columns, those of objects as their fields, dotted."""
    found = []
    for name, dtype in schema.items():
        inside = names(fields(dtype))
        found += [f"{name}.{field}" for field in inside] or [name]
    return found


def column(path: Sequence[str]) -> pl.Expr:
    """The values that :func:`find` found the way to; null where an object on the way is null."""
    values = pl.col(path[0])
    for field in path[1:]:
        values = values.struct.field(field)
    return values


def pruned(paths: Sequence[Sequence[str]], schema: Schema) -> dict[str, pl.DataType]:
    """The part of a schema that some paths lead to."""
    below: dict[str, list[Sequence[str]]] = {}
    for path in paths:
        below.setdefault(path[0], []).append(path[1:])
    return {
        name: pl.Struct(pruned(rest, fields(schema[name]))) if all(rest) else schema[name]
        for name, rest in below.items()
    }


def refuse_objects(path: Path, wanted: Mapping[str, str], schema: Schema, keys: Mapping[str, str]) -> None:
    """Raise InputError, offering its fields, for a wanted column that holds objects.

    Args:
        wanted: our name of a column to the file's.
        keys: config key of our name, where it is not ``data.NAME``.
    """
    for ours, name in wanted.items():
        dtype = _at(find(name, schema) or (), schema)
        if not isinstance(dtype, pl.Struct):
            continue
        inside = [f"{name}.{field}" for field in names(fields(dtype))]
        raise InputError(
            f"column '{printable(name)}' holds objects, and one of their fields is needed",
            where=f"{path}:{printable(name)}",
            why="the fields are " + (printable(", ".join(inside[:20])) or "none"),
            fix=other_column(ours, name, _meant(ours, name, inside), keys),
        )


def _meant(ours: str, name: str, inside: Sequence[str]) -> str:
    """The field that likely holds what we call ``ours``."""
    short = {field.removeprefix(f"{name}."): field for field in inside}
    wanted = (ours, f"{ours}_id", "id", "_id") if ours in ("user", "item") else (ours,)
    found = next((short[field] for field in wanted if field in short), None)
    likely = likely_column(ours, ours, list(short))
    return found or (short[likely] if likely else None) or (inside[0] if inside else "COLUMN")


def fields(dtype: pl.DataType | None) -> Schema:
    """The fields of a column of objects; none for any other."""
    return {field.name: _instance(field.dtype) for field in dtype.fields} if isinstance(dtype, pl.Struct) else {}


def _instance(dtype: Any) -> pl.DataType:
    found: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return found


def _at(path: Sequence[str], schema: Schema) -> pl.DataType | None:
    dtype = None
    for name in path:
        dtype = schema[name]
        schema = fields(dtype)
    return dtype
