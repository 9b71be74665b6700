"""Numbers from text, with a decimal point or a decimal comma."""

from __future__ import annotations

from typing import Literal

import polars as pl

Decimal = Literal["point", "comma"]
_WRITTEN: dict[Decimal, str] = {"point": r"^[+-]?\d*\.\d+$", "comma": r"^[+-]?\d*,\d+$"}


def to_numbers(column: pl.Series, decimal: Decimal = "point") -> pl.Series:
    """Float64 of a column of text or numbers, null for what is none.

    Among decimal commas a point is refused: in ``1.234`` it may part the thousands.
    """
    if column.dtype != pl.String or decimal == "point":
        try:
            return column.cast(pl.Float64, strict=False)
        except pl.exceptions.InvalidOperationError:  # lists, objects, bytes
            return pl.Series(column.name, [None] * len(column), pl.Float64)
    commas = column.set(column.str.contains(".", literal=True), None)
    return commas.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)


def other_decimal(odd: pl.Series, given: Decimal) -> Decimal | None:
    """The decimal sign that most of the cells have which are no numbers under the given one; None for neither."""
    other: Decimal = "comma" if given == "point" else "point"
    if odd.dtype != pl.String:
        return None
    return other if 2 * int(odd.str.strip_chars().str.contains(_WRITTEN[other]).sum()) > len(odd) else None
