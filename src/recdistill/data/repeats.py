"""Rows that occur more than once, and events that repeat a user-item pair."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from recdistill.data.columns import codes, content_order
from recdistill.data.sources.rows import ROW
from recdistill.errors import InputError

Duplicates = Literal["drop", "error"]
Repeats = Literal["first", "last", "all", "error"]


def without_duplicates(events: pl.DataFrame, policy: Duplicates) -> pl.DataFrame:
    """One of the rows that are alike in all columns, the first.

    Raises:
        InputError: there are such rows, and ``policy`` is ``error``.
    """
    kept = _one_of(events, events.columns, [], "first")
    if policy == "error" and kept.height < events.height:
        raise InputError(
            f"{events.height - kept.height} of {events.height} rows repeat an earlier one in all columns",
            where="data.filters.duplicates",
            why=_example(events, events.columns),
            fix="remove them, or take them as they come: data.filters.duplicates=drop",
        )
    return kept


def one_per_pair(events: pl.DataFrame, keep: Repeats) -> pl.DataFrame:
    """The events of each user with each item that stay: the first, the last, or all.

    First and last by time, then by what else is there, so that the order of rows has no say; by row order where
    there is no time.

    Raises:
        InputError: a pair has several, and ``keep`` is ``error``.
    """
    if keep == "all":
        return events
    pair = [name for name in events.columns if name in ("user", "item", "part")]
    order = content_order(events, first=("time", "value")) if "time" in events.columns else []
    kept = _one_of(events, pair, order, "last" if keep == "last" else "first")
    if keep == "error" and kept.height < events.height:
        raise InputError(
            f"{events.height - kept.height} of {events.height} events repeat a user-item pair",
            where="data.filters.repeats",
            why=_example(events, pair),
            fix="keep one event of each pair (data.filters.repeats=first or last), or all of them (all)",
        )
    return kept


def _one_of(events: pl.DataFrame, columns: list[str], order: list[str], keep: Literal["first", "last"]) -> pl.DataFrame:
    """The first or last row of those that are alike in some columns, in an order of columns; rows keep their order."""
    # Only where a pair occurs twice can more be alike, and a single number a row tells that soonest.
    suspect = _repeated_pairs(events) if "user" in columns else pl.Series([True]).new_from_index(0, events.height)
    if not suspect.any():
        return events
    rows = events.with_row_index(ROW).filter(suspect)
    chosen = rows.sort(order, maintain_order=True) if order else rows
    chosen = chosen.unique(columns, keep=keep, maintain_order=True)
    return events.filter((~suspect).scatter(chosen[ROW], True))


def _repeated_pairs(events: pl.DataFrame) -> pl.Series:
    """bool ``[N]``: whether another row has the same user and item, and the same part where there is one."""
    item = codes(events["item"])
    key = codes(events["user"]) * (int(item.max(initial=0)) + 1) + item
    if "part" in events.columns:
        key = key * 4 + events["part"].to_numpy()
    order = np.argsort(key)
    again = np.flatnonzero(np.diff(key[order]) == 0)
    repeated = np.zeros(key.size, dtype=bool)
    repeated[order[again]] = repeated[order[again + 1]] = True
    return pl.Series(repeated)


def _example(events: pl.DataFrame, columns: list[str]) -> str:
    first = events.filter(events.select(columns).is_duplicated()).row(0, named=True)
    return "the first: " + ", ".join(f"{name} {first[name]!r}" for name in columns if name != "part")
