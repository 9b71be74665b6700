"""The same evaluation by parts: users with short and long histories, popular items and those of the tail.

A slice of the users is their part of the per-user values. For a slice of the items only the relevant items of the slice
are looked for, in the same lists: everything else in a list, other relevant items included, just takes a place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.evaluation.beyond import Catalogue
from recdistill.evaluation.popularity import GROUPS
from recdistill.evaluation.ranking import RankingResult
from recdistill.evaluation.ranks import distinct_ranks, metrics_from_ranks
from recdistill.evaluation.significance import bootstrap_mean

ACTIVITY = ("light", "medium", "heavy")
ITEMS = (*GROUPS, "cold")
COLD = len(GROUPS)
RESAMPLES = 1000  # there are seven slices of every model


def activity(lengths: Tensor) -> Tensor:
    """Third of each user by the length of the history: 0 light, 1 medium, 2 heavy.

    Users with equal histories are in one third, so that no tie decides; thirds may differ in size for it.

    Args:
        lengths: int64 ``[U]``, known items of the users that are evaluated.

    Returns:
        int64 ``[U]``.
    """
    if not len(lengths):
        return lengths
    ordered = lengths.sort().values
    n = len(ordered)
    first, second = ordered[-(-n // 3) - 1], ordered[-(-2 * n // 3) - 1]
    return (lengths > first).long() + (lengths > second).long()


def slices(result: RankingResult, metrics: Sequence[str], relevant: Csr, catalogue: Catalogue) -> list[dict[str, Any]]:
    """A model's metrics by user activity and by popularity of the items.

    Args:
        metrics: names, such as ``ndcg@10``, that ``result`` has.
        relevant: what the users should have been given, as in the evaluation.
        catalogue: popularity and histories.

    Returns:
        One record a slice, empty ones too: ``by`` ("users" or "items"), ``name``, ``users`` and ``pairs`` (those that
        count: relevant items of these users, or of this slice), ``metrics`` and ``ci`` (of the first metric: 95 %,
        bootstrap over the slice's users); for users ``history``, the shortest and the longest; for items ``items``,
        how many of the catalogue (of the evaluated part for cold ones). Users add up to all users, pairs to all pairs.
    """
    return _by_users(result, metrics, catalogue) + _by_items(result, metrics, relevant, catalogue)


def _by_users(result: RankingResult, metrics: Sequence[str], catalogue: Catalogue) -> list[dict[str, Any]]:
    lengths = catalogue.history.counts()[result.users]
    third = activity(lengths)
    records = []
    for number, name in enumerate(ACTIVITY):
        inside = third == number
        own = lengths[inside]
        records.append({
            "by": "users", "name": name, "users": int(inside.sum()), "pairs": int(result.n_relevant[inside].sum()),
            "history": [int(own.min()), int(own.max())] if len(own) else None,
            **_averages({metric: result.per_user[metric][inside] for metric in metrics}),
        })  # fmt: skip
    return records


def _by_items(
    result: RankingResult, metrics: Sequence[str], relevant: Csr, catalogue: Catalogue
) -> list[dict[str, Any]]:
    row, item = relevant.rows(result.users)
    group, near = _groups(item, catalogue), _groups(result.near.item, catalogue)
    ks = sorted({int(metric.partition("@")[2]) for metric in metrics})
    sizes = [*torch.bincount(catalogue.groups, minlength=COLD).tolist(), len(torch.unique(item[group == COLD]))]
    records = []
    for number, name in enumerate(ITEMS):
        n_relevant = torch.bincount(row[group == number], minlength=len(result.users))
        at, others = result.near.at[near == number], result.near.others[near == number]
        per_user = metrics_from_ranks(distinct_ranks(at, others), at, n_relevant, ks)
        inside = n_relevant > 0
        records.append({
            "by": "items", "name": name, "users": int(inside.sum()), "pairs": int(n_relevant.sum()),
            "items": sizes[number], **_averages({metric: per_user[metric][inside] for metric in metrics}),
        })  # fmt: skip
    return records


def _groups(item: Tensor, catalogue: Catalogue) -> Tensor:
    known = item < catalogue.n_items
    return torch.where(known, catalogue.groups[item.where(known, 0)], COLD)


def _averages(per_user: dict[str, Tensor]) -> dict[str, Any]:
    """Means, and the interval of the first; None for a slice without users."""
    first = next(iter(per_user))
    interval = bootstrap_mean(per_user[first], n=RESAMPLES) if len(per_user[first]) else None
    return {
        "metrics": {name: float(values.mean()) if len(values) else None for name, values in per_user.items()},
        "ci": {first: [interval.low, interval.high] if interval else None},
    }
