"""Is the difference between two models more than noise: paired tests and bootstrap intervals, over users and seeds."""

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
GROUPS = 2**17
"""More users or rows than this are resampled in so many groups, see :func:`grouped`."""


class Interval(NamedTuple):
    """An estimate and its confidence interval."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """A difference of means, its confidence interval and the two-sided p-value."""

    value: float
    low: float
    high: float
    p: float


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


def bootstrap_difference(
    a: PerUser, b: PerUser, *, same_seeds: bool = False, n: int = 2000, seed: int = 0, level: float = 0.95
) -> Difference:
    """``mean(a) - mean(b)`` of two models: the paired bootstrap over users, or over seeds and users.

    Seeds are drawn with replacement, and users, the same ones for both models: the two-way bootstrap of crossed data
    (Owen, The pigeonhole bootstrap, 2007; Owen and Eckles, Bootstrapping data arrays of arbitrary order, 2012). The
    spread of the draws is the standard error; interval and p-value are Student's, with the degrees of freedom of
    Welch and Satterthwaite, since few seeds say little about how much seeds vary. Two errors of plain draws are put
    right: S seeds drawn from S vary (S - 1) / S times as much as they should, and drawing both ways counts three times
    what is neither a user's nor a seed's own, so two are taken off.

    With one seed each nothing of this is left but the bootstrap over users. A model with one seed that is compared
    with one of several is taken to vary as that does.

    Args:
        a, b: metric of two models by user, ``[U]``, or by seed and user, ``[S, U]``; S may differ.
        same_seeds: whether row s of both is of the same seed, so that the two are drawn together.
        n: number of resamples.
        seed: of the resampling.
        level: coverage of the interval.

    Returns:
        Difference, low, high, p; the interval is NaN and p is 1 for fewer than two users.

    Raises:
        InputError: the users differ in number.
    """
    first, second = np.atleast_2d(_array(a)), np.atleast_2d(_array(b))
    _paired(first[0], second[0])
    users = first.shape[1]
    if users < 2:
        return Difference(float(first.mean() - second.mean()) if users else np.nan, np.nan, np.nan, 1.0)
    means = first.mean(0) - second.mean(0)
    noise = [_SeedNoise.of(first - second)] if same_seeds else _independent(first, second)
    sums = _resampled_sums(np.concatenate([means[None], *(part.rows for part in noise)]), n, seed) / users
    of_users, *of_seeds = np.split(sums, np.cumsum([1, *(len(part.rows) for part in noise)])[:-1], axis=1)
    rng = np.random.default_rng([seed, 1])
    draws = of_users[:, 0] + sum(part.draw(drawn, rng) for part, drawn in zip(noise, of_seeds, strict=True))
    error = float(of_users.var())
    variance = max(error, float(draws.var()) - 2 * sum(part.remainder for part in noise))
    terms = [(error, users - 1), *((part.variance, len(part.rows) - 1) for part in noise if len(part.rows))]
    return _student(float(means.mean()), variance, terms, level)


class _SeedNoise(NamedTuple):
    """What the seeds of one model add to the noise.

    Attributes:
        rows: each seed's departure from the mean over seeds, ``[R, U]``; none where nothing is known of it.
        share: of a seed's variance that the mean has, ``1 / S``.
    """

    rows: Array
    share: float

    @classmethod
    def of(cls, values: Array, share: float | None = None) -> _SeedNoise:
        """Of values ``[R, U]``; ``share`` is that of a mean over all R, unless given."""
        rows = values - values.mean(0) if len(values) > 1 else values[:0]
        return cls(rows, 1 / len(values) if share is None else share)

    def draw(self, sums: Array, rng: np.random.Generator) -> Array:
        """Mean departure of seeds that are drawn anew for each of ``sums [n, R]``: ``[n]``."""
        known = len(self.rows)
        if not known:
            return np.zeros(len(sums))
        times = rng.multinomial(known, np.full(known, 1 / known), size=len(sums)) / known
        return np.asarray((times * sums).sum(1) * np.sqrt(known / (known - 1) * known * self.share))

    @property
    def variance(self) -> float:
        """Of the mean over seeds."""
        return float(self.rows.mean(1).var(ddof=1)) * self.share if len(self.rows) else 0.0

    @property
    def remainder(self) -> float:
        """The part of the variance of the mean that belongs to single pairs of seed and user."""
        if not len(self.rows):
            return 0.0
        known, users = self.rows.shape
        single = self.rows - self.rows.mean(1, keepdims=True)
        return float((single**2).sum() * self.share / ((known - 1) * (users - 1) * users))


def _independent(first: Array, second: Array) -> list[_SeedNoise]:
    """The noise of each; where one has one seed only, both from the seeds of the other, as one estimate."""
    if len(first) > 1 and len(second) > 1:
        return [_SeedNoise.of(first), _SeedNoise.of(second)]
    several = first if len(first) > 1 else second
    return [_SeedNoise.of(several, 1 + 1 / len(several))]


def _student(value: float, variance: float, terms: Sequence[tuple[float, int]], level: float) -> Difference:
    """``terms``: the estimated variances that ``variance`` is made of, and the degrees of freedom of each."""
    if variance == 0:  # the same difference for everybody
        return Difference(value, value, value, 1.0 if value == 0 else 0.0)
    from scipy import stats

    freedom = variance**2 / sum(part**2 / degrees for part, degrees in terms)
    freedom = max(freedom, min(degrees for _, degrees in terms))  # less than the sum of the terms was kept
    error = float(np.sqrt(variance))
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    return Difference(value, value - half, value + half, float(2 * stats.t.sf(abs(value) / error, freedom)))


def holm(ps: Sequence[float]) -> list[float]:
    """p-values adjusted for several comparisons by Holm's step-down method (1979), in the order given."""
    p = np.asarray(ps, dtype=np.float64)
    order = p.argsort(kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in adjusted]


def grouped(rows: Array, groups: int, seed: int) -> Array:
    """Sums ``[M, groups]`` of each row ``[M, U]`` over random groups of its columns, of sizes that differ by 1 at most.

    Drawing groups with replacement instead of columns gives sums of the same expected variance, to 1 / sqrt(groups / 2)
    of it (random groups; Wolter, Introduction to Variance Estimation, 2007, chapter 2). Rows of mean 0, or the larger
    groups would be drawn as noise.
    """
    users = rows.shape[1]
    order = np.random.default_rng([seed, 2]).permutation(users)
    starts = np.arange(groups) * users // groups
    return np.stack([np.add.reduceat(row[order], starts) for row in rows])


def _resampled_sums(rows: Array, n: int, seed: int) -> Array:
    """Sums of each row ``[M, U]`` over ``n`` resamples of its columns: ``[n, M]``."""
    if rows.shape[1] > GROUPS:
        means = rows.mean(1, keepdims=True)
        sums: Array = _resampled_sums(grouped(rows - means, GROUPS, seed), n, seed) + means[:, 0] * rows.shape[1]
        return sums
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
