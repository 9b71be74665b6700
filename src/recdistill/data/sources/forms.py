"""The forms of dates that are no ISO text, told for a message; which of them is meant is the user's to say."""

from __future__ import annotations

from datetime import datetime
from itertools import product

import polars as pl

from recdistill.data.sources.files import override

_DATES = (
    "%d.%m.%Y", "%d.%m.%y", "%d/%m/%Y", "%m/%d/%Y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d",
    "%Y.%m.%d", "%d %b %Y", "%b %d, %Y", "%Y-%m-%d",
)  # fmt: skip
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", " %H:%M:%S%.f", " %H:%M:%S %z")
_HEAD = 1000
_EXAMPLE = "%d.%m.%Y %H:%M"
_YEARS = (datetime(1950, 1, 1), datetime(2150, 1, 1))


def time_format_for(column: pl.Series) -> str:
    """What to type for a column whose dates are of another form than was thought.

    Args:
        column: the cells that could not be read.
    """
    text = column.cast(pl.String, strict=False).drop_nulls().head(_HEAD).str.strip_chars()
    found = {form: _n_read(text, form) for form in ("".join(parts) for parts in product(_DATES, _CLOCKS))}
    most = max(found.values())
    if 2 * most <= len(text) or not most:
        return f"{override('data.time_format', _EXAMPLE)}, or whatever their form is"
    # 01/02/2024 is January to some and February to others.
    return ", or ".join(override("data.time_format", form) for form, count in found.items() if count == most)


def _n_read(text: pl.Series, form: str) -> int:
    """How many cells read as dates of this time under a form; ``%Y`` would take 24 for a year of the Romans."""
    dates = text.str.to_datetime(form, strict=False, time_unit="us").dt.replace_time_zone(None)
    return int(dates.is_between(*_YEARS).sum())
