"""What is left out before the split, and the account of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import numpy as np
import polars as pl
from annotated_types import Ge

from recdistill.data.columns import Codes, codes
from recdistill.data.repeats import Duplicates, Repeats, one_per_pair, without_duplicates
from recdistill.errors import InputError

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_YEARS = range(1900, 2200)
_SIDES = {"users": "user", "items": "item"}


class Filters:
    """Time window, rating threshold, duplicates, repeated pairs, k-core: in this order.

    Of a table of labelled examples, which has neither users nor items, only the first three make sense; rows alike
    are examples of their own there, and kept.

    Args:
        k_core: users and items with fewer distinct partners are left out, over and over until none is left;
            0 turns it off. It counts all parts, so the test part has a say in who stays.
        min_value: events of a lower value are left out; None turns it off.
        repeats: which events of a user-item pair stay: the ``first`` or ``last`` by time, or by row order where there
            is no time; ``all``; or ``error``, which stops where a pair has several. In a given split, pairs repeat
            only within a part. Whatever stays, no pair of an earlier part reaches a later one.
        after: first time that stays, an ISO date (UTC where it names no zone) or an integer in the unit of the log.
        before: first time that is left out, likewise.
        duplicates: ``drop`` keeps one of the rows that are alike in all columns, ``error`` stops at them.

    Raises:
        InputError: ``after`` or ``before`` is no date.
    """

    def __init__(
        self,
        k_core: Annotated[int, Ge(0)] = 0,
        min_value: float | None = None,
        repeats: Repeats = "first",
        after: int | str | None = None,
        before: int | str | None = None,
        duplicates: Duplicates = "drop",
    ):
        self.k_core, self.min_value, self.repeats = k_core, min_value, repeats
        self.after, self.before, self.duplicates = after, before, duplicates
        for name, bound in self._bounds():
            if isinstance(bound, str):
                instant(bound, "s", name)

    def settings(self) -> dict[str, Any]:
        """The arguments, as plain values."""
        return dict(vars(self))

    def apply(self, events: pl.DataFrame, time_unit: str = "s") -> tuple[pl.DataFrame, list[dict[str, Any]]]:
        """The events that stay, and the account of each filter: its name, and rows, users and items before and after.

        Args:
            events: ``user`` and ``item`` (any ids) or neither, optionally ``value``, ``time``, ``part`` and others.
            time_unit: of ``time``.

        Raises:
            InputError: nothing is left, with the counts by filter; a filter lacks the column that it judges; rows
                or pairs occur more than once, and are an error.
        """
        account = _Account(events)
        for name, bound in self._bounds():
            account.step(f"{name}={bound}", within(account.events, name, instant(bound, time_unit, name)))
        if self.min_value is not None:
            account.step(f"min_value={self.min_value:g}", at_least(account.events, self.min_value))
        if "user" in events.columns:
            account.step(f"duplicates={self.duplicates}", without_duplicates(account.events, self.duplicates))
            account.step(f"repeats={self.repeats}", one_per_pair(account.events, self.repeats))
            if self.k_core > 1:
                account.step(f"k_core={self.k_core}", k_core(account.events, self.k_core))
        else:
            self._check_table(account.events)
        if not account.events.height:
            raise _all_gone(account.steps)
        return account.events, account.steps

    def _bounds(self) -> list[tuple[str, int | str]]:
        pairs = (("after", self.after), ("before", self.before))
        return [(name, bound) for name, bound in pairs if bound is not None]

    def _check_table(self, events: pl.DataFrame) -> None:
        if self.k_core > 1:
            raise InputError(
                "a k-core needs users and items",
                where="data.filters.k_core",
                why="the data are a table of labelled examples",
                fix="data.filters.k_core=0",
            )
        if self.duplicates == "error":
            without_duplicates(events, "error")


class _Account:
    """The events on their way through the filters, counted after each.

    Attributes:
        steps: of each filter its name and ``[before, after]`` of rows and, where there are any, users and items.
    """

    def __init__(self, events: pl.DataFrame):
        self.events, self.steps = events, list[dict[str, Any]]()
        self._sizes = _sizes(events)

    def step(self, name: str, kept: pl.DataFrame) -> None:
        same = kept.height == self.events.height
        sizes = self._sizes if same else _sizes(kept)
        self.steps.append({"filter": name, **{key: [count, sizes[key]] for key, count in self._sizes.items()}})
        self.events, self._sizes = kept, sizes


def _sizes(events: pl.DataFrame) -> dict[str, int]:
    sides = {name: events[column].n_unique() for name, column in _SIDES.items() if column in events.columns}
    return {"rows": events.height, **sides}


def instant(bound: int | str, unit: str, key: str) -> int:
    """A bound as an integer time: the first that is not before it.

    Args:
        unit: of the times, see :class:`~recdistill.data.sources.base.RawLog`.
        key: of the filter, for messages.

    Raises:
        InputError: a text that is no ISO date, a date where times are no clock times, or a year as an integer.
    """
    if isinstance(bound, int):
        if unit in _PER_SECOND and bound in _YEARS:
            raise InputError(
                f"{bound} is a time shortly after 1970, in the unit of the log ({unit})",
                where=f"data.filters.{key}",
                fix=f"data.filters.{key}={bound}-01-01 for the year",
            )
        return bound
    try:
        date = datetime.fromisoformat(bound)
    except ValueError as error:
        raise InputError(
            f"{bound!r} is neither an ISO date nor an integer",
            where=f"data.filters.{key}",
            fix=f"data.filters.{key}=2020-01-31 or data.filters.{key}=2020-01-31T12:00:00",
        ) from error
    if unit not in _PER_SECOND:
        raise InputError(
            f"the date {bound} can't be compared with times that are no clock times",
            where=f"data.filters.{key}",
            why="the log's times are plain integers",
            fix=f"give an integer: data.filters.{key}=1000",
        )
    since = (date if date.tzinfo else date.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return -(-(since // timedelta(microseconds=1) * _PER_SECOND[unit]) // 10**6)


def within(events: pl.DataFrame, name: str, bound: int) -> pl.DataFrame:
    """Events from ``bound`` on (``after``) or earlier than it (``before``)."""
    if "time" not in events.columns:
        raise InputError(
            "a time window needs times",
            where=f"data.filters.{name}",
            why="the log has no time column",
            fix=f"data.time=COLUMN or data.filters.{name}=null",
        )
    return events.filter(pl.col("time") >= bound if name == "after" else pl.col("time") < bound)


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


def k_core(events: pl.DataFrame, k: int) -> pl.DataFrame:
    """The events among the most users and items of whom each has at least ``k`` partners among the others."""
    user, item = codes(events["user"]), codes(events["item"])
    n_items = int(item.max(initial=0)) + 1
    pairs = np.sort(user * n_items + item)  # np.unique hashes, which takes ten times as long
    users, items = np.divmod(pairs[np.diff(pairs, prepend=-1) > 0], n_items)
    while users.size:
        keep = (np.bincount(users)[users] >= k) & (np.bincount(items)[items] >= k)
        if keep.all():
            break
        users, items = users[keep], items[keep]
    # Whoever is left is left with all their events with those who are left.
    return events.filter(pl.Series(_among(user, users) & _among(item, items)))


def _among(all_codes: Codes, kept: Codes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    alive = np.zeros(int(all_codes.max(initial=0)) + 1, dtype=bool)
    alive[kept] = True
    return alive[all_codes]


_OFF = {"after": "null", "before": "null", "min_value": "null", "duplicates": "drop", "repeats": "first", "k_core": "0"}


def _all_gone(steps: list[dict[str, Any]]) -> InputError:
    counts = "\n".join("{filter}: {rows[0]} rows -> {rows[1]}".format(**step) for step in steps)
    worst = max(steps, key=lambda step: step["rows"][0] - step["rows"][1])["filter"].partition("=")[0]
    return InputError(
        "the filters leave nothing",
        where="data.filters",
        why=counts,
        fix=f"loosen the one that took the most: data.filters.{worst}={_OFF[worst]}",
    )
