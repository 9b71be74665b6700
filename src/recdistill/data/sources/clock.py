"""The times of a table in several files: integers, ISO text, or a format of one's own."""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

from recdistill.data.sources import times
from recdistill.data.sources.base import Kind
from recdistill.data.sources.forms import time_format_for
from recdistill.data.sources.grid import Grid
from recdistill.data.sources.rows import is_most
from recdistill.errors import InputError

_DAY = {"hour_of_day": "%H", "weekday": "%u"}  # Monday is 1
_TIMES = "data.time is the column of times, data.time_format their form"


class Clock:
    """Reads the times of each file, and sees to it that they are in one unit.

    Args:
        column: of the times; None where there are none.
        form: the format of their text; None for integers and ISO text.
        taken: names that features have already.

    Attributes:
        kinds: the features that a format gives.
        unit, note: of the times so far.
    """

    def __init__(self, column: str | None, form: str | None, taken: Collection[str] = ()):
        self.column, self.format = column, form if column else None
        self.kinds: dict[str, Kind] = {name: "categorical" for name in _DAY if self.format and name not in taken}
        self.unit, self.note = "s", ""
        self._seen: dict[str, str] = {}

    def read(self, grid: Grid) -> list[pl.Series]:
        """``time`` of a file; with a format, the features that it gives as well."""
        assert self.column is not None
        if self.format:
            return self._by_format(grid, self.column, self.format)
        parsed = times.parse(grid.cells[self.column])
        bad = parsed.values.is_null()
        fix = time_format_for(grid.cells[self.column].filter(bad)) if is_most(bad) else "repair it"
        grid.refuse(self.column, bad, f"a time that is not {parsed.kind}", _TIMES, fix)
        if mixed := times.mixed_units(parsed.values):
            (unit, _), (other, at) = mixed
            there = pl.int_range(len(parsed.values), eager=True) == at
            grid.refuse(
                self.column, there, f"a time in {other} among times in {unit}", _TIMES, "bring them to one unit"
            )
        self._agree(grid, parsed.unit or times.unit_of(parsed.values))
        self.note = parsed.note
        return [parsed.values.alias("time")]

    def _by_format(self, grid: Grid, column: str, form: str) -> list[pl.Series]:
        dates = times.by_form(grid.text(column), form)
        grid.refuse(column, dates.is_null(), f"not of the form {form}", _TIMES, "repair it")
        self.note = "times turned into unix seconds"
        features = (dates.dt.to_string(_DAY[name]).alias(name) for name in self.kinds)
        return [dates.dt.epoch("s").alias("time"), *features]

    def _agree(self, grid: Grid, unit: str) -> None:
        self.unit = unit
        self._seen[grid.path.name] = unit
        if len(set(self._seen.values())) > 1:
            raise InputError(
                "the files hold times in different units",
                where=str(grid.path),
                why=", ".join(f"{name}: {found}" for name, found in self._seen.items()),
                fix="bring them to one unit",
            )
