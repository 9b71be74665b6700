"""Re-ranking in a run: the passes of a config, told of the items of its data."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import torch

from recdistill.data.interactions import Data, Dataset
from recdistill.errors import InputError
from recdistill.models.build import instantiate
from recdistill.rerank.base import Reranking, Shelf
from recdistill.runs.atomic import file_digest
from recdistill.stages.evaluate import catalogue_of

DAY = 86400.0
RERANKED = "reranked"
"""Role of a row."""


def require_reranking(cfg: dict[str, Any]) -> None:
    """Raises InputError for passes over lists where nothing is ranked, before anything is trained."""
    nodes = dict(cfg.get("rerank") or {})
    for node in nodes.values():
        instantiate(node)
    if nodes and instantiate(cfg["task"]).unit != "user":
        raise InputError("there are no lists to re-rank", where=f"rerank.{next(iter(nodes))}",
                         why="the task predicts rows", fix="rerank=none, or task=ranking or sequence")  # fmt: skip
    if nodes and cfg["recommend"]["new_items"]:
        raise InputError("new items can't be re-ranked", where="recommend.new_items",
                         why="nothing is known of their popularity, age and likeness", fix="rerank=none")  # fmt: skip


def reranking_of(cfg: dict[str, Any], data: Data, length: int | None = None) -> Reranking | None:
    """The passes of a config, or the first of them; None without any.

    Raises:
        InputError: the data lack what a pass needs.
    """
    nodes = dict(islice(dict(cfg.get("rerank") or {}).items(), length))
    if not nodes or not isinstance(data, Dataset):
        return None
    passes, shelf = {name: instantiate(node) for name, node in nodes.items()}, shelf_of(data)
    for name, one in passes.items():
        one.bind(shelf, f"rerank.{name}")
    return Reranking(list(passes.values()), shelf.n_items)


def shelf_of(data: Dataset) -> Shelf:
    catalogue, _ = catalogue_of(data)
    train, age = data.train, None
    if train.time is not None and len(train.time):
        first = torch.full((train.n_items,), torch.iinfo(torch.int64).max)
        first.scatter_reduce_(0, train.item, train.time, "amin")
        age = (train.time.max() - first).double() / DAY
    return Shelf(data.items[: train.n_items], train.csr, catalogue.categories, catalogue.vectors, age)


def reranked(cfg: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Names of the rows of the re-ranked end of the line, and the passes of each."""
    nodes = list((cfg.get("rerank") or {}).items())
    found = [dict(nodes[: n + 1]) for n in range(len(nodes))]
    return {"reranked " + " + ".join(passes): passes for passes in found}


def reranking_in(name: str, cfg: dict[str, Any], data: Data) -> dict[str, Any]:
    """What evaluating the row of this name needs to know of re-ranking; empty for any other."""
    passes = reranked(cfg).get(name)
    if passes is None:
        return {}
    told = {at: {**node, "files": contents_of(node)} for at, node in passes.items()}
    return {"reranking": reranking_of(cfg, data, len(passes)), "passes": told}


def contents_of(node: dict[str, Any]) -> dict[str, str]:
    """Hashes of the files that a pass reads: its result depends on them, and not on their names."""
    files = {key: Path(value) for key, value in node.items() if isinstance(value, str) and key != "_target_"}
    return {key: file_digest(file) for key, file in files.items() if file.is_file()}
