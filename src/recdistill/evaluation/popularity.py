"""How popular the items are that a model recommends, against those that its users chose themselves.

Popularity is the number of training users of an item, never anything of the evaluated part.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.evaluation.topk import PAD

GROUPS = ("head", "mid", "tail")
HEAD, MID, TAIL = range(3)
USERS = 4096  # whose histories are looked at together


def popularity_groups(counts: Tensor, *, head: float = 0.2, tail: float = 0.2) -> Tensor:
    """Head, mid or tail of each item, by share of the interactions (Abdollahpouri et al., UMAP 2021).

    The head are the most popular items down to the one that brings their interactions to the share ``head``, the
    tail the least popular up to ``tail``. Items of equal popularity are in one group, so that no tie decides; where
    both would take them they are head.

    Args:
        counts: int64 ``[I]``, training users of each item.
        head, tail: shares of all interactions.

    Returns:
        int64 ``[I]``: 0 head, 1 mid, 2 tail.
    """
    levels, level, items = torch.unique(counts, return_inverse=True, return_counts=True)
    mass = (levels * items).double()
    total, below = mass.sum(), mass.cumsum(0) - mass
    above = total - below - mass
    group = torch.full_like(levels, MID)
    group[below < tail * total] = TAIL
    group[above < head * total] = HEAD
    return group[level]


def list_means(values: Tensor, top: Tensor) -> Tensor:
    """Average of an item's value over each list.

    Args:
        values: ``[I]``.
        top: int ``[U, k]``, padded with -1.

    Returns:
        float64 ``[U]``; NaN for an empty list.
    """
    there = top != PAD
    found = values.double()[top.long().clamp(min=0)].masked_fill(~there, 0)
    return found.sum(1) / there.sum(1)


def history_means(values: Tensor, history: Csr, users: Tensor) -> Tensor:
    """Average of an item's value over what each user is known to have, float64 ``[U]``; NaN without any.

    Items beyond ``values [I]``, which training lacks, are passed over.
    """
    means = []
    for part in torch.split(users, USERS):
        row, item = history.rows(part)
        row, item = row[item < len(values)], item[item < len(values)]
        sums = torch.zeros(len(part), dtype=torch.float64).index_add_(0, row, values[item].double())
        means.append(sums / torch.bincount(row, minlength=len(part)))
    return torch.cat(means)


def self_information(counts: Tensor, n_users: int) -> Tensor:
    """Bits of surprise of each item, ``-log2`` of the share of training users who have it, float64 ``[I]``.

    Zhou et al., PNAS 2010; the popularity-based novelty of Vargas and Castells, RecSys 2011.
    """
    return -(counts.double().clamp(min=1) / n_users).log2()


def popularity_lift(counts: Tensor, top: Tensor, history: Csr, users: Tensor) -> float:
    """How much more popular recommendations are than histories: ``(GAP_lists - GAP_histories) / GAP_histories``.

    GAP is the average over users of the average popularity of their items (Abdollahpouri et al., RecSys 2020);
    0 is as popular, 1 twice as popular.
    """
    of_lists = list_means(counts, top).nanmean()
    of_histories = history_means(counts, history, users).nanmean()
    return float((of_lists - of_histories) / of_histories)


def shares(row: Tensor, item: Tensor, n_rows: int, categories: Csr, n_categories: int) -> Tensor:
    """The mix of categories of sets of items: each item counts once, shared evenly among its categories.

    Args:
        row, item: int64 ``[P]``, the pairs.
        categories: those of each item; items beyond them are passed over.

    Returns:
        float64 ``[n_rows, n_categories]``, rows that sum to 1, or to 0 where no item has a category.
    """
    known = item < len(categories.counts())
    row, item = row[known], item[known]
    pair, category = categories.rows(item)
    weight = 1 / categories.counts()[item].double()
    out = torch.zeros(n_rows * n_categories, dtype=torch.float64)
    out.index_add_(0, row[pair] * n_categories + category, weight[pair])
    out = out.reshape(n_rows, n_categories)
    return out / out.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)


def list_pairs(top: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs ``(row, item)`` of lists int ``[U, k]``, padding left out."""
    row, place = (top != PAD).nonzero(as_tuple=True)
    return row, top[row, place].long()


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Divergence of the rows of two tables of shares ``[U, G]``, in bits: 0 the same, 1 nothing in common."""
    middle = (p + q) / 2

    def to_middle(one: Tensor) -> Tensor:
        return torch.xlogy(one, one / middle.where(one > 0, 1)).sum(1)

    return (to_middle(p) + to_middle(q)) / 2 / torch.log(torch.tensor(2.0, dtype=p.dtype))


def popularity_divergence(groups: Tensor, top: Tensor, history: Csr, users: Tensor) -> Tensor:
    """How far the mix of head, mid and tail in a list is from that of the user's history, by user.

    The user popularity deviation of Abdollahpouri et al. (UMAP 2021): Jensen-Shannon divergence.

    Args:
        groups: int64 ``[I]``, see :func:`popularity_groups`.

    Returns:
        float64 ``[U]``, bits; NaN where list or history is empty.
    """
    one_each = Csr(torch.arange(len(groups) + 1), groups)
    out = []
    for part, lists in zip(torch.split(users, USERS), torch.split(top, USERS), strict=True):
        p = shares(*history.rows(part), len(part), one_each, len(GROUPS))
        q = shares(*list_pairs(lists), len(part), one_each, len(GROUPS))
        empty = (p.sum(1) == 0) | (q.sum(1) == 0)
        out.append(jensen_shannon(p, q).masked_fill(empty, torch.nan))
    return torch.cat(out)
