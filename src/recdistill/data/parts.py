"""The parts of a data set: what of them can be evaluated, and the numbers of their users and items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from recdistill.data.columns import codes
from recdistill.data.sources.base import KNOWN, PARTS, TEST, TRAIN, VALID
from recdistill.errors import InputError

Array = np.ndarray[Any, Any]
NAMES = (*PARTS, "known")
"""Name of each part, by its number."""
NO_HISTORY, EARLIER_PAIR = "user without training history", "pair of an earlier part"
_BEFORE = {VALID: (TRAIN, KNOWN), TEST: (TRAIN, KNOWN, VALID)}
"""The parts whose items are masked in a part."""


@dataclass(frozen=True)
class Cut:
    """The rows of each part.

    Attributes:
        rows: positions in the events, int64 ``[n]``, ascending, of train, valid, test and known.
        lost: rows that were left out, by part and reason.
    """

    rows: list[Array]
    lost: dict[str, dict[str, int]]


def cut(events: pl.DataFrame, part: Array, pairs_repeat: bool) -> Cut:
    """The parts without what can't be evaluated: users of whom nothing is known, and pairs of an earlier part.

    Args:
        events: ``user`` and ``item``, labelled.
        part: int8 ``[N]``, the part of each row.
        pairs_repeat: whether a pair may be in two parts.

    Raises:
        InputError: nothing is left to train on.
    """
    rows = [np.flatnonzero(part == number) for number in range(len(NAMES))]
    if not rows[TRAIN].size:
        raise InputError(
            "the training part is empty",
            where="data.split",
            why=f"there are {events.height} rows, all in the other parts",
            fix="data/split=random",
        )
    user, item = codes(events["user"]), codes(events["item"])
    known = np.zeros(int(user.max()) + 1, dtype=bool)
    known[user[rows[TRAIN]]] = known[user[rows[KNOWN]]] = True
    lost: dict[str, dict[str, int]] = {}
    for number, before in _BEFORE.items():
        with_history = rows[number][known[user[rows[number]]]]
        kept = with_history
        if pairs_repeat:
            earlier = np.concatenate([rows[other] for other in before])
            width = int(item.max()) + 1
            kept = kept[~np.isin(user[kept] * width + item[kept], user[earlier] * width + item[earlier])]
        counts = rows[number].size - with_history.size, with_history.size - kept.size
        lost[NAMES[number]] = dict(zip((NO_HISTORY, EARLIER_PAIR), counts, strict=True))
        rows[number] = kept
    return Cut(rows, lost)


@dataclass(frozen=True)
class Numbers:
    """Users or items in the order of their numbers: those of train by id, then those that it lacks.

    Attributes:
        codes: int64 ``[n + n_cold]``, the code behind each number.
        number: int64, the number behind each code.
        n: how many are train's.
    """

    codes: Array
    number: Array
    n: int

    @classmethod
    def of(cls, code: Array, rows: list[Array]) -> Numbers:
        """Args: ``code`` of each event, and the ``rows`` of each part."""
        size = int(code.max()) + 1
        present = [_present(code[part], size) for part in rows]
        found, taken = [present[TRAIN]], np.zeros(size, dtype=bool)
        taken[present[TRAIN]] = True
        # Validation's before the test's, so that validation does not depend on the test.
        for number in (VALID, TEST, KNOWN):
            new = present[number][~taken[present[number]]]
            taken[new] = True
            found.append(new)
        ordered = np.concatenate(found)
        number_of = np.zeros(size, dtype=np.int64)
        number_of[ordered] = np.arange(ordered.size)
        return cls(ordered, number_of, found[0].size)


def _present(code: Array, size: int) -> Array:
    return np.flatnonzero(np.bincount(code, minlength=size))
