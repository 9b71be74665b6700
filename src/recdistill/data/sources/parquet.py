"""Parquet tables, with ids made text only where that is exact."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from recdistill.data.sources import nested
from recdistill.data.sources.files import printable
from recdistill.data.sources.rows import ROW, Part, missing_columns
from recdistill.errors import InputError

_EXACT = 2**53  # the last integer below which a float64 holds every integer


def read_parquet(path: Path, wanted: dict[str, str], part: Part | None = None) -> pl.DataFrame:
    """The wanted columns of a Parquet file under our names, ids as text, with their row numbers.

    Args:
        wanted: our name of a column to the file's; ``who.id`` is the field ``id`` of the structs in ``who``.
        part: takes the account; None takes columns of structs as they are, which are else refused.

    Raises:
        InputError: for a damaged file, missing columns, or ids that are no exact labels.
    """
    account = part or Part(path)
    account.first_row = 1
    try:
        schema = pl.scan_parquet(path, glob=False).collect_schema()
        found = {ours: nested.find(theirs, schema) for ours, theirs in wanted.items()}
        paths = {ours: way for ours, way in found.items() if way}
        columns = list(dict.fromkeys(way[0] for way in paths.values()))
        frame = pl.read_parquet(path, columns=columns, glob=False, row_index_name=ROW)
    except (pl.exceptions.ComputeError, OSError) as error:
        instead = "a CSV file with data=csv" if account.key == "data.path" else f"another file: {account.key}=FILE"
        raise InputError(
            f"'{path}' is no Parquet file, or is damaged",
            where=str(path),
            why=printable(str(error).split("\n")[0]),
            fix=f"write it again, or give {instead}",
        ) from error
    if len(paths) < len(wanted):
        raise missing_columns(path, wanted, nested.names(schema), str(path), keys=account.keys)
    if part:
        nested.refuse_objects(path, wanted, schema, part.keys)
    frame = frame.select(ROW, **{ours: nested.column(way) for ours, way in paths.items()})
    for ours in sorted({"user", "item", "title_item"} & set(wanted)):
        frame = frame.with_columns(_id_text(frame[ours], path, wanted[ours]).alias(ours))
    return frame


def _id_text(ids: pl.Series, path: Path, name: str) -> pl.Series:
    if ids.dtype.is_float():
        ids = ids.fill_nan(None)
        whole = ids.is_null() | ((ids == ids.round(0)) & (ids.abs() < _EXACT))
        if not whole.all():
            row = int((~whole).arg_true()[0])
            raise InputError(
                f"ids in column '{name}' are floats that are no exact integers: {ids[row]!r}",
                where=f"{path}:{row + 1}:{name}",
                why=f"the column is {ids.dtype}; an id must be a label",
                fix="write the ids as text or integers",
            )
        ids = ids.cast(pl.Int64)
    if ids.dtype.is_nested() or ids.dtype == pl.Binary or ids.dtype == pl.Boolean:
        raise InputError(
            f"column '{name}' can't hold ids: it is {ids.dtype}",
            where=f"{path}:{name}",
            fix="write the ids as text or integers",
        )
    return ids.cast(pl.String)
