"""How different the items of one list are, and whether its categories are those of the user's history."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.evaluation.popularity import USERS, list_pairs, shares
from recdistill.evaluation.topk import PAD

CHUNK = 2**21  # numbers held at a time
BUDGET = 2 * 10**8  # products; a second or two


def vector_diversity(top: Tensor, vectors: Tensor) -> Tensor:
    """Intra-list diversity: 1 minus the mean cosine over the pairs of a list (Ziegler et al., WWW 2005).

    The mean over pairs follows from the length of the sum of the unit vectors, so no pair is looked at.

    Args:
        top: int ``[U, k]``, padded with -1.
        vectors: ``[I, d]``; items whose vector is zero or not finite are left out of their lists.

    Returns:
        float64 ``[U]``; NaN for lists with fewer than two items.
    """
    unit = vectors.double()
    unit = unit / unit.norm(dim=1, keepdim=True)
    usable = unit.isfinite().all(1)
    unit = unit.masked_fill(~usable.unsqueeze(1), 0)
    out = []
    for part in torch.split(top.long(), max(1, CHUNK // max(top.shape[1] * unit.shape[1], 1))):
        there = (part != PAD) & usable[part.clamp(min=0)]
        total = (unit[part.clamp(min=0)] * there.unsqueeze(2)).sum(1)
        out.append(_from_length(total.square().sum(1), there.sum(1)))
    return torch.cat(out)


def cooccurrence_diversity(top: Tensor, train: Csr, counts: Tensor, *, budget: int = BUDGET) -> Tensor:
    """Intra-list diversity where an item's vector is the set of its training users, as in item-kNN.

    Args:
        top: int ``[U, k]``, padded with -1.
        train: items of each training user.
        counts: int64 ``[I]``, training users of each item.
        budget: products to form. Where the lists need more, every second (third, ...) user is looked at.

    Returns:
        float64 ``[U]``; NaN for lists with fewer than two items, and for users who were passed over.
    """
    from scipy import sparse

    n_items, n_train = len(counts), len(train.indptr) - 1
    row, item = list_pairs(top)
    step = max(1, -(-int(counts[item].sum()) // budget))
    taken = row % step == 0
    row, item = row[taken], item[taken]
    by_user = (np.ones(len(train.indices)), train.indices.numpy(), train.indptr.numpy())
    of_items = sparse.csr_array(by_user, shape=(n_train, n_items)).T.tocsr()
    scale = 1 / counts.double().clamp(min=1).sqrt().numpy()
    lists = sparse.csr_array((scale[item], (row.numpy(), item.numpy())), shape=(len(top), n_items))
    squared = np.zeros(len(top))
    length = torch.bincount(row, minlength=len(top))
    for start in range(0, len(top), 1024):  # the sums of 1,024 lists are as wide as there are training users
        total = lists[start : start + 1024] @ of_items
        squared[start : start + 1024] = total.multiply(total).sum(1)
    return _from_length(torch.from_numpy(squared), length)


def _from_length(squared: Tensor, n: Tensor) -> Tensor:
    """1 minus the mean cosine of the pairs of ``n`` unit vectors, from the squared length of their sum."""
    pairs = (n * (n - 1)).double()
    return (1 - (squared - n) / pairs).masked_fill(n < 2, torch.nan)


def category_divergence(top: Tensor, history: Csr, users: Tensor, categories: Csr, *, alpha: float = 0.01) -> Tensor:
    """Miscalibration: how far a list's categories are from those of the user's history (Steck, RecSys 2018).

    ``KL(p || (1 - alpha) q + alpha p)`` with the shares ``p`` in the history and ``q`` in the list; an item counts
    once, shared evenly among its categories; items without any are left out.

    Args:
        top: int ``[U, k]``, padded with -1.
        history: known items of each user.
        users: int64 ``[U]``, rows of ``history``.
        categories: those of each item.
        alpha: keeps the divergence finite where a list lacks a category.

    Returns:
        float64 ``[U]``, nats; 0 is the same mix. NaN where list or history has no item with a category.
    """
    width = int(categories.indices.max()) + 1 if len(categories.indices) else 1
    out = []
    chunk = max(1, min(USERS, CHUNK // width))
    for part, lists in zip(torch.split(users, chunk), torch.split(top, chunk), strict=True):
        p = shares(*history.rows(part), len(part), categories, width)
        q = shares(*list_pairs(lists), len(part), categories, width)
        mixed = (1 - alpha) * q + alpha * p
        divergence = torch.xlogy(p, p / mixed.where(p > 0, 1)).sum(1)
        out.append(divergence.masked_fill((p.sum(1) == 0) | (q.sum(1) == 0), torch.nan))
    return torch.cat(out)
