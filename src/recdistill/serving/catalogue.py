"""Who and what a model knows: ids to rows and back, titles, and what each user had."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recdistill.errors import InputError
from recdistill.export.names import HISTORIES, ITEMS, USERS

Rows = npt.NDArray[np.int64]
NONE: Rows = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Histories:
    """What each user had.

    Attributes:
        ends: int64 ``[n_users + 1]``; user ``u`` has ``item[ends[u]:ends[u + 1]]``.
        item: int32 ``[N]``, the oldest first where the order counts.
        read: bool ``[N]``, which of them a model of sets reads; None for all.
    """

    ends: Rows
    item: npt.NDArray[np.int32]
    read: npt.NDArray[np.bool_] | None = None

    def had(self, user: int) -> Rows:
        """All items of a user."""
        return self.item[self.ends[user] : self.ends[user + 1]].astype(np.int64)

    def known(self, user: int) -> Rows:
        """The items that a model reads."""
        had = self.had(user)
        return had if self.read is None else had[self.read[self.ends[user] : self.ends[user + 1]]]


@dataclass(frozen=True)
class Catalogue:
    """The user's own ids, in the order of a model's rows.

    Attributes:
        items: id of each row.
        titles: of each row; empty where the data have none.
        item_row, user_row: id to row.
        histories: None where the bundle has none.
        popular: rows of items, those that most users have first; empty without histories.
    """

    items: list[str]
    titles: list[str]
    item_row: dict[str, int]
    user_row: dict[str, int]
    histories: Histories | None = None
    popular: Rows = field(default_factory=lambda: NONE)
    folded: list[str] = field(default_factory=list)

    def rows(self, ids: list[str]) -> tuple[Rows, list[str]]:
        """Rows of item ids, in their order, and the ids that are not in the catalogue."""
        found = [self.item_row.get(one, -1) for one in ids]
        unknown = [one for one, row in zip(ids, found, strict=True) if row < 0]
        return np.array([row for row in found if row >= 0], np.int64), unknown

    def shown(self, row: int) -> dict[str, str]:
        """An item as an answer names it."""
        return {"item": self.items[row], "title": self.titles[row]} if self.titles else {"item": self.items[row]}

    def search(self, text: str, limit: int) -> list[int]:
        """Rows of items whose title or id has ``text`` in it; those that begin with it first."""
        wanted = text.casefold().strip()
        begin: list[int] = []
        inside: list[int] = []
        for row, words in enumerate(self.folded):
            if wanted in words:
                (begin if words.startswith(wanted) else inside).append(row)
                if len(begin) >= limit:
                    break
        return [*begin, *inside][:limit]


def read_catalogue(folder: Path) -> Catalogue:
    """From the files of a bundle.

    Raises:
        InputError: they say something else than a bundle's do.
    """
    try:
        users, items = frame(folder / USERS, "user"), frame(folder / ITEMS, "item")
        names = strings(items["item"])
        titles = strings(items["title"]) if "title" in items.columns else []
        user_row = {name: row for row, name in enumerate(strings(users["user"]))}
        item_row = {name: row for row, name in enumerate(names)}
        if len(user_row) != len(users) or len(item_row) != len(names) or not names:
            raise ValueError("an id stands there twice, or there is none")
        histories = read_histories(folder, len(user_row), len(names))
    except (KeyError, ValueError, TypeError) as error:
        raise unreadable(folder, error) from error
    counts = np.bincount(histories.item, minlength=len(names)) if histories else np.zeros(0, np.int64)
    folded = [f"{title} {name}".casefold() if title else name.casefold()
              for title, name in zip(titles or [""] * len(names), names, strict=True)]  # fmt: skip
    return Catalogue(names, titles, item_row, user_row, histories, np.argsort(-counts, kind="stable"), folded)


def read_histories(folder: Path, n_users: int, n_items: int) -> Histories | None:
    """None where the bundle was written without."""
    if not (folder / HISTORIES).is_file():
        return None
    pairs = frame(folder / HISTORIES, "user", "item")
    user, item = (pairs[name].to_numpy() for name in ("user", "item"))
    inside = (user >= 0) & (user < n_users) & (item >= 0) & (item < n_items)
    if not inside.all():
        raise ValueError(f"{HISTORIES} has rows that are neither users nor items")
    if "read" in pairs.columns and pairs["read"].to_numpy().dtype != bool:
        raise TypeError(f"{HISTORIES}: read is no column of true and false")
    order = np.argsort(user, kind="stable")
    ends = np.concatenate([np.zeros(1, np.int64), np.bincount(user, minlength=n_users).cumsum()])
    read = pairs["read"].to_numpy()[order] if "read" in pairs.columns else None
    return Histories(ends, item[order].astype(np.int32), read)


def frame(file: Path, *columns: str) -> Any:
    """A Parquet file that has these columns.

    Raises:
        InputError: it is missing or no such file.
    """
    import polars as pl

    if not file.is_file():
        raise InputError(
            f"there is no {file.name}", where=str(file.parent), why="ids can't be turned into rows without it",
            fix="export=[bundle,onnx] writes both parts of what is served",
        )  # fmt: skip
    try:
        found = pl.read_parquet(file, memory_map=False)
        if not set(columns) <= set(found.columns):
            raise ValueError(f"it has the columns {', '.join(found.columns)}, not {', '.join(columns)}")
        return found
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise unreadable(file, error) from error


def strings(column: Any) -> list[str]:
    """A column as text; "" where it is missing."""
    import polars as pl

    found: list[str] = column.cast(pl.String).fill_null("").to_list()
    return found


def unreadable(where: Path, error: Exception) -> InputError:
    return InputError(
        f"{where.name} can't be read", where=str(where), why=f"{type(error).__name__}: {error}", fix="export again"
    )
