"""What every split offers, and what several of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import polars as pl

from recdistill.data.columns import content_order
from recdistill.data.sources.base import POSITION, TEST
from recdistill.data.sources.rows import ROW
from recdistill.errors import InputError

Array = np.ndarray[Any, Any]
Part = np.ndarray[Any, np.dtype[np.int8]]


@dataclass(frozen=True)
class Assignment:
    """A split of given events.

    Attributes:
        part: int8 ``[N]``: 0 train, 1 valid, 2 test, 3 known: never trained on, but known of a user at evaluation.
        cuts: first time of ``valid`` and of ``test``, for a split at cut times.
        note: what the split decided on its own.
    """

    part: Part
    cuts: dict[str, int] = field(default_factory=dict)
    note: str = ""


class Split(ABC):
    """How events are shared out. A split is one class here and one YAML under ``conf/data/split``.

    Attributes:
        leaks_time: whether a model may be trained on events that come after those it is tested on; None where
            it can't be known.
        no_test: why the test part may come out empty, with places for the arguments and ``rows``, and what to type
            then; None where it may be empty.
        compares_users: whether the times of one user are compared with those of another.
    """

    leaks_time: ClassVar[bool | None] = None
    no_test: ClassVar[tuple[str, str] | None] = None
    compares_users: ClassVar[bool] = False

    @property
    def holds_out_items(self) -> bool:
        """Whether all that is tested on are items that training lacks, which only a model that knows items by their
        content can rank."""
        return False

    @abstractmethod
    def assign(self, events: pl.DataFrame) -> Assignment:
        """The part of each row.

        Args:
            events: ``user`` and ``item`` (any ids) or, of a table of examples, neither; ``time`` where there is
                one, ``part`` where it is given.

        Raises:
            InputError: where the events lack what the split needs.
        """

    def settings(self) -> dict[str, Any]:
        """Name and arguments, as plain values."""
        return {"name": type(self).__name__, **vars(self)}


def require_clock(split: Split, time_unit: str) -> None:
    """Raises InputError where a split compares times of users that are only places in the sequence of each."""
    if split.compares_users and time_unit == POSITION:
        raise InputError(
            f"{type(split).__name__} needs times that compare between users",
            where="data.split",
            why="the log has positions in the sequence of each user",
            fix="data/split=leave_one_out, or data/split=user_temporal",
        )


def require_test(split: Split, assignment: Assignment, read: int) -> None:
    """Raises InputError where a split that should give a test part left it empty.

    Args:
        read: rows before the filters.
    """
    if not split.no_test or (assignment.part == TEST).any():
        return
    why, fix = split.no_test
    left = assignment.part.size
    why = why.format(**{**vars(split), "rows": left})
    rows = f"there {'is 1 row' if left == 1 else f'are {left} rows'}"
    if left < read:
        rows += f", which the filters left of {read}"
        fix += ", or loosen data.filters"
    raise InputError("the split leaves no test rows", where="data.split", why=f"{rows}: {why}", fix=fix)


def check_shares(valid: float, test: float) -> None:
    """Raises InputError where nothing is left to train on."""
    if valid + test >= 1:
        raise InputError(
            "the split leaves nothing to train on",
            where="data.split",
            why=f"valid {valid:g} + test {test:g} is 1 or more",
            fix="data.split.valid=0.1 data.split.test=0.1",
        )


def require_side(events: pl.DataFrame, side: str, split: Split) -> None:
    """Raises InputError where a split by users or items meets a table of examples, which has none."""
    if side not in events.columns:
        raise InputError(
            f"{type(split).__name__} splits by {side}, and the data have no {side}s",
            where="data.split",
            why="they are a table of labelled examples",
            fix="data/split=random, data/split=kfold, or data/split=global_temporal where there are times",
        )


def times(events: pl.DataFrame, instead: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The times, int64 ``[N]``, checked to tell events apart.

    Args:
        instead: what to type where they don't.
    """
    if "time" not in events.columns:
        raise InputError(
            "a split by time needs times",
            where="data.split",
            why="the log has no time column",
            fix=f"{instead}, or name a column of times where the config has a key for it: data.time=COLUMN",
        )
    time = events["time"].to_numpy()
    if time.size > 1 and (time == time[0]).all():
        raise InputError(
            "a split by time needs times that differ",
            where="data.split",
            why=f"all {time.size} are {time[0]}",
            fix=f"{instead}, or another column where the config has a key for it: data.time=COLUMN",
        )
    return time


def by_content(events: pl.DataFrame, first: tuple[str, ...]) -> pl.DataFrame:
    """``events`` in an order that doesn't depend on that of its rows, with their row numbers as :data:`ROW`.

    Args:
        first: columns to sort by before all others.
    """
    order = content_order(events.drop("part", strict=False), first)
    return events.select(order).with_row_index(ROW).sort(order, maintain_order=True)


def by_time(events: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """As :func:`by_content`, by user and time; where a user has several events of one time, these are in drawn order.

    The order of their ids would be no better, and not fair: old, popular items often have the smallest ids.
    """
    order = by_content(events, ("user", "time", "item", "value"))
    return order.with_columns(pl.Series("draw", rng.random(events.height))).sort("user", "time", "draw")


def by_draw(events: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """As :func:`by_content`, by user; the events of a user are in drawn order."""
    order = by_content(events, ("user", "item", "value"))
    return order.with_columns(pl.Series("draw", rng.random(events.height))).sort("user", "draw")


def tie_note(order: pl.DataFrame, part: Array) -> str:
    """Says for how many users two events of one time are in different parts; "" for none.

    Args:
        order: from :func:`by_time`.
        part: of its rows.
    """
    user, time = order["user"].to_numpy(), order["time"].to_numpy()
    torn = (user[1:] == user[:-1]) & (time[1:] == time[:-1]) & (part[1:] != part[:-1])
    users = np.unique(user[1:][torn]).size
    if not users:
        return ""
    return f"for {users:,} of {order['user'].n_unique():,} users a cut falls among events of one time: it was drawn"


def runs(user: pl.Series) -> tuple[Array, Array]:
    """Of a sorted column: the length of each row's run, and how many rows of the run come after it."""
    lengths = user.rle().struct.field("len").to_numpy().astype(np.int64)
    end = np.repeat(lengths.cumsum(), lengths)
    return np.repeat(lengths, lengths), end - 1 - np.arange(len(user))


def share_of(count: Array, share: float) -> Array:
    """``share`` of each count, rounded half up, at least 1 unless the share is 0."""
    if not share:
        return np.zeros_like(count)
    return np.maximum(np.floor(count * share + 0.5).astype(np.int64), 1)


def scatter(part: Array, order: pl.DataFrame) -> Part:
    """Parts of sorted rows, put back in the order of the rows."""
    out = np.empty(part.size, dtype=np.int8)
    out[order[ROW].to_numpy()] = part
    return out
