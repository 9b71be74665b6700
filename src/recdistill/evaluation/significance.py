"""Is the difference between two models more than noise: paired tests and bootstrap intervals over users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from recdistill.errors import InputError

Array = np.ndarray[Any, np.dtype[np.float64]]
PerUser = Tensor | Array
"""One value per user, ``[U]``, users in the same order for all models that are compared."""

CHUNK_BYTES = 16 * 2**20


class Interval(NamedTuple):
    """An estimate and its confidence interval."""

    value: float
    low: float
    high: float


def paired_t(a: PerUser, b: PerUser) -> float:
    """Two-sided p-value of the paired t-test over users.

    Args:
        a, b: metric of two models by user, ``[U]``.

    Returns:
        p; 1 if the models agree on every user or there are fewer than two users.

    Raises:
        InputError: the users differ in number.
    """
    first, second = _paired(a, b)
    difference = first - second
    if len(difference) < 2 or not difference.any():
        return 1.0
    if np.ptp(difference) == 0:  # the same difference for everybody: t is infinite
        return 0.0
    from scipy import stats

    return float(stats.ttest_rel(first, second).pvalue)


def bootstrap_mean(a: PerUser, *, n: int = 2000, seed: int = 0, level: float = 0.95) -> Interval:
    """Mean over users with its percentile bootstrap interval. Args: see :func:`bootstrap_ratio`."""
    values = _array(a)
    if not len(values):
        return Interval(np.nan, np.nan, np.nan)
    means = _resampled_sums(values[None], n, seed)[:, 0] / len(values)
    return Interval(float(values.mean()), *_bounds(means, level))


def bootstrap_ratio(a: PerUser, b: PerUser, *, n: int = 2000, seed: int = 0, level: float = 0.95) -> Interval:
    """How much of ``b`` is kept by ``a``: ``mean(a) / mean(b)`` and its paired percentile bootstrap interval.

    Users are resampled with replacement, the same ones for both models (Efron and Tibshirani, An Introduction
    to the Bootstrap, 1993, chapter 13).

    Args:
        a, b: metric of two models by user, ``[U]``.
        n: number of resamples.
        seed: of the resampling.
        level: coverage of the interval.

    Returns:
        Ratio, low, high; NaN where ``b`` is 0 for all users.

    Raises:
        InputError: the users differ in number.
    """
    first, second = _paired(a, b)
    if not len(first) or not second.any():
        return Interval(np.nan, np.nan, np.nan)
    sums = _resampled_sums(np.stack([first, second]), n, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = sums[:, 0] / sums[:, 1]
    return Interval(float(first.mean() / second.mean()), *_bounds(ratios, level))


def holm(ps: Sequence[float]) -> list[float]:
    """p-values adjusted for several comparisons by Holm's step-down method (1979), in the order given."""
    p = np.asarray(ps, dtype=np.float64)
    order = p.argsort(kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in adjusted]


def _resampled_sums(rows: Array, n: int, seed: int) -> Array:
    """Sums of each row ``[M, U]`` over ``n`` resamples of its columns: ``[n, M]``."""
    users = rows.shape[1]
    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK_BYTES // (8 * users))
    out = []
    for start in range(0, n, chunk):
        count = min(chunk, n - start)
        drawn = rng.integers(users, size=(count, users)) + np.arange(count)[:, None] * users
        weights = np.bincount(drawn.ravel(), minlength=count * users).reshape(count, users)  # multinomial
        out.append(weights.astype(np.float64) @ rows.T)
    return np.concatenate(out)


def _bounds(draws: Array, level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def _array(a: PerUser) -> Array:
    values = a.detach().cpu().numpy() if isinstance(a, Tensor) else np.asarray(a)
    return values.astype(np.float64, copy=False)


def _paired(a: PerUser, b: PerUser) -> tuple[Array, Array]:
    first, second = _array(a), _array(b)
    if first.shape != second.shape:
        raise InputError(
            f"can't compare {first.shape[0]} users with {second.shape[0]}",
            why="a paired test needs both models evaluated on the same users",
        )
    return first, second
