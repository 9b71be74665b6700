"""What is left out before the split, and the account of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from annotated_types import Ge

from recdistill.errors import InputError

Repeats = Literal["first", "last"]


@dataclass(frozen=True)
class Step:
    """One filter's account: ``[before, after]`` of rows, users and items."""

    filter: str
    rows: list[int]
    users: list[int]
    items: list[int]


class Filters:
    """Rating threshold, then one event a user-item pair, then the k-core: in this order.

    Args:
        k_core: users and items with fewer distinct partners are left out, over and over until none is left;
            0 turns it off. It counts all parts, so the test part has a say in who stays.
        min_value: events of a lower value are left out; None turns it off.
        repeats: which event of a user-item pair stays, by time, or by row order where there is no time. In a
            given split, pairs repeat only within a part.
    """

    def __init__(
        self,
        k_core: Annotated[int, Ge(0)] = 0,
        min_value: float | None = None,
        repeats: Repeats = "first",
    ):
        self.k_core, self.min_value, self.repeats = k_core, min_value, repeats

    def settings(self) -> dict[str, Any]:
        """The arguments, as plain values."""
        return {"k_core": self.k_core, "min_value": self.min_value, "repeats": self.repeats}

    def apply(self, events: pl.DataFrame) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
        """The events that stay, and the account of each filter in plain containers.

        Args:
            events: ``user`` and ``item`` (any ids), optionally ``value``, ``time`` and ``part``.

        Raises:
            InputError: when nothing is left, with the counts by filter; when ``min_value`` has no value to
                judge.
        """
        steps: list[Step] = []
        if self.min_value is not None:
            kept = at_least(events, self.min_value)
            steps.append(_step(f"min_value={self.min_value:g}", events, kept))
            events = kept
        kept = one_per_pair(events, self.repeats)
        steps.append(_step(f"repeats={self.repeats}", events, kept))
        events = kept
        if self.k_core > 1:
            kept = k_core(events, self.k_core)
            steps.append(_step(f"k_core={self.k_core}", events, kept))
            events = kept
        if not events.height:
            raise _all_gone(steps)
        return events, [asdict(step) for step in steps]


def at_least(events: pl.DataFrame, min_value: float) -> pl.DataFrame:
    """Events whose value is ``min_value`` or more."""
    if "value" not in events.columns:
        raise InputError(
            "a rating threshold needs ratings",
            where="data.filters.min_value",
            why="the source has no value column",
            fix="data.value=COLUMN or data.filters.min_value=null",
        )
    return events.filter(pl.col("value") >= min_value)


def one_per_pair(events: pl.DataFrame, keep: Repeats) -> pl.DataFrame:
    """One event for each user and item, the first or the last.

    By time, then value, so that the order of rows has no say; by row order where there is no time.
    """
    pair = [name for name in ("user", "item", "part") if name in events.columns]
    order = [name for name in ("time", "value") if name in events.columns]
    if "time" in order:
        events = events.sort([*pair, *order])
    return events.unique(pair, keep=keep, maintain_order=True)


def k_core(events: pl.DataFrame, k: int) -> pl.DataFrame:
    """The largest part of the events in which each user and each item has at least ``k`` events."""
    user, item = codes(events["user"]), codes(events["item"])
    rows = np.arange(events.height)
    while rows.size:
        users, items = np.bincount(user[rows]), np.bincount(item[rows])
        keep = (users[user[rows]] >= k) & (items[item[rows]] >= k)
        if keep.all():
            break
        rows = rows[keep]
    return events[rows]


def codes(ids: pl.Series) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Dense integers of ids, int64 ``[N]``, numbered in sorted order; integers are taken as they are."""
    if ids.dtype.is_integer():
        return ids.to_numpy().astype(np.int64, copy=False)
    return ids.cast(pl.Enum(ids.unique().sort())).to_physical().to_numpy().astype(np.int64)


def _step(name: str, before: pl.DataFrame, after: pl.DataFrame) -> Step:
    sizes = [(frame.height, frame["user"].n_unique(), frame["item"].n_unique()) for frame in (before, after)]
    rows, users, items = (list(pair) for pair in zip(*sizes, strict=True))
    return Step(name, rows, users, items)


def _all_gone(steps: list[Step]) -> InputError:
    counts = "\n".join(f"{step.filter}: {step.rows[0]} rows -> {step.rows[1]}" for step in steps)
    return InputError(
        "the filters leave nothing",
        where="data.filters",
        why=counts,
        fix="loosen the one that took the most, such as data.filters.k_core=0",
    )
