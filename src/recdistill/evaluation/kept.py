"""How much of the teacher a model keeps: a share that means the same for metrics that grow and for errors."""

from __future__ import annotations

from torch import Tensor

from recdistill.config.metrics import share_terms, sign
from recdistill.evaluation.significance import Interval, bootstrap_mean, bootstrap_ratio


def kept_share(own: float, teacher: float, metric: str) -> float | None:
    """``own / teacher`` of a metric that grows, of AUC and GAUC what is above 0.5, and ``teacher / own`` of an error.

    Below 0 for a model below chance, above 1 for one that is better than the teacher.

    Returns:
        None where nothing can be kept: a teacher at chance or below, or what is divided by is 0 or NaN.
    """
    part, whole = share_terms(own, teacher, metric)
    return part / whole if whole > 0 else None


def kept(own: Tensor, teacher: Tensor, metric: str) -> Interval | None:
    """:func:`kept_share` of the means, with its paired percentile bootstrap interval.

    None too where the teacher's own interval reaches down to chance: a share of what may be nothing says nothing.

    Args:
        own, teacher: values ``[U]`` of the same rows or users, whose means are the metric; see
            :func:`~recdistill.evaluation.values.values_of`.
        metric: what they are.

    Raises:
        InputError: the values differ in number.
    """
    part, whole = share_terms(own, teacher, metric)
    if not float(whole.mean()) > 0:
        return None
    if sign(metric) > 0 and bootstrap_mean(whole).low <= 0:
        return None
    return bootstrap_ratio(part, whole)
