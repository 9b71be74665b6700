"""What a figure is an average over, which way it is better and what a share of the teacher means, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recdistill.config.metrics import BY_ROW, BY_USER, CHANCE, family, sign
from recdistill.reporting import figures

_VALUES = {"auc": " (DeLong's placement values)"} | dict.fromkeys(("ne", "rmse", "gauc"), " (delta method)")


def unit(metric: str) -> str:
    """What tests and intervals of a metric are over: "user", or "row" of a table."""
    return "row" if metric in BY_ROW else "user"


def tabular(content: Mapping[str, Any]) -> bool:
    """Whether a summary, or what is made of several, is about the rows of a table: nothing is ranked."""
    return content.get("n_rows") is not None


def paired_test(metric: str) -> str:
    """The test of a run's table, and what it takes the values to be where a metric is no plain average."""
    return f"paired t-test per {unit(metric)}{_VALUES.get(metric, '')}"


def tested_on(metric: str, content: Mapping[str, Any]) -> str:
    """How many rows or users there are, by a summary or what is made of several."""
    ranked = "" if unit(metric) == "row" or metric in BY_USER else ", all items ranked"
    counted = [f", {content[f'n_{name}s']:,} {name}s" for name in ("row", "user") if content.get(f"n_{name}s")]
    return f"Test part{ranked}{''.join(counted)}."


def teacher_share(metric: str, value: float | None) -> str:
    """What is divided by what, where ``value`` is the teacher's."""
    name, teacher = figures.metric_name(metric), figures.quality(value)
    if sign(metric) < 0:
        return f"the teacher's {name}, {teacher}, by the model's"
    if chance := CHANCE.get(family(metric)):
        return f"{name} above chance by the teacher's, ({name} - {chance}) / ({teacher} - {chance})"
    return f"{name} by the teacher's {teacher}"


def no_share(metric: str, interval: Sequence[float] | None) -> str:
    """Why no share of a teacher is given, by its own interval; empty where it is surely better than chance."""
    chance = CHANCE.get(family(metric), 0)
    if sign(metric) < 0 or not interval or not interval[0] <= chance:
        return ""
    return f"none, since the teacher's own interval includes {chance}, what knows nothing reaches"


def teacher_ratio(metric: str) -> str:
    """The same of means, where teachers are several."""
    name = figures.metric_name(metric)
    if sign(metric) < 0:
        return f"ratio of the teacher's mean {name} to the model's"
    if chance := CHANCE.get(family(metric)):
        return f"ratio of the means of {name} - {chance}"
    return "ratio of the means"


def lower_is_better(metrics: Iterable[str]) -> str:
    """A sentence that names those of the metrics that are errors; empty where none is."""
    errors = [figures.metric_name(metric) for metric in metrics if sign(metric) < 0]
    return f" Lower is better: {', '.join(errors)}." if errors else ""
