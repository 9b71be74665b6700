"""What the report says of a data set in numbers, and what it warns of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recdistill.data.interactions import Interactions

FEW_USERS = 100
MANY_COLD = 0.2
_HEAD = 0.2


def popularity(train: Interactions) -> dict[str, Any]:
    """Shape of the training part.

    Returns:
        ``density``: rows over users times items. ``head_share``: share of the rows on the most popular fifth
        of the items. ``gini``: of the items' rows, 0 for equal, towards 1 for one item with all.
        ``median_history``: rows of the median user.
    """
    items = torch.bincount(train.item, minlength=train.n_items).sort(descending=True).values
    head = max(round(items.numel() * _HEAD), 1)
    users = torch.bincount(train.user, minlength=train.n_users)
    return {
        "density": len(train) / (train.n_users * train.n_items),
        "head_share": float(items[:head].sum() / items.sum()),
        "gini": gini(items),
        "median_history": float(users.double().quantile(0.5)) if users.numel() < 2**24 else float(users.median()),
    }


def gini(counts: Tensor) -> float:
    """Gini coefficient of counts ``[n]`` of which one at least is above 0."""
    rising = counts.double().sort().values
    n = rising.numel()
    rank = torch.arange(1, n + 1, dtype=torch.float64)
    return float((2 * (rank * rising).sum() / rising.sum() - n - 1) / n)


def part_counts(part: Interactions) -> dict[str, int]:
    """Rows and users of a part, and its rows on cold items and the number of these items."""
    cold = part.item[part.item >= part.n_items]
    return {
        "rows": len(part),
        "users": torch.unique(part.user).numel(),
        "cold_rows": cold.numel(),
        "cold_items": torch.unique(cold).numel(),
    }


def warnings_of(report: dict[str, Any], split_replaced: bool) -> list[str]:
    """What a reader should know before trusting a figure on these data, one sentence each."""
    found = []
    split, parts = report["split"]["name"], report["parts"]
    for name in ("valid", "test"):
        users, lost = parts[name]["users"], report["lost"][name]["user without training history"]
        if not users and not lost:
            found.append(f"there is no {name} part")
        elif users < FEW_USERS:
            said = f"only {users} {name} users have training history"
            if lost:
                said += f" ({lost} rows of other users were left out)"
            found.append(said + (": choose data/split=user_temporal" if split == "GlobalTemporal" else ""))
        if parts[name]["cold_rows"] > MANY_COLD * max(parts[name]["rows"], 1):
            share = parts[name]["cold_rows"] / parts[name]["rows"]
            found.append(f"{share:.0%} of the {name} rows are on items that train lacks: no model can hit them")
    if report["leaks_time"]:
        found.append(f"{split} leaks time: models are trained on events later than those they are tested on")
    if report["leaks_time"] is None:
        found.append("the split was given: whether it leaks time is not known")
    if split_replaced:
        found.append(f"the source brings a split of its own, which {split} replaces")
    return found
