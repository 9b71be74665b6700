"""Names of columns, and how a bad row is met: an error with its place, or a counted drop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from recdistill.data.sources.files import nearest, override, printable
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


Name = str | int
"""Of a column; a number is the place of one in a file without a header, from 0."""


@dataclass(frozen=True)
class Columns:
    """Names in the file of what is read from it; ``value`` and ``time`` may be absent."""

    user: str
    item: str
    value: str | None = None
    time: str | None = None

    @classmethod
    def of(cls, user: Name, item: Name, value: Name | None, time: Name | None) -> Columns:
        """From names and places."""
        return cls(str(user), str(item), None if value is None else str(value), None if time is None else str(time))

    def present(self) -> dict[str, str]:
        """Our name to the file's, for those asked for."""
        pairs = {"user": self.user, "item": self.item, "value": self.value, "time": self.time}
        return {ours: theirs for ours, theirs in pairs.items() if theirs is not None}


@dataclass
class Part:
    """What one file gave, or several that are one table, and how their bad rows are met.

    Attributes:
        path: the file or the folder.
        events: ``user``, ``item``, ``value`` and ``time`` where asked for, and the context features.
        first_row: number of the first data row of each file, as the user counts: 2 below a header.
        time_in_millionths: whether times are millionths of what the file says.
        starts: row number at which each file begins, where there are several.
        keys: config key of our name of a column, ``data.NAME`` where it is not given.
        key: that of the path.
    """

    path: Path
    on_bad_rows: OnBadRows = "error"
    first_row: int = 2
    starts: dict[int, Path] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    key: str = "data.path"
    events: pl.DataFrame = field(default_factory=pl.DataFrame)
    dropped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    time_unit: Unit = "s"
    time_in_millionths: bool = False

    def place(self, row: int, name: str = "") -> str:
        """``file:row:column`` of a row number, for messages.

        Args:
            name: the file's name of the column.
        """
        start = max((start for start in self.starts if start <= row), default=0)
        file = self.starts.get(start, self.path)
        return f"{file}:{row - start + self.first_row}" + (f":{printable(name)}" if name else "")

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
        # Where most rows are bad, the config is wrong and not the rows.
        drop = "" if is_most(bad) else ", or leave such rows out: data.on_bad_rows=drop"
        raise InputError(
            f"{reason} in column '{printable(name)}': {_shown(row[column])}"
            + (f" (and {more} more rows)" if more else ""),
            where=self.place(row[ROW], name),
            fix=fix + drop,
        )


def is_most(bad: pl.Series) -> bool:
    """Whether more than half of the rows are bad."""
    return 2 * int(bad.sum()) > len(bad)


def other_column(ours: str, name: str, meant: str, keys: Mapping[str, str] | None) -> str:
    """What to change in the config for the column ``meant`` in place of ``name``.

    Args:
        keys: config key of our name of a column, ``data.NAME`` where it is not given.
    """
    key = (keys or {}).get(ours, f"data.{ours}")
    listed = key.endswith(("columns", "only", "keys", "scores"))  # a key that names several columns
    return f"'{meant}' in place of '{name}' in {key}" if listed else override(key, meant)


def _shown(value: object) -> str:
    return "nothing there" if value is None or not str(value).strip() else repr(value)


def missing_columns(
    path: Path,
    wanted: dict[str, str],
    found: Sequence[str],
    where: str,
    *,
    header: bool = True,
    keys: Mapping[str, str] | None = None,
) -> InputError:
    """The error for a table without a wanted column: what there is, and the column that is likely meant.

    Args:
        header: whether ``found`` was read from the file.
        keys: config key of our name of a column, ``data.NAME`` where it is not given.
    """
    absent = {ours: theirs for ours, theirs in wanted.items() if theirs not in found}
    free = [name for name in found if name not in wanted.values()]
    fixes = []
    for ours, theirs in absent.items():
        meant = likely_column(ours, theirs, free)
        fixes.append(other_column(ours, theirs, meant or "COLUMN", keys))
        free = [name for name in free if name != meant]
    number = "1 column" if len(found) == 1 else f"{len(found)} columns"
    why = f"{number} found: {list(found)[:20]}; needed: {list(dict.fromkeys(wanted.values()))}"
    if found and all(_is_number(name) for name in found):
        fixes = [f"data.{ours}={at}" for at, ours in enumerate(wanted)]
        if header:
            why += "\nthe first line holds numbers: the file seems to have no header line"
            fixes.insert(0, "data.header=false")
        fixes.append("(a column's place, from 0, is its name)")
    names = ", ".join(f"'{printable(name)}'" for name in absent.values())
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
