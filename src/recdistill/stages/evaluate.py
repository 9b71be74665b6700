"""Evaluating one model: its metrics on the test part, kept per user, and what it costs."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import torch

from recdistill.data.csr import Csr
from recdistill.data.features import UNKNOWN
from recdistill.data.interactions import Data, Dataset
from recdistill.errors import InputError
from recdistill.evaluation.beyond import Catalogue, beyond
from recdistill.evaluation.cold import cold_items, fields, summary
from recdistill.evaluation.cost import latency, work
from recdistill.evaluation.ranking import RankingResult
from recdistill.evaluation.sampled import sampled_name
from recdistill.evaluation.slices import slices
from recdistill.evaluation.topk import Scorer, masked
from recdistill.export.bundle import WEIGHTS, count_parameters, load_frozen, model_info
from recdistill.models.given import ReadyMade
from recdistill.rerank.base import Reranking
from recdistill.runs.store import Store
from recdistill.stages.cold import look_at_cold
from recdistill.stages.results import Evaluated, read_result, write_ranking, write_table
from recdistill.tasks.base import Task
from recdistill.tasks.ranking import Ranking


def evaluate(
    store: Store, model_folder: Path, data: Data, ks: list[int], name: str, part: str = "test", *,
    task: Task | None = None, metric: str | None = None, negatives: int | None = None,
    reranking: Reranking | None = None, passes: dict[str, Any] | None = None,
) -> Evaluated:  # fmt: skip
    """Evaluates a model on all users or rows of a part, or reads what was found before.

    Args:
        part: "test", or "valid" where the test part must stay closed.
        task: ranking by default.
        metric: what slices are measured by, and whose ``k`` is the length of the lists that are looked at beyond
            accuracy; NDCG at the first of ``ks`` by default.
        negatives: sampled items a user for sampled metrics; None for none.
        reranking: passes over the lists; what is sampled, and cold items, are left out then.
        passes: their config.

    Raises:
        InputError: the model was made for other data, or a score is NaN.
    """
    info = model_info(model_folder)
    require_same_data(model_folder, data)
    if not len(getattr(data, part)):
        raise InputError(
            f"there is no {part} part to evaluate on", where="data", why="the source or the split gives none"
        )
    metric, task = metric or f"ndcg@{ks[0]}", task or Ranking()
    negatives = None if passes else negatives
    depends_on = {
        "task": [task.name, vars(task)], "model": info["hash"], "net": info["net"], "data": data.fingerprint, "ks": ks,
        "part": part, "metric": metric, "negatives": negatives,
        **({"labels": info["labels"]} if info.get("labels") else {}),
        **({"rerank": list(passes.items())} if passes else {}),
    }  # fmt: skip
    over_lists: dict[str, Any] = {} if reranking is None else {"reranking": reranking}
    cold = isinstance(data, Dataset) and not passes and len(cold_items(data, part)) > 0
    if cold:
        depends_on["cold items"] = 1

    def make(folder: Path) -> None:
        model = load_frozen(model_folder, data.train)
        if isinstance(model, ReadyMade):
            model.require_part(data, part)
        result = task.evaluate(model, data, part, ks, name=name, **over_lists)
        if math.isnan(result.means().get(metric, 0.0)):
            raise _no_value(metric, part)
        if not isinstance(result, RankingResult):
            return write_table(folder, result)
        assert isinstance(data, Dataset)
        more = look_closer(result, data, part, metric)
        if negatives is not None:
            few = task.evaluate(model, data, part, ks, name=name, negatives=negatives).per_user  # type: ignore[call-arg]
            more["sampled"] = {sampled_name(key, negatives): float(values.mean()) for key, values in few.items()}
        found = None
        if cold:
            among = fields(data, part)
            found = look_at_cold(model, task, data, part, among, ks, name)
            more["cold"] = summary(found, among, ks)
        return write_ranking(folder, result, data, more, found or {})

    return read_result(store.obtain("evaluate", depends_on, make, f"evaluate {name}"))


def _no_value(metric: str, part: str) -> InputError:
    return InputError(
        f"{metric} has no value on the {part} part", where="evaluation.metric",
        why="all its labels are alike, or those of every user", fix="another data.split, or another metric",
    )  # fmt: skip


def require_same_data(model_folder: Path, data: Data) -> None:
    """Raises InputError for a model of another data set, even one with the same numbers of users and items."""
    require_made_for(data, model_info(model_folder)["data"], "the model was", model_folder)


def require_made_for(data: Data, made_for: str, what: str, where: Path) -> None:
    """Raises InputError where ``made_for``, the fingerprint that something carries, is not that of ``data``."""
    if made_for != data.fingerprint:
        raise InputError(
            f"{what} made for another data set", where=str(where),
            why=f"its data are {made_for or 'unknown'}, these are {data.fingerprint}",
            fix="evaluate and distil with the data, filters and split that it was trained on, "
            f"or remove {where} and run again",
        )  # fmt: skip


def look_closer(result: RankingResult, data: Dataset, part: str, metric: str) -> dict[str, Any]:
    """What the averages don't tell: ``beyond`` accuracy, and ``slices`` by users and items."""
    catalogue, names = catalogue_of(data)
    k = metric.partition("@")[2]
    metrics = list(dict.fromkeys([metric, f"recall@{k}"]))
    return {
        "beyond": beyond(result, int(k), catalogue) | names,
        "slices": slices(result, metrics, getattr(data, part).csr, catalogue),
    }


def catalogue_of(data: Dataset) -> tuple[Catalogue, dict[str, str]]:
    """Popularity, categories and vectors of the items, and which features the latter two are.

    The first set-valued feature of the items is their categories, else the first categorical one; the first vector
    is their vector.
    """
    items = data.item_features
    sets = next(iter(items.multi.items()), None)
    if sets is None and items.categorical:
        name, codes = next(iter(items.categorical.items()))
        known = (codes != UNKNOWN).nonzero().flatten()
        sets = name, Csr.from_pairs(known, codes[known], len(codes))
    vectors = next(iter(items.vector.items()), None)
    names = {"diversity_by": vectors[0] if vectors else "co-occurrence in training"}
    if sets:
        names["category_by"] = sets[0]
    catalogue = Catalogue(
        data.train.csr, data.train.n_items, data.history, sets[1] if sets else None, vectors[1] if vectors else None
    )
    return catalogue, names


def costs(
    model_folder: Path,
    data: Data,
    *,
    task: Task | None = None,
    k: int = 10,
    repeats: int = 200,
    reranking: Reranking | None = None,
) -> dict[str, Any]:
    """What serving the model costs: its numbers and how many are not zero, bytes of its file, time of a request: a
    top-k of the whole catalogue, or the score of a row.

    Times are on one thread, for one request and for 256 requests at a time; ``work`` is that of one request.
    """
    model = load_frozen(model_folder, data.train)
    answer, pool = (task or Ranking()).request(model, data, k)
    if reranking is not None:
        assert isinstance(data, Dataset)
        score, seen = (task or Ranking()).scorer(model, data), data.seen("test")
        answer = partial(_reranked, score, seen, reranking, k)
    pool = pool[torch.randperm(len(pool), generator=torch.Generator().manual_seed(0))]
    times = {
        str(batch): latency(answer, pool, batch=batch, repeats=max(count, 20))
        for batch, count in ((1, repeats), (min(256, len(pool)), repeats // 4))
    }
    return {
        **count_parameters(model_folder),
        "bytes": (model_folder / WEIGHTS).stat().st_size,
        "latency": times,
        "work": work(answer, pool[:1]),
    }


def _reranked(score: Scorer, seen: Csr, reranking: Reranking, k: int, users: torch.Tensor) -> object:
    return reranking.lists(masked(score(users), users, seen), k)
