"""Splits that hold out whole users or whole items, so that training knows nothing of them."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import polars as pl
from annotated_types import Ge, Interval

from recdistill.data.columns import codes
from recdistill.data.sources.base import KNOWN, TEST, TRAIN, VALID
from recdistill.data.splits.base import (
    Array,
    Assignment,
    Split,
    by_content,
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

Share = Annotated[float, Interval(ge=0, lt=1)]
PositiveShare = Annotated[float, Interval(gt=0, lt=1)]


class ColdUser(Split):
    """Users are held out: of each a first share of the events is known at evaluation, and the rest is to be found.

    Strong generalisation, as in Liang, Krishnan, Hoffman and Jebara, "Variational autoencoders for collaborative
    filtering", WWW 2018 (arXiv:1802.05814), section 4.2; there the known events are drawn, here they are the first
    in time where there is time. Users with one event are trained on. Time leaks: other users' later events are
    trained on.

    Args:
        valid, test: shares of the users with two events or more.
        known: share of a held-out user's events, rounded so that one at least is known and one is left to find.
        seed: draws the users, the order of a user's events of one time, and the known events where there is no time.
    """

    leaks_time = True
    no_test = (
        "data.split.test={test:g} of the users with two events or more rounds to 0",
        "data.split.test=0.3, or a longer log",
    )

    def __init__(
        self,
        valid: Share = 0.1,
        test: PositiveShare = 0.1,
        known: PositiveShare = 0.8,
        seed: Annotated[int, Ge(0)] = 0,
    ):
        check_shares(valid, test)
        self.valid, self.test, self.known, self.seed = valid, test, known, seed

    def assign(self, events: pl.DataFrame) -> Assignment:
        require_side(events, "user", self)
        timed, rng = "time" in events.columns, np.random.default_rng(self.seed)
        if timed:
            times(events, "data.time=null (the known events of each user are then drawn at random)")
        order = by_time(events, rng) if timed else by_draw(events, rng)
        user = codes(order["user"])
        part = _drawn(user, self.valid, self.test, rng, at_least=2)[user]
        count, from_end = runs(order["user"])
        to_find = np.minimum(share_of(count, 1 - self.known), count - 1)
        part[(part != TRAIN) & (from_end >= to_find)] = KNOWN
        drawn = f"the log has no time: the known events of each user were drawn at random (seed {self.seed})"
        return Assignment(scatter(part, order), note=tie_note(order, part) if timed else drawn)


class ColdItem(Split):
    """Items are held out, with all their events. Time leaks.

    Source: the item cold start of Volkovs, Yu and Poutanen, "DropoutNet", NIPS 2017.

    Args:
        valid, test: shares of the items.
        seed: draws them.
        warm: share of the other items' events that validation and test get besides, each, so that models which know
            items by their ids have something to be chosen and measured by. One event of each of these items, and of
            each user who has any, stays in training.
    """

    leaks_time = True
    no_test = ("data.split.test={test:g} of the items rounds to 0", "data.split.test=0.3, or a longer log")

    def __init__(
        self, valid: Share = 0.1, test: PositiveShare = 0.1, seed: Annotated[int, Ge(0)] = 0,
        warm: Annotated[float, Interval(ge=0, lt=0.5)] = 0.0,
    ):  # fmt: skip
        check_shares(valid, test)
        self.valid, self.test, self.seed, self.warm = valid, test, seed, warm

    @property
    def holds_out_items(self) -> bool:
        return not self.warm

    def assign(self, events: pl.DataFrame) -> Assignment:
        require_side(events, "item", self)
        order, rng = by_content(events, ("item", "user")), np.random.default_rng(self.seed)
        item = codes(order["item"])
        part = _drawn(item, self.valid, self.test, rng)[item]
        if self.warm:
            trained = (part == TRAIN).nonzero()[0]
            spare = _spare(trained, [codes(order[side]) for side in ("item", "user") if side in order.columns], rng)
            size = min(round(trained.size * self.warm), spare.size // 2)
            part[spare[:size]] = TEST
            part[spare[size : 2 * size] if self.valid else []] = VALID
        return Assignment(scatter(part, order))


def _spare(rows: Array, sides: list[Array], rng: np.random.Generator) -> Array:
    """Some of the rows, in random order, without which each user and item of them still has one."""
    drawn = rng.permutation(rows)
    for side in sides:
        drawn = np.delete(drawn, np.unique(side[drawn], return_index=True)[1])
    return drawn


def _drawn(owner: Array, valid: float, test: float, rng: np.random.Generator, at_least: int = 1) -> Array:
    """The part of each user or item, int8 by code: TEST and VALID for shares of those with enough events."""
    eligible = (np.bincount(owner) >= at_least).nonzero()[0]
    drawn = rng.permutation(eligible)
    n_test, n_valid = round(eligible.size * test), round(eligible.size * valid)
    part = np.full(int(owner.max(initial=0)) + 1, TRAIN, dtype=np.int8)
    part[drawn[:n_test]] = TEST
    part[drawn[n_test : n_test + n_valid]] = VALID
    return part
