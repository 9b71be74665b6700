"""What is known of each metric by its name: which way is better, where chance is, what it has values of. No torch."""

from __future__ import annotations

import difflib
from typing import Any, Literal

from recdistill.errors import InputError

Direction = Literal["max", "min"]

DIRECTIONS: dict[str, Direction] = {
    "ndcg": "max",
    "recall": "max",
    "hr": "max",
    "mrr": "max",
    "map": "max",
    "precision": "max",
    "coverage": "max",
    "auc": "max",
    "gauc": "max",
    "accuracy": "max",
    "macro_f1": "max",
    "macro_recall": "max",
    "loss": "min",
    "rmse": "min",
    "mae": "min",
    "user_rmse": "min",
    "user_mae": "min",
    "logloss": "min",
    "ne": "min",
    "ece": "min",
    "ece_mass": "min",
}
BY_ROW = ("auc", "logloss", "ne", "rmse", "mae", "accuracy")
"""Metrics of tables that have a value for each row, so that intervals and tests are over rows."""
BY_USER = ("gauc", "user_rmse", "user_mae")
"""Metrics of tables that have a value for each user."""
CHANCE = {"auc": 0.5, "gauc": 0.5}
"""What a model that knows nothing reaches, where that is not 0."""


def family(name: str) -> str:
    """The name without part, list length and prefix: ``ndcg`` of ``valid/sampled_ndcg@10[n=99]``."""
    return name.rsplit("/", 1)[-1].split("@", 1)[0].removeprefix("sampled_")


def direction(name: str) -> Direction:
    """Whether a larger or a smaller value of a metric is better.

    Args:
        name: such as ``ndcg@10``, ``valid/loss`` or ``sampled_ndcg@10[n=99]``.

    Raises:
        InputError: unknown metric, with the nearest names.

    Example:
        >>> direction("valid/ndcg@10"), direction("train/loss")
        ('max', 'min')
    """
    known = family(name)
    if known in DIRECTIONS:
        return DIRECTIONS[known]
    near = difflib.get_close_matches(known.lower(), DIRECTIONS, n=3, cutoff=0.5)
    nearest = [name.replace(known, other, 1) for other in near]
    raise InputError(
        f"unknown metric {name!r}",
        why="known metrics: " + ", ".join(sorted(DIRECTIONS)),
        fix=f"did you mean {' or '.join(nearest)}?" if nearest else None,
    )


def sign(name: str) -> int:
    """-1 where a smaller value is better, else 1, also for a metric that is not known.

    >>> sign("auc"), sign("valid/rmse")
    (1, -1)
    """
    return -1 if DIRECTIONS.get(family(name)) == "min" else 1


def share_terms(own: Any, teacher: Any, metric: str) -> tuple[Any, Any]:
    """What is divided by what to say how much of the teacher a model keeps: 1 where both are as good.

    What grows is divided by the teacher's, what lies above chance where chance is not 0; an error divides the
    teacher's.

    Args:
        own, teacher: figures, or arrays of values whose means are the figures.
        metric: what they are.

    >>> share_terms(0.7, 0.9, "accuracy"), share_terms(0.5, 0.4, "rmse"), share_terms(0.75, 1.0, "auc")
    ((0.7, 0.9), (0.4, 0.5), (0.25, 0.5))
    """
    if sign(metric) < 0:
        return teacher, own
    chance = CHANCE.get(family(metric), 0.0)
    return (own - chance, teacher - chance) if chance else (own, teacher)
