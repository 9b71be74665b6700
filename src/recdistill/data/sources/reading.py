"""From one file to checked events: text and Parquet in, ``user``, ``item``, ``value`` and ``time`` out.

Everything in a text file is read as text, so that an id never passes through a number: "01" is not "1", "NA"
is an id, and 2**64 stays exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recdistill.data.sources import times
from recdistill.data.sources.files import Separator, existing_file, suffix
from recdistill.data.sources.parquet import read_parquet
from recdistill.data.sources.rows import ROW, Columns, OnBadRows, Part
from recdistill.data.sources.text import read_text
from recdistill.errors import InputError


@dataclass(frozen=True)
class Reader:
    """How files are read.

    Args:
        columns: names in the file.
        separator: of a text file, None to guess from header and extension.
        quote: the quote character of a text file, or None where quotes are text.
        on_bad_rows: ``error`` stops at the first bad row, ``drop`` leaves bad rows out and counts them.
        key: config key of the path, for messages.
    """

    columns: Columns
    separator: Separator | None = None
    quote: str | None = '"'
    on_bad_rows: OnBadRows = "error"
    key: str = "data.path"

    def read(self, path: str | Path) -> Part:
        """The checked events of one file.

        Raises:
            InputError: for a file or a row that can't be read, with the place.
        """
        file = existing_file(path, self.key)
        part = Part(file, self.on_bad_rows)
        wanted = self.columns.present()
        if suffix(file) in {".parquet", ".pq"}:
            part.first_row = 1
            frame = read_parquet(file, wanted)
        else:
            frame = read_text(file, wanted, self.separator, self.quote, part)
        if not frame.height:
            raise InputError(f"'{file}' has a header and no rows", where=str(file), fix=f"{self.key}=ANOTHER_FILE")
        part.events = _checked(frame, wanted, part)
        if not part.events.height:
            counts = ", ".join(f"{reason}: {count}" for reason, count in part.dropped.items())
            raise InputError(f"no row of '{file}' is usable", where=str(file), why=counts, fix="repair the file")
        return part


def _checked(frame: pl.DataFrame, wanted: dict[str, str], part: Part) -> pl.DataFrame:
    for column in ("user", "item"):
        bad = frame[column].is_null() | (frame[column].str.strip_chars() == "")
        frame = part.reject(frame, bad, f"missing {column} id", column, wanted[column], "fill it in")
    if "value" in wanted:
        frame = _with_values(frame, wanted["value"], part)
    if "time" in wanted:
        frame = _with_times(frame, wanted["time"], part)
    return frame.drop(ROW)


def _with_values(frame: pl.DataFrame, name: str, part: Part) -> pl.DataFrame:
    values = frame["value"]
    if values.dtype == pl.String:
        values = values.str.strip_chars()
    elif not values.dtype.is_numeric() and values.dtype != pl.Boolean:
        raise InputError(
            f"column '{name}' is {values.dtype}, not numbers",
            where=f"{part.path}:{name}",
            fix="data.value=null",
        )
    numbers = values.cast(pl.Float64, strict=False)
    bad = ~(numbers.is_finite().fill_null(False))
    frame = part.reject(frame, bad, "a value that is no finite number", "value", name, "repair it")
    return frame.with_columns(numbers.filter(~bad).alias("value"))


def _with_times(frame: pl.DataFrame, name: str, part: Part) -> pl.DataFrame:
    parsed = times.parse(frame["time"])
    bad = parsed.values.is_null()
    reason = f"a time that is not {parsed.kind}"
    kept = part.reject(frame, bad, reason, "time", name, "repair it")
    values = parsed.values.filter(~bad)
    mixed = times.mixed_units(values)
    if mixed:
        (unit, at), (other, other_at) = mixed
        rows = [int(kept[ROW][at]) + part.first_row, int(kept[ROW][other_at]) + part.first_row]
        raise InputError(
            f"times in column '{name}' are in mixed units",
            where=f"{part.path}:{rows[0]}:{name} and {part.path}:{rows[1]}:{name}",
            why=f"{values[at]} looks like {unit}, {values[other_at]} like {other}",
            fix="bring them to one unit",
        )
    part.time_unit = parsed.unit or times.unit_of(values)
    if parsed.note:
        part.notes.append(f"{part.path.name}: {parsed.note}")
    return kept.with_columns(values.alias("time"))
