"""What the report says of a data set in numbers, and what it warns of."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recdistill.data.interactions import Interactions
from recdistill.data.parts import NO_HISTORY
from recdistill.data.sources.base import PARTS, TRAIN, VALID, RawLog
from recdistill.data.splits import GlobalTemporal

FEW_USERS = 100
MANY_COLD = 0.2
_HEAD = 0.2
_FEW_VALUES = 12


def log_facts(log: RawLog, manifest: dict[str, Any]) -> dict[str, Any]:
    """What a report says of the log as it was read, before any filter, and of its split.

    Returns:
        Under ``log``: rows, users and items; ``values``, the rows of each value where these are few, else lowest and
        highest; ``times``, the first and the last.
    """
    events = log.events
    counts: dict[str, Any] = {"rows": events.height}
    for name in ("user", "item"):
        if name in events.columns:
            counts[f"{name}s"] = events[name].n_unique()
    if "value" in events.columns:
        counts["values"] = _values(events["value"])
    if "time" in events.columns:
        counts["times"] = [events["time"].min(), events["time"].max()]
    parts = {"rows by part": rows_by_part(events["part"])} if "part" in events.columns else {}
    return {
        "source": manifest["source"],
        "rows_read": events.height,
        "log": counts,
        "facts": parts | log.facts,
        "features": {side: dict(kinds) for side, kinds in log.kinds.items() if kinds},
        "dropped": dict(log.dropped),
        "note": "; ".join(text for text in (log.note, manifest["split_note"]) if text),
        "split": manifest["split"],
        "leaks_time": manifest["leaks_time"],
        "cut_times": manifest["cut_times"],
    }


def rows_by_part(part: pl.Series) -> str:
    """How many rows each part of a given split has, before any is left out."""
    sizes = np.bincount(part.to_numpy(), minlength=len(PARTS))
    rows = " + ".join(f"{size:,} {name}" for size, name in zip(sizes, PARTS, strict=False) if size)
    if sizes[VALID]:
        rows += f"; train and valid {sizes[TRAIN] + sizes[VALID]:,}"
    return rows


def _values(values: pl.Series) -> dict[str, int] | list[Any]:
    histogram = values.value_counts().sort("value")
    if histogram.height > _FEW_VALUES:
        return [values.min(), values.max()]
    return {repr(value).removesuffix(".0"): count for value, count in histogram.iter_rows()}


def popularity(train: Interactions) -> dict[str, Any]:
    """Shape of the training part.

    Returns:
        ``density``: distinct pairs over users times items. ``head_share``: share of the rows on the most popular fifth
        of the items. ``gini``: of the items' rows, 0 for equal, towards 1 for one item with all.
        ``median_history``: rows of the median user.
    """
    items = torch.bincount(train.item, minlength=train.n_items).sort(descending=True).values
    head = max(round(items.numel() * _HEAD), 1)
    users = torch.bincount(train.user, minlength=train.n_users)
    return {
        "density": _distinct_pairs(train) / (train.n_users * train.n_items),
        "head_share": float(items[:head].sum() / items.sum()),
        "gini": gini(items),
        "median_history": float(users.double().quantile(0.5)) if users.numel() < 2**24 else float(users.median()),
    }


def _distinct_pairs(part: Interactions) -> int:
    pairs = np.sort((part.user * part.n_items + part.item).numpy())
    return int(np.count_nonzero(np.diff(pairs))) + min(pairs.size, 1)


def gini(counts: Tensor) -> float:
    """Gini coefficient of counts ``[n]`` of which one at least is above 0."""
    rising = counts.double().sort().values
    n = rising.numel()
    rank = torch.arange(1, n + 1, dtype=torch.float64)
    return float((2 * (rank * rising).sum() / rising.sum() - n - 1) / n)


def part_counts(part: Interactions) -> dict[str, int]:
    """Rows and users of a part, and its rows on cold items and the number of these items."""
    cold = part.item[part.item >= part.n_items] - part.n_items
    return {"rows": len(part), "users": _distinct(part.user), "cold_rows": len(cold), "cold_items": _distinct(cold)}


def train_only(parts: dict[str, Interactions]) -> int:
    """How many users of train have rows in no other part, such as those with a single event."""
    train = parts["train"]
    others = torch.cat([part.user for name, part in parts.items() if name != "train"])
    return train.n_users - _distinct(others[others < train.n_users])


def _distinct(numbers: Tensor) -> int:
    return int(torch.count_nonzero(torch.bincount(numbers)))


def warnings_of(report: dict[str, Any], split_replaced: bool) -> list[str]:
    """What a reader should know before trusting a figure on these data, one sentence each."""
    found = []
    split, parts = report["split"]["name"], report["parts"]
    history = "a known history" if report["n_cold_users"] else "training history"
    for name in ("valid", "test"):
        users, lost = parts[name]["users"], report["lost"][name][NO_HISTORY]
        if not users and not lost:
            found.append(f"there is no {name} part")
        elif users < FEW_USERS:
            said = f"only {users} {name} users have {history}"
            if lost:
                said += f" ({lost} rows of other users were left out)"
            found.append(said + (": choose data/split=user_temporal" if split == "GlobalTemporal" else ""))
        if parts[name]["cold_rows"] > MANY_COLD * max(parts[name]["rows"], 1):
            share = parts[name]["cold_rows"] / parts[name]["rows"]
            lacking = f"{share:.0%} of the {name} rows are on items that train lacks"
            found.append(f"{lacking}: a model that knows items by their ids can't hit them")
    return found + _split_warnings(report, split_replaced)


def table_warnings(report: dict[str, Any], split_replaced: bool) -> list[str]:
    """As :func:`warnings_of`, for a table of examples."""
    found = [f"there is no {name} part" for name, counts in report["parts"].items() if not counts["rows"]]
    found += [
        f"all labels of the {name} part are alike: nothing can be told apart there"
        for name, counts in report["parts"].items()
        if counts["rows"] and (counts.get("positive") in (0, counts["rows"]) or counts.get("labels") == 1)
    ]
    if report["duplicates"]:
        found.append(f"{report['duplicates']} rows occur more than once; all are kept")
    return found + _split_warnings(report, split_replaced)


def _split_warnings(report: dict[str, Any], replaced: bool) -> list[str]:
    split, found = report["split"]["name"], []
    if report["leaks_time"] and split == GlobalTemporal.__name__:
        found.append("data.filters.repeats=last leaks time: a later repeat takes an earlier event out of training")
    elif report["leaks_time"] and report.get("time_unit"):
        found.append(f"{split} leaks time: models are trained on events later than those they are tested on")
    if report["leaks_time"] is None and report.get("time_unit"):
        found.append("the split was given: whether it leaks time is not known")
    if replaced:
        found.append(f"the source brings a split of its own, which {split} replaces")
    return found
