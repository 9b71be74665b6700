"""A made-up table of clicks with a known right answer: a factorisation machine draws the labels."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import polars as pl
from annotated_types import Ge, Interval

from recdistill.data.sources.base import RESERVED, Kind, RawLog, Source, hash_arguments
from recdistill.data.sources.labelled import table
from recdistill.errors import InputError

_VERSION = 1  # raise it when the same arguments give another table
_SIZES = {"user_id": 400, "item_id": 300, "category": 20, "device": 4, "hour": 24}
_NUMERIC = ("price", "age")

Floats = np.ndarray[Any, np.dtype[np.float64]]
Codes = np.ndarray[Any, np.dtype[np.int64]]


class SyntheticClicks(Source):
    """Categorical fields with a long tail, two standard normal numbers ``price`` and ``age``, and clicks.

    A row's click is a coin with probability σ(b + Σ_i w_i x_i + Σ_{i<j} ⟨v_i, v_j⟩ x_i x_j), where x is the row's
    fields one-hot, then its numbers, w and v are drawn from normal distributions, and b sets the share of clicks.

    Source: Rendle, Factorization machines, ICDM 2010, eq. 1.

    The report says how well the true probabilities themselves do: no model can be expected to do better.

    Args:
        n_rows: of the table.
        sizes: values of each categorical field, by name.
        dim: length of the vectors v; 0 leaves a logistic regression.
        linear, interaction: standard deviation over the rows of the first and of the second sum.
        rate: mean probability of a click.
        popularity: exponent of the long tail of each field; 0 makes all values equally frequent.
        group: the field that tells whose row it is, for AUC by user; None without.
        seed: of everything.
    """

    def __init__(
        self,
        n_rows: Annotated[int, Ge(10)] = 20_000,
        sizes: Mapping[str, Annotated[int, Ge(1)]] = _SIZES,
        dim: Annotated[int, Ge(0)] = 4,
        linear: Annotated[float, Ge(0)] = 0.8,
        interaction: Annotated[float, Ge(0)] = 1.6,
        rate: Annotated[float, Interval(gt=0, lt=1)] = 0.25,
        popularity: Annotated[float, Ge(0)] = 1.0,
        group: str | None = "user_id",
        seed: Annotated[int, Ge(0)] = 0,
    ):
        self.n_rows, self.sizes = n_rows, dict(sizes)
        self.dim, self.linear, self.interaction = dim, linear, interaction
        self.rate, self.popularity = rate, popularity
        self.group, self.seed = group, seed
        if taken := [name for name in self.sizes if name in (*_NUMERIC, *RESERVED)]:
            raise InputError(
                f"a field can't be called '{taken[0]}'",
                where="data.source.sizes",
                why=f"these names are taken: {', '.join((*_NUMERIC, *RESERVED))}",
                fix="give it another name",
            )
        if group is not None and group not in self.sizes:
            raise InputError(
                f"there is no field '{group}'",
                where="data.source.group",
                why=f"the fields are {', '.join(self.sizes) or 'none'}",
                fix=f"data.source.group={next(iter(self.sizes), 'null')}",
            )

    def fingerprint(self) -> str:
        arguments = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return hash_arguments(kind="synthetic_clicks", version=_VERSION, **arguments)

    def where(self) -> str:
        return f"synthetic_clicks(n_rows={self.n_rows}, seed={self.seed})"

    def read(self) -> RawLog:
        codes, numbers, logit = self._world
        probability = _sigmoid(logit)
        click = np.random.default_rng([self.seed, 1]).random(self.n_rows) < probability
        columns = {name: pl.Series(codes[:, at]).cast(pl.String) for at, name in enumerate(self.sizes)}
        columns |= {name: pl.Series(numbers[:, at]) for at, name in enumerate(_NUMERIC)}
        kinds: dict[str, Kind] = {**dict.fromkeys(self.sizes, "categorical"), **dict.fromkeys(_NUMERIC, "numeric")}
        facts: dict[str, int | str] = {
            "best AUC": f"{best_auc(probability):.4f}, of the true probabilities",
            "best logloss": f"{best_logloss(probability):.4f}, likewise",
        }
        return table(pl.DataFrame({"value": click.astype(np.float64), **columns}), kinds, facts, group=self.group)

    def true_probabilities(self) -> Floats:
        """The right answer: the probability of a click of each row of :meth:`read`, float64 ``[n_rows]``."""
        return _sigmoid(self._world[2])

    @cached_property
    def _world(self) -> tuple[Codes, Floats, Floats]:
        """Codes ``[n_rows, fields]``, numbers ``[n_rows, 2]``, and the logit of each row."""
        rng = np.random.default_rng([self.seed, 0])
        drawn = [_long_tail(size, self.popularity, self.n_rows, rng) for size in self.sizes.values()]
        codes = np.stack(drawn, 1) if drawn else np.zeros((self.n_rows, 0), dtype=np.int64)
        numbers = rng.standard_normal((self.n_rows, len(_NUMERIC)))
        first = np.zeros(self.n_rows)
        total, squares = np.zeros((self.n_rows, self.dim)), np.zeros((self.n_rows, self.dim))
        for at, size in enumerate(self.sizes.values()):
            first += rng.standard_normal(size)[codes[:, at]]
            vectors = rng.standard_normal((size, self.dim))[codes[:, at]]
            total, squares = total + vectors, squares + vectors**2
        for at in range(len(_NUMERIC)):
            first += rng.standard_normal() * numbers[:, at]
            vectors = rng.standard_normal(self.dim) * numbers[:, [at]]
            total, squares = total + vectors, squares + vectors**2
        second = (total**2 - squares).sum(1) / 2  # the sum over pairs of fields, in the time of one over fields
        logit = _scaled(first, self.linear) + _scaled(second, self.interaction)
        return codes, numbers, logit + _intercept(logit, self.rate)


def _long_tail(size: int, exponent: float, count: int, rng: np.random.Generator) -> Codes:
    """``count`` codes in ``[0, size)``; the frequency of the r-th most frequent is in proportion to r to the power of
    ``-exponent``."""
    weight = np.arange(1.0, size + 1) ** -exponent
    return rng.permutation(size)[rng.choice(size, count, p=weight / weight.sum())]


def _scaled(values: Floats, deviation: float) -> Floats:
    """Values of mean 0 and the given standard deviation; all 0 where they are all alike."""
    spread = float(values.std())
    scaled: Floats = (values - values.mean()) * (deviation / spread if spread else 0.0)
    return scaled


def _sigmoid(logit: Floats) -> Floats:
    chance: Floats = np.exp(-np.logaddexp(0, -logit))
    return chance


def _intercept(logit: Floats, rate: float) -> float:
    """What to add to the logits so that the mean probability is ``rate``, by bisection."""
    low, high = np.log(rate / (1 - rate)) - np.array([logit.max(), logit.min()])
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _sigmoid(logit + middle).mean() < rate else (low, middle)
    return float(low + high) / 2


def best_auc(probability: Floats) -> float:
    """The AUC to expect of the true probabilities ``[N]`` as scores: over pairs of rows, the expected number where the
    clicked one has the higher probability (equal ones count half), by the expected number of pairs with one click."""
    level, at = np.unique(probability, return_inverse=True)
    clicks = np.bincount(at, probability, level.size)
    others = np.bincount(at, 1 - probability, level.size)
    alone = (probability * (1 - probability)).sum()  # a row is no pair with itself
    won = (clicks * (others.cumsum() - others / 2)).sum() - alone / 2
    return float(won / (clicks.sum() * others.sum() - alone))


def best_logloss(probability: Floats) -> float:
    """The mean log loss to expect of the true probabilities: their mean entropy, in nats."""
    sides = np.stack([probability, 1 - probability])
    return float(-(sides * np.log(np.maximum(sides, 1e-300))).sum(0).mean())
