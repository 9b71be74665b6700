"""Splits that draw events at random, whatever their time."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import polars as pl
from annotated_types import Ge, Interval

from recdistill.data.sources.base import TEST, TRAIN, VALID
from recdistill.data.splits.base import Assignment, Split, by_content, check_shares, scatter
from recdistill.errors import InputError

_FIRST = ("user", "item", "time", "value")


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
        check_shares(valid, test)
        self.valid, self.test, self.seed = valid, test, seed

    def assign(self, events: pl.DataFrame) -> Assignment:
        order = by_content(events, _FIRST)
        rank = np.random.default_rng(self.seed).permutation(events.height)
        n_test = round(events.height * self.test)
        n_valid = round(events.height * self.valid)
        part = np.where(rank < n_test, TEST, np.where(rank < n_test + n_valid, VALID, TRAIN))
        return Assignment(scatter(part, order))


class KFold(Split):
    """One fold of a cross-validation: user-item pairs (of a table: rows) are dealt at random into equal folds, of which
    one is the test part.

    Over all folds of a seed each is tested on once; repeats of a pair stay together. Time leaks.

    Args:
        folds: how many; their sizes differ by one pair at most.
        fold: which is the test part, from 1.
        valid: share of all pairs, drawn from the other folds.
        seed: of the deal.
    """

    leaks_time = True
    no_test = ("they are fewer than data.split.folds={folds}", "data.split.folds=2, or a longer log")

    def __init__(
        self,
        folds: Annotated[int, Ge(2)] = 5,
        fold: Annotated[int, Ge(1)] = 1,
        valid: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        seed: Annotated[int, Ge(0)] = 0,
    ):
        if fold > folds:
            raise InputError(
                f"there is no fold {fold} of {folds}",
                where="data.split.fold",
                why="folds are numbered from 1",
                fix=f"-m data.split.fold={','.join(str(number + 1) for number in range(min(folds, 20)))}",
            )
        check_shares(valid, 1 / folds)
        self.folds, self.fold, self.valid, self.seed = folds, fold, valid, seed

    def assign(self, events: pl.DataFrame) -> Assignment:
        order = by_content(events, _FIRST)
        pair = np.arange(events.height)
        if "user" in events.columns:
            pair = order.select(pl.struct("user", "item").rle_id().cast(pl.Int64)).to_series().to_numpy()
        pairs = int(pair.max(initial=-1)) + 1
        start, end = (pairs * number // self.folds for number in (self.fold - 1, self.fold))
        # The deal is one circle for all folds; the test part of this one begins at its place 0.
        place = (np.random.default_rng(self.seed).permutation(pairs) - start) % max(pairs, 1)
        n_test, n_valid = end - start, round(pairs * self.valid)
        part = np.where(place < n_test, TEST, np.where(place < n_test + n_valid, VALID, TRAIN))[pair]
        return Assignment(scatter(part, order))
