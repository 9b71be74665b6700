"""The top of a score matrix: masks, the check for NaN, and the lists that are recommended.

Whatever cuts a list cuts it here, so that all agree on masks, padding and ties.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt

import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.errors import InputError

Scorer = Callable[[Tensor], Tensor]
"""Users int64 ``[B]`` to scores ``[B, n_items]``."""

PAD = -1
"""Fills the places of a list for which no unseen item is left."""


def masked(scores: Tensor, users: Tensor, seen: Csr, scratch: Tensor | None = None) -> Tensor:
    """A float32 copy of the scores with seen items at -inf.

    Args:
        scores: ``[B, I]``, any float type; left alone, since a model may hand out a view of its own buffers.
        users: int64 ``[B]``, the row of each score row in ``seen``.
        seen: items that must not be recommended; ids ``>= I`` (cold items) are skipped.
        scratch: float32 ``[>= B, I]``, where the copy goes if it is on the same device.
    """
    if scratch is not None and scratch.device == scores.device:
        out = scratch[: len(scores)].copy_(scores)
    else:
        out = scores.to(torch.float32, copy=True).contiguous()
    row, item = seen.rows(users.to(seen.indptr.device))
    known = item < out.shape[1]
    if not bool(known.all()):
        row, item = row[known], item[known]
    out[row.to(out.device), item.to(out.device)] = -torch.inf
    return out


def raise_on_nan(values: Tensor, items: Tensor, users: Tensor, name: str) -> None:
    """Refuse scores that are not a number; the top of each row is enough to see, as NaN ranks first.

    Args:
        values, items: ``[B, K]``, what ``torch.topk`` returned.
        users: int64 ``[B]``.
        name: of the model, for the message.

    Raises:
        InputError: names the model, the first user and the item.
    """
    if not values.shape[1]:
        return
    bad = values[:, 0].isnan()
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0])
        raise InputError(
            f"model {name!r} scored NaN for user {int(users[row])}, item {int(items[row, 0])}",
            where=f"scores of {name}",
            why=f"{int(bad.sum())} of the {len(bad)} users of this batch have NaN scores",
            fix="train the model again with a lower learning rate or clipped gradients",
        )


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The list of each row, in one defined order: by score, equal scores by ascending item id.

    Args:
        scores: ``[B, I]``; -inf marks items that must not be shown.
        k: length of the lists; may exceed ``I``.

    Returns:
        Items int64 ``[B, k]``, padded with :data:`PAD`, and their scores ``[B, k]``, padded with -inf.
    """
    width = min(k, scores.shape[1])
    values, items = largest(scores, min(k + 1, scores.shape[1]))
    equal = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -torch.inf)
    values, items = values[:, :width].contiguous(), items[:, :width].contiguous()
    torn = equal[:, width - 1 :].any(1).nonzero().flatten() if width else equal.new_zeros(0, dtype=torch.int64)
    if len(torn):
        items[torn] = _lowest_ids_at_the_cut(scores[torn], values[torn], items[torn])
    tied = equal.any(1).nonzero().flatten()
    if len(tied):
        by_id, order = items[tied].sort(dim=1)
        values[tied], order = values[tied].gather(1, order).sort(dim=1, descending=True, stable=True)
        items[tied] = by_id.gather(1, order)
    items.masked_fill_(values == -torch.inf, PAD)
    short = k - width
    if not short:
        return items, values
    pad = torch.nn.functional.pad
    return pad(items, (0, short), value=PAD), pad(values, (0, short), value=-torch.inf)


def largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """What ``torch.topk(scores, k, dim=1)`` returns; among equal scores it may pick others.

    On a CPU the row is cut into blocks first: the k best items are in the k blocks with the best maxima, so that only
    these are looked through. Where a block is as long as there are blocks for each of the k, the work is least.
    """
    width = scores.shape[1]
    size = isqrt(width // k) if k else 0
    if size < 4 or scores.device.type != "cpu":
        return torch.topk(scores, k, dim=1)
    n = width // size  # a block is the items c, c + n, c + 2 n, ...: maxima of whole rows, which are fast
    best = scores[:, : n * size].view(len(scores), size, n).amax(1).topk(k, dim=1, sorted=False).indices
    inside = (best.unsqueeze(1) + torch.arange(0, n * size, n).unsqueeze(1)).flatten(1)
    rest = torch.arange(n * size, width).expand(len(scores), -1)
    candidates = torch.cat([inside, rest], 1)
    values, at = scores.gather(1, candidates).topk(k, dim=1)
    return values, candidates.gather(1, at)


def _lowest_ids_at_the_cut(scores: Tensor, values: Tensor, items: Tensor) -> Tensor:
    """``items`` with those that score the same as the last of their row replaced by the lowest ids of that score."""
    level = values[:, -1:]
    inside = values == level
    equal = scores == level
    chosen = equal & (equal.cumsum(1, dtype=torch.int32) <= inside.sum(1, keepdim=True))
    out = items.clone()
    out[inside] = chosen.nonzero()[:, 1]  # both in row order, and as many
    return out


@torch.inference_mode()
def recommend(score_fn: Scorer, users: Tensor, seen: Csr, k: int, *, name: str = "model") -> tuple[Tensor, Tensor]:
    """The ``k`` best unseen items of each user.

    Args:
        score_fn: users int64 ``[B]`` to scores ``[B, n_items]``.
        users: int64 ``[B]``, on the device of the model.
        seen: items that are not recommended.
        k: length of the lists.
        name: of the model, for errors.

    Returns:
        Items int64 ``[B, k]``, padded with -1, and float32 scores ``[B, k]``, padded with -inf.

    Raises:
        InputError: a score is NaN.
    """
    items, values = top_k(masked(score_fn(users), users, seen), k)
    raise_on_nan(values, items, users, name)
    return items, values
