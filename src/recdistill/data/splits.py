"""Which event is for training, which for validation, which for the test; and whether that lets time leak.

All work on columns, all give the same answer whatever the order of rows: ties are broken by content.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
import polars as pl
from annotated_types import Ge, Interval

from recdistill.data.sources.base import TEST, TRAIN, VALID
from recdistill.errors import InputError

Part = np.ndarray[Any, np.dtype[np.int8]]
_NO_LONG_USER = ("no user has 3 rows, the fewest that can be split", "data/split=random, or a longer log")


@dataclass(frozen=True)
class Assignment:
    """A split of given events.

    Attributes:
        part: int8 ``[N]``: 0 train, 1 valid, 2 test.
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
    """

    leaks_time: ClassVar[bool | None] = None
    no_test: ClassVar[tuple[str, str] | None] = None

    @abstractmethod
    def assign(self, events: pl.DataFrame) -> Assignment:
        """The part of each row.

        Args:
            events: ``user`` and ``item`` (any ids), ``time`` where there is one, ``part`` where it is given.

        Raises:
            InputError: where the events lack what the split needs.
        """

    def settings(self) -> dict[str, Any]:
        """Name and arguments, as plain values."""
        return {"name": type(self).__name__, **vars(self)}


class GlobalTemporal(Split):
    """Two moments cut the log in three: what is tested on lies after what was trained on.

    Rows of one time fall on one side, so the shares are met as closely as the times allow.

    Args:
        valid, test: shares of all rows.
    """

    leaks_time = False

    def __init__(
        self,
        valid: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        test: Annotated[float, Interval(gt=0, lt=1)] = 0.1,
    ):
        _check_shares(valid, test)
        self.valid, self.test = valid, test

    def assign(self, events: pl.DataFrame) -> Assignment:
        time = _times(events, "data/split=random")
        distinct, counts = np.unique(time, return_counts=True)
        wanted = 3 if self.valid else 2
        if distinct.size < wanted:
            raise InputError(
                f"{distinct.size} distinct times can't be cut into {wanted} parts",
                where="data.split",
                why="rows of one time stay together",
                fix="data/split=user_temporal, data/split=random",
            )
        # before[i]: rows earlier than distinct[i], the size of what a cut at distinct[i] leaves behind.
        before = counts.cumsum() - counts
        at_test = _nearest(before, time.size, 1 - self.test, low=wanted - 1, high=distinct.size)
        cuts = {"test": int(distinct[at_test])}
        part = np.where(time >= distinct[at_test], TEST, TRAIN).astype(np.int8)
        if self.valid:
            at_valid = _nearest(before, time.size, 1 - self.test - self.valid, low=1, high=at_test)
            cuts = {"valid": int(distinct[at_valid]), **cuts}
            part[(time >= distinct[at_valid]) & (time < distinct[at_test])] = VALID
        return Assignment(part, cuts)


class PerUserTemporal(Split):
    """The last events of each user are for the test, those before them for validation.

    Another user's later events are trained on, so time leaks. Users with fewer than 3 events are trained on
    only.

    Args:
        valid, test: shares of each user's events, rounded, at least one each where the share is above 0.
    """

    leaks_time = True
    no_test = _NO_LONG_USER

    def __init__(
        self,
        valid: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        test: Annotated[float, Interval(gt=0, lt=1)] = 0.1,
    ):
        _check_shares(valid, test)
        self.valid, self.test = valid, test

    def assign(self, events: pl.DataFrame) -> Assignment:
        _times(events, "data/split=random")
        order = _by_content(events, ["user", "time", "item", "value"])
        count, from_end = _runs(order["user"])
        n_test = np.minimum(_share(count, self.test), count - (2 if self.valid else 1))
        n_valid = np.minimum(_share(count, self.valid), count - 1 - n_test)
        part = np.where(from_end < n_test, TEST, np.where(from_end < n_test + n_valid, VALID, TRAIN))
        part[count < 3] = TRAIN
        return Assignment(_scatter(part, order))


class LeaveOneOut(Split):
    """The last event of each user is for the test, the one before it for validation.

    Source: the protocol of He et al., 2017, "Neural Collaborative Filtering" (arXiv:1708.05031), section 4.1,
    with the full catalogue in place of 100 sampled items. Time leaks: other users' later events are trained
    on.

    Args:
        seed: draws the two events where the log has no time.
    """

    leaks_time = True
    no_test = _NO_LONG_USER

    def __init__(self, seed: Annotated[int, Ge(0)] = 0):
        self.seed = seed

    def assign(self, events: pl.DataFrame) -> Assignment:
        note = ""
        if "time" in events.columns:
            _times(events, "data.time=null (two events of each user are then drawn at random)")
            order = _by_content(events, ["user", "time", "item", "value"])
        else:
            note = f"the log has no time: two events of each user were drawn at random (seed {self.seed})"
            order = _by_content(events, ["user", "item", "value"])
            draw = np.random.default_rng(self.seed).random(events.height)
            order = order.with_columns(pl.Series("draw", draw)).sort("user", "draw")
        count, from_end = _runs(order["user"])
        part = np.where(count < 3, TRAIN, np.select([from_end == 0, from_end == 1], [TEST, VALID], TRAIN))
        return Assignment(_scatter(part, order), note=note)


class RandomSplit(Split):
    """Events are drawn at random, whatever their time: time leaks.

    Args:
        valid, test: shares of all rows.
        seed: of the draw.
    """

    leaks_time = True
    no_test = ("data.split.test={test:g} of {rows} rows rounds to 0", "data.split.test=0.3, or a longer log")

    def __init__(
        self,
        valid: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        test: Annotated[float, Interval(gt=0, lt=1)] = 0.1,
        seed: Annotated[int, Ge(0)] = 0,
    ):
        _check_shares(valid, test)
        self.valid, self.test, self.seed = valid, test, seed

    def assign(self, events: pl.DataFrame) -> Assignment:
        order = _by_content(events, ["user", "item", "time", "value"])
        rank = np.random.default_rng(self.seed).permutation(events.height)
        n_test = round(events.height * self.test)
        n_valid = round(events.height * self.valid)
        part = np.where(rank < n_test, TEST, np.where(rank < n_test + n_valid, VALID, TRAIN))
        return Assignment(_scatter(part, order))


class GivenSplit(Split):
    """The split that the source brings. Whether it leaks time is for its author to say."""

    def assign(self, events: pl.DataFrame) -> Assignment:
        if "part" not in events.columns:
            raise InputError(
                "the source brings no split",
                where="data.split",
                fix="data/split=global_temporal, or data=files for train, valid and test files of your own",
            )
        return Assignment(events["part"].to_numpy().astype(np.int8))


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


def _check_shares(valid: float, test: float) -> None:
    if valid + test >= 1:
        raise InputError(
            "the split leaves nothing to train on",
            where="data.split",
            why=f"valid {valid:g} + test {test:g} is 1 or more",
            fix="data.split.valid=0.1 data.split.test=0.1",
        )


def _times(events: pl.DataFrame, instead: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The times, int64 ``[N]``, checked to tell events apart."""
    if "time" not in events.columns:
        raise InputError(
            "a split by time needs times",
            where="data.split",
            why="the log has no time column",
            fix=f"data.time=COLUMN, or {instead}",
        )
    time = events["time"].to_numpy()
    if time.size > 1 and (time == time[0]).all():
        raise InputError(
            "a split by time needs times that differ",
            where="data.split",
            why=f"all {time.size} are {time[0]}",
            fix=f"another column (data.time=COLUMN), or {instead}",
        )
    return time


def _nearest(before: np.ndarray[Any, Any], rows: int, share: float, low: int, high: int) -> int:
    """The cut in ``[low, high)`` that leaves nearest to ``share`` of the rows behind it."""
    return low + int(np.abs(before[low:high] - share * rows).argmin())


def _by_content(events: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    """``events`` in an order that doesn't depend on that of its rows, with their row numbers as ``row``."""
    present = [name for name in columns if name in events.columns]
    return events.select(present).with_row_index("row").sort(present, maintain_order=True)


def _runs(user: pl.Series) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Of a sorted column: the length of each row's run, and how many rows of the run come after it."""
    lengths = user.rle().struct.field("len").to_numpy().astype(np.int64)
    end = np.repeat(lengths.cumsum(), lengths)
    return np.repeat(lengths, lengths), end - 1 - np.arange(len(user))


def _share(count: np.ndarray[Any, Any], share: float) -> np.ndarray[Any, Any]:
    """``share`` of each count, rounded half up, at least 1 unless the share is 0."""
    if not share:
        return np.zeros_like(count)
    return np.maximum(np.floor(count * share + 0.5).astype(np.int64), 1)


def _scatter(part: np.ndarray[Any, Any], order: pl.DataFrame) -> Part:
    """Parts of sorted rows, put back in the order of the rows."""
    out = np.empty(part.size, dtype=np.int8)
    out[order["row"].to_numpy()] = part
    return out
