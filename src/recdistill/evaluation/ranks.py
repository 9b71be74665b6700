"""Pure functions on ranks: pessimistic ranks, the per-user metrics that follow from them, overlap of lists.

Ties never favour the model: an irrelevant item with an equal score ranks above.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recdistill.evaluation.topk import PAD, raise_on_nan

FAMILIES = ("ndcg", "recall", "hr", "mrr", "map", "precision")


def metric_names(ks: Sequence[int]) -> list[str]:
    """The names of the per-user metrics, such as ``ndcg@10``, in the order in which they are reported."""
    return [f"{family}@{k}" for k in ks for family in FAMILIES]


def relevant_ranks(
    scores: Tensor,
    relevant: tuple[Tensor, Tensor],
    k_max: int,
    *,
    top: tuple[Tensor, Tensor] | None = None,
    users: Tensor | None = None,
    name: str = "model",
) -> Tensor:
    """Pessimistic rank of each relevant item in its row.

    The rank is the number of irrelevant items whose score is at least as high, plus the number of relevant
    items placed before.

    Args:
        scores: float ``[B, I]``, seen items at -inf. An item at -inf is in no list: never a hit.
        relevant: ``(row, item)``, int64 ``[P]`` each, no pair twice. Items ``>= I`` are cold: never a hit.
        k_max: ranks from here on are all returned as ``k_max``.
        top: as in :func:`rivals`.
        users: int64 ``[B]``, for the error; the row number otherwise.
        name: of the model, for the error.

    Returns:
        int64 ``[P]``, 0 is the best rank; distinct in a row below ``k_max``.

    Raises:
        InputError: a score is NaN.
    """
    values, items = top or torch.topk(scores, min(k_max + 1, scores.shape[1]), dim=1)
    raise_on_nan(values, items, torch.arange(len(scores)) if users is None else users, name)
    near, others = rivals(scores, relevant, k_max, top=(values, items))
    ranks = torch.full_like(relevant[0], k_max)
    ranks[near] = distinct_ranks(relevant[0][near], others).clamp(max=k_max)
    return ranks


def rivals(
    scores: Tensor, relevant: tuple[Tensor, Tensor], k_max: int, *, top: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Which relevant items can be in the top ``k_max``, and how many others score at least as high.

    Only the top ``k_max + 1`` of a row are looked at, and the whole row where a relevant item scores the same as
    the last of these. The counts hold for any choice of what is relevant, so that one pass gives the ranks of
    every part of the relevant items too: see :func:`distinct_ranks`.

    Args:
        scores, relevant: as in :func:`relevant_ranks`.
        top: the ``k_max + 1`` best of each row (values, items), where they are known already.

    Returns:
        Positions int64 ``[M]`` in ``relevant``, ascending, and the counts, int64 ``[M]``.
    """
    row, item = relevant
    values, _ = top or torch.topk(scores, min(k_max + 1, scores.shape[1]), dim=1)
    nothing = torch.zeros(0, dtype=torch.int64, device=row.device)
    if not values.numel():
        return nothing, nothing
    score = torch.full(row.shape, -torch.inf, dtype=scores.dtype, device=scores.device)
    warm = item < scores.shape[1]
    score[warm] = scores[row[warm], item[warm]]
    last = values[:, -1]
    # Below the last value there are k_max + 1 items above, relevant or not: the rank is k_max or more.
    near = ((score >= last[row]) & (score > -torch.inf)).nonzero().flatten()
    row, score = row[near], score[near]
    others = (values[row] >= score.unsqueeze(1)).sum(1) - 1
    torn = (score == last[row]).nonzero().flatten()
    if len(torn) and values.shape[1] < scores.shape[1]:
        rows, back = torch.unique(row[torn], return_inverse=True)
        others[torn] = (scores[rows] >= last[rows].unsqueeze(1)).sum(1)[back] - 1
    return near, others


def distinct_ranks(row: Tensor, others: Tensor) -> Tensor:
    """Pessimistic ranks of relevant items: equal ones take the last places of their tie.

    Args:
        row: int64 ``[M]``.
        others: int64 ``[M]``, how many other items of the row score at least as high. Two items of a row have
            equal scores where these are equal.

    Returns:
        int64 ``[M]``, distinct in a row.
    """
    if not len(row):
        return others
    order = (row * (int(others.max()) + 1) + others).argsort(stable=True)
    row, others = row[order], others[order]
    at = torch.arange(len(row), device=row.device)
    new = torch.ones_like(row, dtype=torch.bool)
    new[1:] = (row[1:] != row[:-1]) | (others[1:] != others[:-1])
    tie = new.cumsum(0) - 1
    last = torch.bincount(tie).cumsum(0)[tie] - 1
    ranks = torch.empty_like(others)
    ranks[order] = others - (last - at)
    return ranks


def metrics_from_ranks(ranks: Tensor, row: Tensor, n_relevant: Tensor, ks: Sequence[int]) -> dict[str, Tensor]:
    """Per-user metrics with binary relevance.

    ``ndcg@k`` is divided by the ideal over ``min(k, n)``, ``recall@k`` and ``map@k`` by ``n`` (as ``map_cut``
    of trec_eval), ``precision@k`` by ``k``; ``hr@k`` is 1 if anything is hit; ``mrr@k`` is 1 over the place
    of the first hit.

    Args:
        ranks: int64 ``[P]`` of relevant items, from 0, those below ``max(ks)`` distinct in a row.
        row: int64 ``[P]``, the row of each.
        n_relevant: int64 ``[B]``, cold items included. A row without any gets 0 everywhere.
        ks: list lengths.

    Returns:
        Name, such as ``ndcg@10``, to float64 ``[B]``.
    """
    k_max = max(ks)
    hit = ranks < k_max
    ranks, row = ranks[hit], row[hit]
    order = (row * k_max + ranks).argsort()
    ranks, row = ranks[order], row[order]
    per_row = torch.bincount(row, minlength=len(n_relevant))
    ordinal = torch.arange(1, len(row) + 1, device=row.device) - (per_row.cumsum(0) - per_row)[row]
    place = ranks.double() + 1
    discount = 1 / torch.arange(2, k_max + 2, dtype=torch.float64, device=row.device).log2()
    ideal = discount.cumsum(0)
    n = n_relevant.clamp(min=1)
    out: dict[str, Tensor] = {}
    for k in ks:
        inside = ranks < k

        def total(value: Tensor, keep: Tensor = inside) -> Tensor:
            zeros = torch.zeros(len(n), dtype=torch.float64, device=row.device)
            return zeros.index_add_(0, row[keep], value[keep])

        hits = total(torch.ones_like(place))
        out[f"ndcg@{k}"] = total(discount[ranks]) / ideal[n.clamp(max=k) - 1]
        out[f"recall@{k}"] = hits / n
        out[f"hr@{k}"] = (hits > 0).double()
        out[f"mrr@{k}"] = total(1 / place, inside & (ordinal == 1))
        out[f"map@{k}"] = total(ordinal / place) / n
        out[f"precision@{k}"] = hits / k
    return out


def overlap_at_k(top_a: Tensor, top_b: Tensor, k: int) -> Tensor:
    """Share of items that two lists have in common, whatever their order.

    Args:
        top_a, top_b: int ``[U, K]``, padded with -1, which never matches.
        k: how much of the lists to compare.

    Returns:
        float64 ``[U]``; the denominator is the length of the longer list, at most ``k``; 0 if both are empty.
    """
    a, b = top_a[:, :k], top_b[:, :k]
    common = ((a.unsqueeze(2) == b.unsqueeze(1)) & (a != PAD).unsqueeze(2)).sum((1, 2))
    longer = torch.maximum((a != PAD).sum(1), (b != PAD).sum(1))
    return common.double() / longer.clamp(min=1)
