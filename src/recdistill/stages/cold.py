"""The part of a result that is about items that training lacks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from recdistill.data.features import take
from recdistill.data.interactions import Dataset
from recdistill.evaluation.cold import Field, cold_items, rank_cold
from recdistill.evaluation.significance import paired_t
from recdistill.models.base import Model
from recdistill.stages.results import Evaluated
from recdistill.tasks.base import Task

RIVALS = ("student alone", "content_knn")


def look_at_cold(
    model: Model, task: Task, data: Dataset, part: str, among: dict[str, Field], ks: list[int], name: str
) -> dict[str, dict[str, Tensor]] | None:
    """Values of users on the items that training lacks; None for a model that can't score these."""
    items = cold_items(data, part)
    with torch.inference_mode():
        new = model.new_item_vectors(take(data.item_features, items), len(items))
    return None if new is None else rank_cold(task.scorer(model, data, part, new), among, ks, name=name)


def cold_note(rows: list[dict[str, Any]]) -> list[str]:
    """How well the rows that can rank cold items do so, as a note; none where no row can."""
    found = {row["name"]: row["cold"] for row in rows if (row.get("cold") or {}).get("metrics")}
    if not found:
        return []
    names = next(iter(found.values()))["metrics"]["cold"]
    name = "ndcg@10" if "ndcg@10" in names else next(iter(names))
    shown = {row: cold["metrics"]["cold"][name] for row, cold in found.items()}
    shown["random order"] = next(iter(found.values()))["random"]["cold"][name]
    said = ", ".join(f"{row} {value:.4f}" for row, value in shown.items())
    return [f"cold items, ranked among themselves by what is known of their content, {name}: {said}; more on the page"]


def cold_part(name: str, results: dict[str, Evaluated], metric: str) -> dict[str, Any]:
    """``cold`` of a row: what was found of a model, and ``p`` by field and rival: the paired p of NDCG over the users
    with a cold item, at the k of ``metric``, against the student alone and content-kNN, which needs no training. Empty
    where the evaluated part has no cold items."""
    own = results[name]
    if not own.cold:
        return {}
    p: dict[str, dict[str, float]] = {}
    for field, values in own.cold_values.items():
        key = shown(values, metric)
        theirs = {other: results[other].cold_values for other in RIVALS if other in results and other != name}
        p[field] = {other: paired_t(values[key], of[field][key]) for other, of in theirs.items() if of}
    return {"cold": own.cold | {"p": p}}


def shown(names: Iterable[str], metric: str) -> str:
    """The NDCG at the k of a metric, or at the longest list where all are shorter."""
    ks = [int(name.partition("@")[2]) for name in names if name.startswith("ndcg@")]
    k = int(metric.partition("@")[2])
    return f"ndcg@{k if k in ks else max(ks)}"
