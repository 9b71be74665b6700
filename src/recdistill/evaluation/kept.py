"""How much of the teacher a model keeps: a share that means the same for metrics that grow and for errors."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from recdistill.config.metrics import CHANCE, family, share_terms
from recdistill.evaluation.significance import bootstrap_mean, bootstrap_ratio


class Kept(NamedTuple):
    """A share and its 95 % interval, which is None where the teacher may be no better than chance."""

    value: float
    low: float | None
    high: float | None


def kept_share(own: float, teacher: float, metric: str) -> float | None:
    """``own / teacher`` of a metric that grows, of AUC and GAUC what is above 0.5, and ``teacher / own`` of an error.

    Below 0 for a model below chance, above 1 for one that is better than the teacher.

    Returns:
        None where nothing can be kept: a teacher at chance or below, or what is divided by is 0 or NaN.
    """
    part, whole = share_terms(own, teacher, metric)
    return part / whole if whole > 0 else None


def kept(own: Tensor, teacher: Tensor, metric: str) -> Kept | None:
    """:func:`kept_share` of the means, with its paired percentile bootstrap interval.

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
    share = Kept(*bootstrap_ratio(part, whole))
    if family(metric) in CHANCE and bootstrap_mean(whole).low <= 0:  # a ratio to what may be 0 has no bounds
        return Kept(share.value, None, None)
    return share
