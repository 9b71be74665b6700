"""Scores of another program in single precision, without losing the order that it gave them."""

from __future__ import annotations

import torch
from torch import Tensor

SIGN = 2**31


def in_order(scores: Tensor, user: Tensor) -> Tensor:
    """float32 ``[N]``: the nearest ones below which scores that differ still do, in the same order.

    Seconds since 1970, or probabilities near 1, have more digits than single precision; scores that would become equal
    there are put one step of it apart.

    Args:
        scores: float64 ``[N]``, of each user from the highest to the lowest.
        user: int64 ``[N]``, ascending.
    """
    if not len(scores):
        return scores.float()
    step = place_of(scores.float())
    same = user[1:] == user[:-1]
    lower = torch.nn.functional.pad((scores[1:] < scores[:-1]) & same, (1, 0)).long().cumsum(0)
    # place' = min over the rows j of a user up to i of (place_j + lower_j) - lower_i is what each is at most. Users are
    # set so far apart that the least of all rows up to i is that of the user's own.
    apart = user * -(8 * SIGN)
    lowest = torch.cummin(step + lower + apart, 0).values - apart - lower
    return float_at(lowest)


def place_of(values: Tensor) -> Tensor:
    """int64: the number of each float32 when all of them are counted from below; that of 0 is 0."""
    bits = values.contiguous().view(torch.int32).long()
    return torch.where(bits < 0, -(bits + SIGN), bits)


def float_at(place: Tensor) -> Tensor:
    """The opposite of :func:`place_of`."""
    bits = torch.where(place < 0, -place - SIGN, place)
    return bits.to(torch.int32).view(torch.float32)
