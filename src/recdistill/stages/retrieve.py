"""Measuring indexes over the items' vectors of the end of the line: what they find of the exact lists, how fast, in how
many bytes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from recdistill.data.interactions import Data, Dataset
from recdistill.errors import InputError
from recdistill.evaluation import cost
from recdistill.export.bundle import load_model
from recdistill.models.base import FactorModel, SequenceModel
from recdistill.models.build import instantiate
from recdistill.retrieval.base import PAD, Array, Index, Lists, Searcher, unseen
from recdistill.retrieval.exact import Exact
from recdistill.stages.nodes import class_of
from recdistill.tasks.sequence import histories

MAX_QUERIES = 1000
REPEATS = 200
TIMED_K = 10


def indexes_of(cfg: dict[str, Any]) -> dict[str, Index]:
    """The indexes of a config, by name."""
    return {name: instantiate(node) for name, node in dict(cfg.get("index") or {}).items()}


def require_indexes(cfg: dict[str, Any]) -> None:
    """Raises InputError where the student has no vectors to index, or a package is missing, before anything is
    trained."""
    found = indexes_of(cfg)
    if not found:
        return
    student = class_of(cfg["student"], "student")
    if not issubclass(student, FactorModel | SequenceModel):
        raise InputError(
            f"{student.__name__} has no vectors of items to search", where=f"index.{next(iter(found))}",
            why="its scores are no dot products", fix="index=none, or a student such as mf or sasrec",
        )  # fmt: skip
    for name, index in found.items():
        index.require(f"index.{name}")


def measured_indexes(cfg: dict[str, Any], data: Data, model_folder: Path) -> list[dict[str, Any]]:
    """Builds each index of a config over the items' vectors of a model and measures it; all by the same queries.

    Args:
        data: without the test part.
        model_folder: of the model.

    Returns:
        For each ``name``, ``items``, ``dim``, ``queries``, ``recall`` by k against the exact lists of unseen items,
        ``bytes`` in memory, ``build_seconds`` and ``latency``, that of a list of unseen items for one query.
    """
    assert isinstance(data, Dataset)
    items, queries, users = vectors_of(data, model_folder)
    seen = seen_by(data, users, len(items))
    ks = sorted(k for k in cfg["evaluation"]["ks"] if k <= len(items))
    expected = unseen(Exact().build(items), queries, ks[-1], seen)
    found = []
    for name, index in indexes_of(cfg).items():
        start = time.perf_counter()
        searcher = index.build(items)
        seconds = time.perf_counter() - start
        lists = unseen(searcher, queries, ks[-1], seen)
        found.append({
            "name": name, "items": len(items), "dim": items.shape[1], "queries": len(queries),
            "recall": {str(k): recall(lists, expected, k) for k in ks}, "bytes": searcher.nbytes,
            "build_seconds": round(seconds, 3), "latency": latency(searcher, queries, seen, min(TIMED_K, ks[-1])),
        })  # fmt: skip
    return found


@torch.inference_mode()
def vectors_of(data: Dataset, model_folder: Path) -> tuple[Array, Array, torch.Tensor]:
    """Vectors of the items, vectors of queries and the users whose these are: all, or :data:`MAX_QUERIES` of them."""
    model = load_model(model_folder, data.train)
    users = torch.randperm(data.train.n_users, generator=torch.Generator().manual_seed(0))[:MAX_QUERIES]
    if isinstance(model, SequenceModel):
        had = histories(data, "test").last(users, length=model.schema.max_length)
        items, queries = model.item_matrix(), model.query(had)
    else:
        of_users, items = model.factors()
        queries = of_users[users]
    return items.float().numpy(), queries.float().numpy(), users


def seen_by(data: Dataset, users: torch.Tensor, n_items: int) -> list[Array]:
    """What each user had by the end of validation, items of the catalogue."""
    row, item = data.seen("test").rows(users)
    inside = item < n_items
    counts = torch.bincount(row[inside], minlength=len(users))
    return [part.numpy() for part in torch.split(item[inside], counts.tolist())]


def recall(found: Lists, expected: Lists, k: int) -> float:
    """Share of the exact lists of ``k`` items that is in the others."""
    wanted, there = expected.items[:, :k], found.items[:, :k]
    hit = ((wanted[:, :, None] == there[:, None, :]) & (wanted != PAD)[:, :, None]).any(2)
    return float(hit.sum() / max((wanted != PAD).sum(), 1))


def latency(searcher: Searcher, queries: Array, seen: list[Array], k: int) -> dict[str, float]:
    """That of a list for one query on one thread, see :func:`recdistill.evaluation.cost.latency`, and ``k``."""

    def answer(query: torch.Tensor) -> Lists:
        at = int(query)
        return unseen(searcher, queries[at : at + 1], k, seen[at : at + 1])

    with faiss_on_one_thread():
        return cost.latency(answer, torch.arange(len(queries)), repeats=REPEATS) | {"k": k}


@contextmanager
def faiss_on_one_thread() -> Iterator[None]:
    """Where faiss is in use, it takes one thread inside the block."""
    faiss: Any = sys.modules.get("faiss")
    before = faiss.omp_get_max_threads() if faiss else 0
    if faiss:
        faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        if faiss:
            faiss.omp_set_num_threads(before)
