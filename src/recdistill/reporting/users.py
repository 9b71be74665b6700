"""Statistics per user over several seeds: means, paired tests, the share of the teacher that is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import polars as pl

PER_USER = "per_user.parquet"
_NORMAL_95 = 1.959963984540054


def mean_per_user(files: Sequence[Path], metric: str) -> pl.DataFrame | None:
    """Each user's value averaged over those files (one a seed or fold) that have it: columns ``user`` and ``value``.

    ``None`` where a file is missing or lacks the metric: an average over some of the seeds would be
    paired with an average over others.
    """
    import polars as pl

    if not files or not all(file.is_file() for file in files):
        return None
    if not all({"user", metric} <= set(pl.read_parquet_schema(file)) for file in files):
        return None
    parts = [pl.read_parquet(file, columns=["user", metric]) for file in files]
    values = [part.select("user", pl.col(metric).cast(pl.Float64).alias("value")) for part in parts]
    return pl.concat(values).group_by("user").agg(pl.col("value").mean()).sort("user")


def _paired(ours: pl.DataFrame, theirs: pl.DataFrame) -> tuple[Any, Any]:
    both = ours.join(theirs, on="user", suffix="_other").drop_nulls()
    return both["value"].to_numpy(), both["value_other"].to_numpy()


def paired_by_seed(
    ours: Sequence[Sequence[Path]], theirs: Sequence[Sequence[Path]], metric: str
) -> tuple[Any, Any] | None:
    """Values ``[S, U]`` of two models, a seed a row, of the users that all seeds of both have; None without a pair.

    Args:
        ours, theirs: the files of each seed, of which there are several where there are folds.
    """
    found = [mean_per_user(files, metric) for files in (*ours, *theirs)]
    frames = [frame for frame in found if frame is not None]
    if len(frames) < len(found) or not ours or not theirs:
        return None
    joined = frames[0].select("user")
    for number, frame in enumerate(frames):
        joined = joined.join(frame.rename({"value": f"{number}"}), on="user", how="inner")
    joined = joined.drop_nulls().sort("user")
    if joined.height < 2:
        return None
    values = np.ascontiguousarray(joined.drop("user").to_numpy().T)
    return values[: len(ours)], values[len(ours) :]


def kept_share(ours: pl.DataFrame | None, teacher: pl.DataFrame | None) -> dict[str, float] | None:
    """Ratio of the means over users; its 95 % interval (delta method) has users as the noise, not seeds."""
    if ours is None or teacher is None:
        return None
    a, b = _paired(ours, teacher)
    if len(a) < 2 or not b.mean() > 0:
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
