"""The top of a score matrix: masks, the check for NaN, and the lists that are recommended.

Whatever cuts a list cuts it here, so that all agree on masks, padding and ties.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recdistill.data.interactions import Csr
from recdistill.errors import InputError

Scorer = Callable[[Tensor], Tensor]
"""Users int64 ``[B]`` to scores ``[B, n_items]``."""

PAD = -1
"""Fills the places of a list for which no unseen item is left."""


def masked(scores: Tensor, users: Tensor, seen: Csr) -> Tensor:
    """A float32 copy of the scores with seen items at -inf.

    Args:
        scores: ``[B, I]``, any float type; left alone, since a model may hand out a view of its own buffers.
        users: int64 ``[B]``, the row of each score row in ``seen``.
        seen: items that must not be recommended; ids ``>= I`` (cold items) are skipped.
    """
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
    values, items = torch.topk(scores, min(k + 1, scores.shape[1]), dim=1)
    torn = torch.zeros(len(values), dtype=torch.bool, device=values.device)
    if values.shape[1] > width > 0:
        torn = (values[:, width - 1] == values[:, -1]) & (values[:, -1] > -torch.inf)
    items, by_id = items[:, :width].sort(dim=1)
    values, by_score = values[:, :width].gather(1, by_id).sort(dim=1, descending=True, stable=True)
    items = items.gather(1, by_score)
    if bool(torn.any()):  # only the whole row tells which of the equal items at the cut are in
        whole, order = scores[torn].sort(dim=1, descending=True, stable=True)
        values[torn], items[torn] = whole[:, :width], order[:, :width]
    items = items.masked_fill(values == -torch.inf, PAD)
    short = k - width
    if not short:
        return items, values
    pad = torch.nn.functional.pad
    return pad(items, (0, short), value=PAD), pad(values, (0, short), value=-torch.inf)


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
