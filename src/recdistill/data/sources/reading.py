"""From files to checked events: text, JSON lines and Parquet in, ``user``, ``item``, ``value`` and ``time`` out.

Everything in a text file is read as text, so that an id never passes through a number: "01" is not "1", "NA"
is an id, and 2**64 stays exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from recdistill.data.sources import times
from recdistill.data.sources.files import printable
from recdistill.data.sources.folders import data_files
from recdistill.data.sources.frames import Form, read_frame
from recdistill.data.sources.rows import ROW, Columns, OnBadRows, Part
from recdistill.data.sources.side import to_kind
from recdistill.data.sources.spec import Column
from recdistill.errors import InputError


@dataclass(frozen=True)
class Reader:
    """How files are read.

    Args:
        columns: names in the file.
        form: how the file is written down.
        on_bad_rows: ``error`` stops at the first bad row, ``drop`` leaves bad rows out and counts them.
        context: columns that are features of the event, by the name that they get.
        key: config key of the path, for messages.
    """

    columns: Columns
    form: Form = field(default_factory=Form)
    on_bad_rows: OnBadRows = "error"
    context: Mapping[str, Column] = field(default_factory=dict)
    key: str = "data.path"

    def read(self, path: str | Path) -> Part:
        """The checked events of one file, or of all files of a folder or a pattern.

        Raises:
            InputError: for a file or a row that can't be read, with the place.
        """
        files = data_files(path, self.key)
        whole = files[0] if len(files) == 1 else Path(path)
        context = {name: column.name_in_file(name) for name, column in self.context.items()}
        keys = dict.fromkeys(context, "data.features.context.columns")
        part = Part(whole, self.on_bad_rows, keys=keys)
        frame = read_frame(files, {**self.columns.present(), **context}, self.form, part)
        part.events = self._with_context(_checked(frame, self.columns.present(), part), part)
        if not part.events.height:
            counts = ", ".join(f"{reason}: {count}" for reason, count in part.dropped.items())
            raise InputError(f"no row of '{whole}' is usable", where=str(whole), why=counts, fix="repair the file")
        return part

    def _with_context(self, frame: pl.DataFrame, part: Part) -> pl.DataFrame:
        def place(at: int) -> str:
            return part.place(frame[ROW][at])

        features = [
            to_kind(frame[name], column.kind, column.name_in_file(name), place, column.separator)
            for name, column in self.context.items()
        ]
        return frame.drop(ROW).with_columns(features)


def _checked(frame: pl.DataFrame, wanted: dict[str, str], part: Part) -> pl.DataFrame:
    for column in ("user", "item"):
        bad = frame[column].is_null() | (frame[column].str.strip_chars() == "")
        frame = part.reject(frame, bad, f"missing {column} id", column, wanted[column], "fill it in")
    if "value" in wanted:
        frame = _with_values(frame, wanted["value"], part)
    if "time" in wanted:
        frame = _with_times(frame, wanted["time"], part)
    return frame


def _with_values(frame: pl.DataFrame, name: str, part: Part) -> pl.DataFrame:
    values = frame["value"]
    if values.dtype == pl.String:
        values = values.str.strip_chars()
    elif not values.dtype.is_numeric() and values.dtype != pl.Boolean:
        raise InputError(
            f"column '{printable(name)}' is {values.dtype}, not numbers",
            where=f"{part.path}:{printable(name)}",
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
        raise InputError(
            f"times in column '{printable(name)}' are in mixed units",
            where=f"{part.place(kept[ROW][at], name)} and {part.place(kept[ROW][other_at], name)}",
            why=f"{values[at]} looks like {unit}, {values[other_at]} like {other}",
            fix="bring them to one unit",
        )
    part.time_unit = parsed.unit or times.unit_of(values)
    part.time_in_millionths = parsed.in_millionths
    if parsed.note:
        part.notes.append(f"{part.path.name}: {parsed.note}")
    return kept.with_columns(values.alias("time"))
