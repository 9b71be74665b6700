"""Times as integers: from numbers, dates, ISO text and text of a given form, and the unit that they are in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

from recdistill.errors import InputError

Unit = Literal["s", "ms", "us", "ns", "step"]
# Clock times of 1973 to 2286, by unit. Between them nothing is claimed.
_RANGES: dict[Unit, tuple[int, int]] = {
    "s": (10**8, 10**10),
    "ms": (10**11, 10**13),
    "us": (10**14, 10**16),
    "ns": (10**17, 9 * 10**18),
}
_MICRO = 1_000_000
_YEAR_1973, _YEAR_2100 = 94_694_400, 4_102_444_800  # unix seconds
_PER_SECOND: dict[Unit, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_FORMS = ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f", "%+")
_ISO = "a date in one ISO form (such as 2024-12-31 or 2024-12-31T23:59:59Z)"


@dataclass(frozen=True)
class Times:
    """Parsed times.

    Attributes:
        values: Int64, null where a time could not be read.
        kind: what the column holds, for messages.
        unit: where the text says it; None to be judged from the size of the numbers.
        in_millionths: whether the values are millionths of what the file says.
    """

    values: pl.Series
    kind: str
    unit: Unit | None = None
    note: str = ""
    in_millionths: bool = False


def parse(column: pl.Series, form: str | None = None) -> Times:
    """Integers of a column of integers, floats, dates or text; the majority kind decides what is an error.

    Args:
        form: of the text, such as ``%d.%m.%Y %H:%M``; None for integers and ISO text.

    Raises:
        InputError: for a form that is none.
    """
    if form and not column.dtype.is_temporal():
        return _of_dates(by_form(column.cast(pl.String, strict=False).str.strip_chars(), form), f"of the form {form}")
    if column.dtype.is_integer():
        return Times(column.cast(pl.Int64, strict=False), "an integer")
    if column.dtype.is_float():
        return _of_floats(column)
    if column.dtype.is_temporal() and column.dtype not in (pl.Time, pl.Duration):
        return _of_dates(column.cast(pl.Datetime("us")))
    text = column.cast(pl.String, strict=False).str.strip_chars()
    whole = text.cast(pl.Int64, strict=False)
    if whole.null_count() == 0:
        return Times(whole, "an integer")
    numbers = text.cast(pl.Float64, strict=False)
    if numbers.null_count() * 2 <= len(text):
        # Integers keep their digits beyond 2**53.
        return _of_floats(numbers) if whole.null_count() > numbers.null_count() else Times(whole, "an integer")
    return _of_dates(_dates(text))


def _of_floats(numbers: pl.Series) -> Times:
    numbers = pl.select(pl.when(numbers.is_finite()).then(numbers)).to_series()
    known = numbers.drop_nulls()
    if (known == known.floor()).all():
        return Times(numbers.cast(pl.Int64, strict=False), "a number")
    micro = (numbers * _MICRO).round(0).cast(pl.Int64, strict=False)
    return Times(micro, "a number", note="times have fractions: kept as millionths", in_millionths=True)


def _dates(text: pl.Series) -> pl.Series:
    """Datetimes of ISO text; the form under which most of it reads wins, and the rest is null."""
    best = pl.Series(text.name, [None] * len(text), dtype=pl.Datetime("us"))
    # No guessing: 01/02/2024 is January to some and February to others.
    for form in _FORMS:
        try:
            iso = text if form == "%+" else text.str.replace("T", " ", literal=True)
            found = iso.str.to_datetime(form, strict=False, time_unit="us")
        except pl.exceptions.PolarsError:
            continue
        if found.null_count() < best.null_count():
            best = found
    return best.cast(pl.Datetime("us"))


def by_form(text: pl.Series, form: str) -> pl.Series:
    """Datetimes of text in a form of strftime, null where it has another; UTC where the form has a zone.

    Raises:
        InputError: for a form that is none.
    """
    if "%H" in form and "%M" not in form:
        text, form = text + ":00", form + ":%M"  # an hour without minutes is none to polars
    try:
        return text.str.to_datetime(form, strict=False, time_unit="us")
    except pl.exceptions.ComputeError as error:
        raise InputError(
            f"{form!r} is no format of times",
            where="data.time_format",
            why=str(error).split("\n")[0],
            fix="data.time_format='%Y-%m-%d %H:%M'",
        ) from error


def _of_dates(dates: pl.Series, kind: str = _ISO) -> Times:
    micro = dates.dt.epoch("us")
    if (micro.drop_nulls() % _MICRO == 0).all():
        return Times(micro // _MICRO, kind, "s", "dates turned into unix seconds")
    return Times(micro, kind, "us", "dates turned into unix microseconds")


def odd_dates(values: pl.Series, unit: Unit) -> pl.Series:
    """Bool ``[N]``: clock times before 1973 or from 2100 on, such as 0 and -1; none where the unit is no clock's."""
    scale = _PER_SECOND.get(unit)
    if scale is None:
        return pl.repeat(False, len(values), dtype=pl.Boolean, eager=True)
    return ~values.is_between(_YEAR_1973 * scale, _YEAR_2100 * scale - 1)


def unit_of(values: pl.Series) -> Unit:
    """The unit that most of the values look like, ``step`` for numbers that are no clock time."""
    counts = {unit: int(values.is_between(*limits).sum()) for unit, limits in _RANGES.items()}
    unit = max(counts, key=lambda key: counts[key])
    return unit if counts[unit] * 2 > len(values) else "step"


def mixed_units(values: pl.Series) -> tuple[tuple[Unit, int], tuple[Unit, int]] | None:
    """Two units that the values look like, each with the position of its first value; None for one unit."""
    found: list[tuple[Unit, int]] = []
    for unit, limits in _RANGES.items():
        at = values.is_between(*limits).arg_max()
        if at is not None and limits[0] <= values[at] <= limits[1]:
            found.append((unit, at))
    return (found[0], found[1]) if len(found) > 1 else None
