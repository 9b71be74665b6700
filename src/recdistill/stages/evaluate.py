"""Evaluating one model: its metrics on the test part, kept per user, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.features import UNKNOWN
from recdistill.data.interactions import Dataset
from recdistill.errors import InputError
from recdistill.evaluation.beyond import Catalogue, beyond
from recdistill.evaluation.cost import latency
from recdistill.evaluation.ranking import RankingResult, recommend
from recdistill.evaluation.sampled import sampled_name
from recdistill.evaluation.slices import slices
from recdistill.export.bundle import WEIGHTS, count_parameters, load_model, model_info
from recdistill.runs.atomic import atomic_path, read_json, write_json
from recdistill.runs.store import Store
from recdistill.tasks.ranking import Ranking, scorer

RESULT = "result.safetensors"
METRICS = "evaluation.json"
PER_USER = "per_user.parquet"


@dataclass(frozen=True)
class Evaluated:
    """One model's result.

    Attributes:
        folder: where it is stored.
        means: metric name to average.
        per_user: metric name to float64 ``[U]``.
        top: int32 ``[U, K]``.
        users: int64 ``[U]``.
        info: tie rates, counts and warnings.
        beyond: coverage, popularity, diversity of the lists; see :func:`recdistill.evaluation.beyond.beyond`.
        slices: by user activity and item popularity; see :func:`recdistill.evaluation.slices.slices`.
        sampled: sampled metrics, where they were asked for.
    """

    folder: Path
    means: dict[str, float]
    per_user: dict[str, Tensor]
    top: Tensor
    users: Tensor
    info: dict[str, Any]
    beyond: dict[str, Any]
    slices: list[dict[str, Any]]
    sampled: dict[str, float]


def evaluate(
    store: Store, model_folder: Path, data: Dataset, ks: list[int], name: str, part: str = "test", *,
    metric: str | None = None, negatives: int | None = None,
) -> Evaluated:  # fmt: skip
    """Ranks the full catalogue for every user of a part, or reads what was found before.

    Args:
        part: "test", or "valid" where the test part must stay closed.
        metric: what slices are measured by, and whose ``k`` is the length of the lists that are looked at beyond
            accuracy; NDCG at the first of ``ks`` by default.
        negatives: sampled items a user for sampled metrics; None for none.

    Raises:
        InputError: the model was made for other data, or a score is NaN.
    """
    info = model_info(model_folder)
    require_same_data(model_folder, data)
    if not len(getattr(data, part)):
        raise InputError(
            f"there is no {part} part to evaluate on", where="data", why="the source or the split gives none"
        )
    metric = metric or f"ndcg@{ks[0]}"
    depends_on = {
        "model": info["hash"], "net": info["net"], "data": data.fingerprint, "ks": ks, "part": part,
        "metric": metric, "negatives": negatives,
    }  # fmt: skip

    def make(folder: Path) -> None:
        model, task = load_model(model_folder, data.train), Ranking()
        result = task.evaluate(model, data, part, ks, name=name)
        more = look_closer(result, data, part, metric)
        if negatives is not None:
            few = task.evaluate(model, data, part, ks, name=name, negatives=negatives).per_user
            more["sampled"] = {sampled_name(key, negatives): float(values.mean()) for key, values in few.items()}
        write_result(folder, result, data, more)

    return read_result(store.obtain("evaluate", depends_on, make, f"evaluate {name}"))


def require_same_data(model_folder: Path, data: Dataset) -> None:
    """Raises InputError for a model of another data set, even one with the same numbers of users and items."""
    require_made_for(data, model_info(model_folder)["data"], "the model was", model_folder)


def require_made_for(data: Dataset, made_for: str, what: str, where: Path) -> None:
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


def write_result(folder: Path, result: RankingResult, data: Dataset, more: dict[str, Any]) -> None:
    """Writes the result; ``more`` goes into ``evaluation.json`` as it is."""
    import polars as pl
    from safetensors.torch import save_file

    tensors = {f"per_user/{name}": values.contiguous() for name, values in result.per_user.items()}
    with atomic_path(folder / RESULT) as temporary:
        save_file(tensors | {"top": result.top.contiguous(), "users": result.users.contiguous()}, temporary)
    columns = {
        "user": data.users[result.users.numpy()],
        "n_relevant": result.n_relevant.numpy(),
        "n_history": data.history.counts()[result.users].numpy(),
    }
    frame = pl.DataFrame(columns | {name: values.numpy() for name, values in result.per_user.items()})
    with atomic_path(folder / PER_USER) as temporary:
        frame.write_parquet(temporary)
    info = {
        "n_users": result.n_users, "n_cold": result.n_cold, "warnings": result.warnings,
        "tie_rate": {str(k): rate for k, rate in result.tie_rate.items()},
    }  # fmt: skip
    write_json(folder / METRICS, {"means": result.means(), "info": info} | more)


def read_result(folder: Path) -> Evaluated:
    from safetensors.torch import load_file

    tensors, metrics = load_file(folder / RESULT), read_json(folder / METRICS)
    per_user = {name.removeprefix("per_user/"): t for name, t in tensors.items() if name.startswith("per_user/")}
    return Evaluated(
        folder, metrics["means"], per_user, tensors["top"], tensors["users"], metrics["info"],
        metrics["beyond"], metrics["slices"], metrics.get("sampled", {}),
    )  # fmt: skip


def costs(model_folder: Path, data: Dataset, *, k: int = 10, repeats: int = 200) -> dict[str, Any]:
    """What serving the model costs: numbers stored, bytes of its file, time for a top-k of the whole catalogue.

    Times are on one thread, for one user and for 256 users at a time.
    """
    model = load_model(model_folder, data.train)
    score, seen = scorer(model), data.train.csr
    users = torch.randperm(data.train.n_users, generator=torch.Generator().manual_seed(0))
    times = {
        str(batch): latency(lambda u: recommend(score, u, seen, k), users, batch=batch, repeats=max(count, 20))
        for batch, count in ((1, repeats), (min(256, data.train.n_users), repeats // 4))
    }
    return {
        "parameters": count_parameters(model_folder),
        "bytes": (model_folder / WEIGHTS).stat().st_size,
        "latency": times,
    }
