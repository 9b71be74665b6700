"""Results of evaluations on disk: averages and what else is plain in JSON, values of users or rows in Parquet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from recdistill.config.metrics import BY_USER
from recdistill.data.interactions import Dataset
from recdistill.evaluation.ranking import RankingResult
from recdistill.evaluation.table_result import TableResult
from recdistill.evaluation.values import values_of
from recdistill.runs.atomic import atomic_path, read_json, write_json

RESULT = "result.safetensors"
METRICS = "evaluation.json"
COLD = "cold/"
PER_USER, PER_ROW = "per_user.parquet", "per_row.parquet"


@dataclass(frozen=True)
class Evaluated:
    """One model's result.

    Attributes:
        folder: where it is stored.
        means: metric name to average.
        values: metric name to float64 ``[U]``, of users or rows, whose mean it is; in the same order for all models.
        top: int32 ``[U, K]``, the lists of users; None where nothing is ranked.
        info: tie rates, counts and warnings.
        beyond: coverage, popularity, diversity of the lists; see :func:`recdistill.evaluation.beyond.beyond`.
        slices: by user activity and item popularity; see :func:`recdistill.evaluation.slices.slices`.
        sampled: sampled metrics, where they were asked for.
        cold: of the items that training lacks, see :func:`recdistill.evaluation.cold.summary`; empty without such.
        cold_values: the values whose means are in ``cold``, by field and metric; empty where there are none.
    """

    folder: Path
    means: dict[str, float]
    values: dict[str, Tensor]
    top: Tensor | None
    info: dict[str, Any]
    beyond: dict[str, Any]
    slices: list[dict[str, Any]]
    sampled: dict[str, float]
    cold: dict[str, Any]
    cold_values: dict[str, dict[str, Tensor]]


def write_ranking(
    folder: Path, result: RankingResult, data: Dataset, more: dict[str, Any], cold: Mapping[str, dict[str, Tensor]]
) -> None:
    """Writes the result of a ranking; ``more`` goes into ``evaluation.json`` as it is, ``cold`` are values of users by
    field, as in :class:`Evaluated`."""
    import polars as pl

    of_cold = {f"{COLD}{field}/{name}": own for field, values in cold.items() for name, own in values.items()}
    _write_tensors(folder, result.per_user, {"top": result.top, "users": result.users, **of_cold})
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


def write_table(folder: Path, result: TableResult) -> None:
    """Writes the result of a table: a file of values by row, and one of values by user where rows have users."""
    import polars as pl

    found = {
        name: values
        for name in result.means()
        if (values := values_of(name, result.prediction, result.label, result.group)) is not None
    }
    n = len(result.label)
    _write_tensors(folder, {name: values for name, (_, values) in found.items()}, {})
    for unit, file in (("row", PER_ROW), ("user", PER_USER)):
        columns = {name: pair for name, pair in found.items() if (name in BY_USER) == (unit == "user")}
        if columns:
            units = next(iter(columns.values()))[0]
            frame = pl.DataFrame(
                {unit: units.numpy()} | {name: values.numpy() for name, (_, values) in columns.items()}
            ).with_columns(pl.col(unit).cast(pl.String))
            with atomic_path(folder / file) as temporary:
                frame.write_parquet(temporary)
    info = {"n_rows": n, "n_cold": 0, "warnings": result.warnings, "tie_rate": {}}
    write_json(folder / METRICS, {"means": result.means(), "info": info, "beyond": {}, "slices": []})


def _write_tensors(folder: Path, values: dict[str, Tensor], more: dict[str, Tensor]) -> None:
    from safetensors.torch import save_file

    tensors = {f"values/{name}": tensor for name, tensor in values.items()} | more
    with atomic_path(folder / RESULT) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)


def read_result(folder: Path) -> Evaluated:
    """What one of the above has written."""
    from safetensors.torch import load_file

    tensors, metrics = load_file(folder / RESULT), read_json(folder / METRICS)
    values = {name.removeprefix("values/"): t for name, t in tensors.items() if name.startswith("values/")}
    cold: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(COLD):
            field, _, metric = name.removeprefix(COLD).partition("/")
            cold.setdefault(field, {})[metric] = tensor
    return Evaluated(
        folder, metrics["means"], values, tensors.get("top"), metrics["info"],
        metrics["beyond"], metrics["slices"], metrics.get("sampled", {}),
        metrics.get("cold", {}), cold,
    )  # fmt: skip
