"""Statistics per user or row over several seeds: means, paired tests, the share of the teacher that is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recdistill.config.metrics import share_terms, sign
from recdistill.reporting.units import unit

if TYPE_CHECKING:
    import polars as pl

_NORMAL_95 = 1.959963984540054


class Tested(NamedTuple):
    """Where the values of one model of one run lie, and which fold it was tested on; None where there are no folds."""

    folder: Path
    fold: int | None = None


def values_file(metric: str) -> str:
    """The file in a model's folder that has a metric by user or by row: ``per_user.parquet`` or ``per_row.parquet``."""
    return f"per_{unit(metric)}.parquet"


def read_values(run: Tested, metric: str) -> pl.DataFrame | None:
    """Columns ``unit`` (a user, or the number of a row in the test part) and ``value``; None without the metric.

    Row 3 of one fold is not row 3 of another: rows of folds carry the number of theirs.
    """
    import polars as pl

    file, column = run.folder / values_file(metric), unit(metric)
    if not file.is_file() or not {column, metric} <= set(pl.read_parquet_schema(file)):
        return None
    frame = pl.read_parquet(file, columns=[column, metric])
    name = pl.col(column)
    if column == "row" and run.fold is not None:
        name = pl.lit(f"{run.fold}:") + name.cast(pl.String)
    return frame.select(name.alias("unit"), pl.col(metric).cast(pl.Float64).alias("value"))


def mean_values(runs: Sequence[Tested], metric: str) -> pl.DataFrame | None:
    """Each user's or row's value averaged over those runs (one a seed or fold) that have it: ``unit`` and ``value``.

    ``None`` where a file is missing or lacks the metric: an average over some of the seeds would be
    paired with an average over others.
    """
    import polars as pl

    found = [read_values(run, metric) for run in runs]
    frames = [frame for frame in found if frame is not None]
    if not frames or len(frames) < len(found):
        return None
    return pl.concat(frames).group_by("unit").agg(pl.col("value").mean()).sort("unit")


def _paired(ours: pl.DataFrame, theirs: pl.DataFrame) -> tuple[Any, Any]:
    both = ours.join(theirs, on="unit", suffix="_other").drop_nulls()
    return both["value"].to_numpy(), both["value_other"].to_numpy()


def paired_by_seed(
    ours: Sequence[Sequence[Tested]], theirs: Sequence[Sequence[Tested]], metric: str
) -> tuple[Any, Any] | None:
    """Values ``[S, U]`` of two models, a seed a row, of the users or rows that all seeds of both have; None without a
    pair.

    Args:
        ours, theirs: the runs of each seed, of which there are several where there are folds.
    """
    found = [mean_values(runs, metric) for runs in (*ours, *theirs)]
    frames = [frame for frame in found if frame is not None]
    if len(frames) < len(found) or not ours or not theirs:
        return None
    joined = frames[0].select("unit")
    for number, frame in enumerate(frames):
        joined = joined.join(frame.rename({"value": f"{number}"}), on="unit", how="inner")
    joined = joined.drop_nulls().sort("unit")
    if joined.height < 2:
        return None
    values = np.ascontiguousarray(joined.drop("unit").to_numpy().T)
    return values[: len(ours)], values[len(ours) :]


def kept_share(ours: pl.DataFrame | None, teacher: pl.DataFrame | None, metric: str) -> dict[str, float] | None:
    """How much of the teacher is kept (see :func:`~recdistill.config.metrics.share_terms`), a ratio of means over users
    or rows; its 95 % interval (delta method) has these as the noise, not seeds. None where the teacher's own interval
    reaches down to chance."""
    if ours is None or teacher is None:
        return None
    a, b = share_terms(*_paired(ours, teacher), metric)
    if len(a) < 2 or not b.mean() > (_NORMAL_95 * b.std(ddof=1) / math.sqrt(len(b)) if sign(metric) > 0 else 0):
        return None
    value = float(a.mean() / b.mean())
    half = _NORMAL_95 * float((a - value * b).std(ddof=1)) / math.sqrt(len(a)) / float(b.mean())
    return {"value": value, "low": value - half, "high": value + half}


def holm(values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the given order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(values), 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        highest = max(highest, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = highest
    return adjusted


def mean_sd(values: Sequence[float]) -> dict[str, Any]:
    """Mean, sample standard deviation (``None`` for one value) and the values."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "sd": sd, "values": [float(value) for value in values]}


def over_seeds(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """``mean_sd`` of every metric that all rows have."""
    names = [name for name in rows[0].get("metrics") or {} if all(name in (r.get("metrics") or {}) for r in rows)]
    return {name: mean_sd([row["metrics"][name] for row in rows]) for name in names}
