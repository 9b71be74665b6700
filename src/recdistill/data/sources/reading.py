"""From files to checked events: text, JSON lines and Parquet in, ``user``, ``item``, ``value`` and ``time`` out.

Everything in a text file is read as text, so that an id never passes through a number: "01" is not "1", "NA"
is an id, and 2**64 stays exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from recdistill.data.sources import only, times
from recdistill.data.sources.files import printable
from recdistill.data.sources.folders import data_files
from recdistill.data.sources.forms import time_format_for
from recdistill.data.sources.frames import Form, read_frame
from recdistill.data.sources.numbers import Decimal, other_decimal, to_numbers
from recdistill.data.sources.rows import ROW, Columns, OnBadRows, Part, is_most
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
        only: texts of a column; rows that have none of them there are left out and counted, before all else.
        context: columns that are features of the event, by the name that they get.
        key: config key of the path, for messages.
    """

    columns: Columns
    form: Form = field(default_factory=Form)
    on_bad_rows: OnBadRows = "error"
    context: Mapping[str, Column] = field(default_factory=dict)
    key: str = "data.path"
    only: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def read(self, path: str | Path) -> Part:
        """The checked events of one file, or of all files of a folder or a pattern.

        Raises:
            InputError: for a file or a row that can't be read, with the place.
        """
        files = data_files(path, self.key)
        whole = files[0] if len(files) == 1 else Path(path)
        context = {name: column.name_in_file(name) for name, column in self.context.items()}
        chosen = {only.column_of(name): name for name in self.only}
        keys = {**dict.fromkeys(context, "data.features.context.columns"), **dict.fromkeys(chosen, "data.only")}
        part = Part(whole, self.on_bad_rows, keys=keys)
        frame = read_frame(files, {**self.columns.present(), **context, **chosen}, self.form, part)
        frame = only.kept(frame, self.only, part)
        part.events = self._with_context(_checked(frame, self.columns.present(), self.form, part), part)
        if not part.events.height:
            counts = ", ".join(f"{reason}: {count}" for reason, count in part.dropped.items())
            raise InputError(f"no row of '{whole}' is usable", where=str(whole), why=counts, fix="repair the file")
        return part

    def _with_context(self, frame: pl.DataFrame, part: Part) -> pl.DataFrame:
        def place(at: int) -> str:
            return part.place(frame[ROW][at])

        features = [
            to_kind(frame[name], column.kind, column.name_in_file(name), place, column.separator, self.form.decimal)
            for name, column in self.context.items()
        ]
        return frame.drop(ROW).with_columns(features)


def _checked(frame: pl.DataFrame, wanted: dict[str, str], form: Form, part: Part) -> pl.DataFrame:
    for column in ("user", "item"):
        bare = frame[column].str.strip_chars()
        part.warnings += _told_apart_by_blanks(frame[column], bare, column, part)
        bad = frame[column].is_null() | (bare == "")
        frame = part.reject(frame, bad, f"missing {column} id", column, wanted[column], "fill it in")
    if "value" in wanted:
        frame = _with_values(frame, wanted["value"], form.decimal, part)
    if "time" in wanted:
        frame = _with_times(frame, wanted["time"], form.time_format, part)
    return frame


def _told_apart_by_blanks(ids: pl.Series, bare: pl.Series, side: str, part: Part) -> list[str]:
    """A warning where ids are alike but for the blanks around them: they stay different ids.

    Args:
        bare: the ids without these blanks.
    """
    padded = (ids != bare).fill_null(False) & (bare != "")
    if not padded.any():
        return []
    distinct = pl.DataFrame({"id": ids, "bare": bare}).filter(bare.is_in(bare.filter(padded).unique().implode()))
    alike = distinct.drop_nulls().unique().group_by("bare").agg(pl.col("id").sort())
    alike = alike.filter(pl.col("id").list.len() > 1).sort("bare")
    if not alike.height:
        return []
    first = " and ".join(map(repr, alike["id"][0][:2]))
    number = int(alike["id"].list.len().sum())
    return [f"{part.path.name}: {number:,} {side} ids differ from others only in blanks around them, such as {first}"]


def _with_values(frame: pl.DataFrame, name: str, decimal: Decimal, part: Part) -> pl.DataFrame:
    values = frame["value"]
    if values.dtype == pl.String:
        values = values.str.strip_chars()
    elif not values.dtype.is_numeric() and values.dtype != pl.Boolean:
        raise InputError(
            f"column '{printable(name)}' is {values.dtype}, not numbers",
            where=f"{part.path}:{printable(name)}",
            fix="data.value=null",
        )
    numbers = to_numbers(values, decimal)
    bad = ~(numbers.is_finite().fill_null(False))
    other = other_decimal(values.filter(bad), decimal) if bad.any() else None
    fix = f"data.decimal={other}" if other else "repair it"
    frame = part.reject(frame, bad, "a value that is no finite number", "value", name, fix)
    return frame.with_columns(numbers.filter(~bad).alias("value"))


def _with_times(frame: pl.DataFrame, name: str, form: str | None, part: Part) -> pl.DataFrame:
    parsed = times.parse(frame["time"], form)
    bad = parsed.values.is_null()
    reason = f"a time that is not {parsed.kind}"
    fix = time_format_for(frame["time"].filter(bad)) if is_most(bad) else "repair it"
    kept = part.reject(frame, bad, reason, "time", name, fix)
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
    part.warnings += _odd_times(kept, values, part)
    if parsed.note:
        part.notes.append(f"{part.path.name}: {parsed.note}")
    return kept.with_columns(values.alias("time"))


def _odd_times(frame: pl.DataFrame, values: pl.Series, part: Part) -> list[str]:
    """A warning where a few of many clock times are of another age: they stay, and a filter can leave them out."""
    odd = times.odd_dates(values, part.time_unit)
    if not odd.any() or is_most(odd):
        return []
    at = odd.arg_max() or 0
    return [
        f"{int(odd.sum()):,} of {len(values):,} times are before 1973 or after 2099 (taken as {part.time_unit}), the "
        f"first, {values[at]}, at {part.place(frame[ROW][at])}; to leave them out: data.filters.after=1973-01-01 "
        "data.filters.before=2100-01-01"
    ]
