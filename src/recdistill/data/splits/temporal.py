"""Splits by time: at two moments for all users, or user by user."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import polars as pl
from annotated_types import Ge, Interval

from recdistill.data.sources.base import TEST, TRAIN, VALID
from recdistill.data.splits.base import (
    Assignment,
    Split,
    by_draw,
    by_time,
    check_shares,
    require_side,
    runs,
    scatter,
    share_of,
    tie_note,
    times,
)
from recdistill.errors import InputError

_NO_LONG_USER = ("no user has 3 rows, the fewest that can be split", "data/split=random, or a longer log")


class GlobalTemporal(Split):
    """Two moments cut the log in three: what is tested on lies after what was trained on.

    Rows of one time fall on one side, so the shares are met as closely as the times allow.

    Args:
        valid, test: shares of all rows.
    """

    leaks_time = False
    compares_users = True

    def __init__(
        self,
        valid: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        test: Annotated[float, Interval(gt=0, lt=1)] = 0.1,
    ):
        check_shares(valid, test)
        self.valid, self.test = valid, test

    def assign(self, events: pl.DataFrame) -> Assignment:
        time = times(events, "data/split=random")
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
        seed: draws the order of a user's events of one time.
    """

    leaks_time = True
    no_test = _NO_LONG_USER

    def __init__(
        self,
        valid: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        test: Annotated[float, Interval(gt=0, lt=1)] = 0.1,
        seed: Annotated[int, Ge(0)] = 0,
    ):
        check_shares(valid, test)
        self.valid, self.test, self.seed = valid, test, seed

    def assign(self, events: pl.DataFrame) -> Assignment:
        require_side(events, "user", self)
        times(events, "data/split=random")
        order = by_time(events, np.random.default_rng(self.seed))
        count, from_end = runs(order["user"])
        n_test = np.minimum(share_of(count, self.test), count - (2 if self.valid else 1))
        n_valid = np.minimum(share_of(count, self.valid), count - 1 - n_test)
        part = np.where(from_end < n_test, TEST, np.where(from_end < n_test + n_valid, VALID, TRAIN))
        part[count < 3] = TRAIN
        return Assignment(scatter(part, order), note=tie_note(order, part))


class LeaveOneOut(Split):
    """The last event of each user is for the test, the one before it for validation.

    Source: the protocol of He et al., 2017, "Neural Collaborative Filtering" (arXiv:1708.05031), section 4.1,
    with the full catalogue in place of 100 sampled items. Time leaks: other users' later events are trained
    on.

    Args:
        seed: draws the order of a user's events of one time, and the two events where the log has no time.
    """

    leaks_time = True
    no_test = _NO_LONG_USER

    def __init__(self, seed: Annotated[int, Ge(0)] = 0):
        self.seed = seed

    def assign(self, events: pl.DataFrame) -> Assignment:
        require_side(events, "user", self)
        timed, rng = "time" in events.columns, np.random.default_rng(self.seed)
        if timed:
            times(events, "data.time=null (two events of each user are then drawn at random)")
        order = by_time(events, rng) if timed else by_draw(events, rng)
        count, from_end = runs(order["user"])
        part = np.where(count < 3, TRAIN, np.select([from_end == 0, from_end == 1], [TEST, VALID], TRAIN))
        drawn = f"the log has no time: two events of each user were drawn at random (seed {self.seed})"
        return Assignment(scatter(part, order), note=tie_note(order, part) if timed else drawn)


def _nearest(before: np.ndarray[Any, Any], rows: int, share: float, low: int, high: int) -> int:
    """The cut in ``[low, high)`` that leaves nearest to ``share`` of the rows behind it."""
    return low + int(np.abs(before[low:high] - share * rows).argmin())
