"""Names of columns, and how a bad row is met: an error with its place, or a counted drop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from recdistill.data.sources.files import nearest, override
from recdistill.data.sources.times import Unit
from recdistill.errors import InputError

OnBadRows = Literal["error", "drop"]
ROW = "__row__"  # column of the row number, from 0
# What a column of each kind is often called, the likeliest first.
_ITEM = ("item", "item_id", "iid", "product", "product_id", "sku", "movie_id", "article", "asin", "parent_asin")
_USUAL = {
    "user": ("user", "user_id", "uid", "customer", "customer_id", "member", "visitor"),
    "item": _ITEM,
    "title_item": _ITEM,
    "time": ("time", "timestamp", "ts", "date", "datetime", "created_at", "unixReviewTime"),
}


@dataclass(frozen=True)
class Columns:
    """Names in the file of what is read from it; ``value`` and ``time`` may be absent."""

    user: str
    item: str
    value: str | None = None
    time: str | None = None

    def present(self) -> dict[str, str]:
        """Our name to the file's, for those asked for."""
        pairs = {"user": self.user, "item": self.item, "value": self.value, "time": self.time}
        return {ours: theirs for ours, theirs in pairs.items() if theirs is not None}


@dataclass
class Part:
    """What one file gave, and how its bad rows are met.

    Attributes:
        events: ``user``, ``item``, and ``value`` and ``time`` where asked for.
        first_row: number of the first data row, as the user counts: 2 below a header.
    """

    path: Path
    on_bad_rows: OnBadRows = "error"
    first_row: int = 2
    events: pl.DataFrame = field(default_factory=pl.DataFrame)
    dropped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    time_unit: Unit = "s"

    def count(self, reason: str, rows: int) -> None:
        if rows:
            self.dropped[reason] = self.dropped.get(reason, 0) + rows

    def reject(
        self, frame: pl.DataFrame, bad: pl.Series, reason: str, column: str, name: str, fix: str
    ) -> pl.DataFrame:
        """Raise at the first bad row, or leave them out and count them.

        Args:
            bad: bool, one a row of ``frame``.
            column, name: our name of the column at fault, and the file's.
        """
        if not bad.any():
            return frame
        if self.on_bad_rows == "drop":
            self.count(reason, int(bad.sum()))
            return frame.filter(~bad)
        row = frame.filter(bad).row(0, named=True)
        more = int(bad.sum()) - 1
        raise InputError(
            f"{reason} in column '{name}': {_shown(row[column])}" + (f" (and {more} more rows)" if more else ""),
            where=f"{self.path}:{row[ROW] + self.first_row}:{name}",
            fix=f"{fix}, or leave such rows out: data.on_bad_rows=drop",
        )


def _shown(value: object) -> str:
    return "nothing there" if value is None or not str(value).strip() else repr(value)


def missing_columns(path: Path, wanted: dict[str, str], found: Sequence[str], where: str) -> InputError:
    """The error for a table without a wanted column: what there is, and the column that is likely meant."""
    absent = {ours: theirs for ours, theirs in wanted.items() if theirs not in found}
    free = [name for name in found if name not in wanted.values()]
    fixes = []
    for ours, theirs in absent.items():
        meant = likely_column(ours, theirs, free)
        fixes.append(override(f"data.{ours}", meant or "COLUMN"))
        free = [name for name in free if name != meant]
    number = "1 column" if len(found) == 1 else f"{len(found)} columns"
    why = f"{number} found: {list(found)[:20]}; needed: {list(wanted.values())}"
    if found and all(_is_number(name) for name in found):
        why += "\nthe first line holds numbers: the file seems to have no header line"
        fixes = [f"add a first line such as {','.join(wanted.values())}"]
    names = ", ".join(f"'{name}'" for name in absent.values())
    return InputError(f"'{path}' has no column {names}", where=where, why=why, fix=" ".join(fixes))


def likely_column(ours: str, name: str, free: Sequence[str]) -> str | None:
    """The column that was likely meant by ``name``: one much like it, or a usual name for what we call ``ours``.

    Args:
        free: the columns that no other key names.
    """
    close = nearest(name, free)
    if close:
        return close[0]
    plain = {_letters(other): other for other in free}
    usual = (plain.get(_letters(other)) for other in (name, *_USUAL.get(ours, ())))
    return next((other for other in usual if other is not None), None)


def _letters(name: str) -> str:
    return "".join(char for char in name.lower() if char.isalnum())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
