"""The mildest ways to meet a budget."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

Choice = tuple[int, ...]


def mildest(counts: Sequence[int], fits: Callable[[Choice], bool]) -> list[Choice]:
    """The choices that fit, and of which no single pass can be milder.

    A choice is a strength of each pass, by its number from the mildest on. What fits is taken to fit still when a pass
    is stronger, so that the last pass is searched by bisection for each choice of the others, and no further than
    where a milder one of them was enough.

    Args:
        counts: how many strengths each pass has.
        fits: whether a choice is within the budget; asked once for each.
    """
    known: dict[Choice, bool] = {}

    def asked(choice: Choice) -> bool:
        if choice not in known:
            known[choice] = fits(choice)
        return known[choice]

    found: list[Choice] = []
    for first in itertools.product(*(range(count) for count in counts[:-1])):
        # Nothing at or above what a choice with milder others needs can be among the mildest.
        high = min([other[-1] for other in found if all(a <= b for a, b in zip(other, first, strict=False))],
                   default=counts[-1])  # fmt: skip
        low, ceiling = 0, high
        if high and not asked((*first, high - 1)):
            continue
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if asked((*first, middle)) else (middle + 1, high)
        if low < ceiling:
            found.append((*first, low))
    return found
