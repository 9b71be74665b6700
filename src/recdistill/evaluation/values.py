"""The metrics of tables by row or by user: values whose mean is the metric.

Where a metric is no average, its values are those of the delta method: the metric plus the influence of each row. Their
mean is the metric still, and their sample variance over their number its asymptotic variance. So the paired tests and
intervals of :mod:`~recdistill.evaluation.significance` hold for all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recdistill.config.metrics import BY_ROW, BY_USER
from recdistill.evaluation.ctr import areas, log_loss
from recdistill.evaluation.rating import user_mae, user_rmse

HAVE_VALUES: tuple[str, ...] = (*BY_ROW, *BY_USER)
"""The metrics of tables that tests can be made on. The others are one number for all rows."""


def values_of(
    metric: str, prediction: Tensor, label: Tensor, group: Tensor | None = None
) -> tuple[Tensor, Tensor] | None:
    """A metric by row or by user.

    Args:
        metric: its name.
        prediction: probabilities of clicks or ratings, ``[N]``, or logits of classes ``[N, C]``.
        label: clicks (0 or 1), ratings or classes, ``[N]``.
        group: whose row it is, int64 ``[N]``.

    Returns:
        What the values are of, int64 ``[U]`` ascending (numbers of rows, or ids of groups), and the values, float64
        ``[U]``: NaN where the metric is. None where a metric has no such values, or none without groups.
    """
    if metric in _OF_ROWS:
        values = _OF_ROWS[metric](prediction, label)
        return torch.arange(len(values)), values
    if metric in _OF_USERS and group is not None:
        return _OF_USERS[metric](prediction, label, group)
    return None


def placements(prediction: Tensor, label: Tensor) -> Tensor:
    """Share of the rows of the other class that each row is on the right side of, equal predictions counting half.

    The V10 of positive rows and the V01 of negative ones of DeLong, DeLong and Clarke-Pearson (Biometrics, 1988); the
    mean over either class is the AUC.

    Returns:
        float64 ``[N]``.
    """
    _, tie = torch.unique(prediction, return_inverse=True)
    rows, positive = torch.bincount(tie).double(), torch.bincount(tie, label.double())
    negative = rows - positive
    won = (negative.cumsum(0) - negative / 2) / negative.sum()
    lost = (positive.cumsum(0) - positive / 2) / positive.sum()
    return torch.where(label > 0, won[tie], 1 - lost[tie])


def _auc(prediction: Tensor, label: Tensor) -> Tensor:
    """Their variance over N is DeLong's, ``S10 / m + S01 / n``, but for a factor ``1 + O(1 / N)``."""
    place, positive = placements(prediction, label), label > 0
    area, share = place[positive].mean(), positive.double().mean()
    return area + (place - area) / torch.where(positive, share, 1 - share)


def _normalised_entropy(prediction: Tensor, label: Tensor) -> Tensor:
    """The entropy below the fraction is an estimate too: it depends on how many of the rows are clicks."""
    loss, y = log_loss(prediction, label), label.double()
    p = y.mean()
    base = -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))
    if not base > 0:
        return torch.full_like(loss, torch.nan)
    slope = torch.log((1 - p) / p)  # of the entropy
    return loss / base - loss.mean() / base**2 * slope * (y - p)


def _rmse(prediction: Tensor, rating: Tensor) -> Tensor:
    squared = (prediction.double() - rating.double()).square()
    root = squared.mean().sqrt()
    return (root + squared / root) / 2 if root else squared  # rmse + (e² - mse) / (2 rmse)


def _absolute_error(prediction: Tensor, rating: Tensor) -> Tensor:
    return (prediction.double() - rating.double()).abs()


def _accuracy(logits: Tensor, label: Tensor) -> Tensor:
    """Where classes tie, the true one loses."""
    own = logits.gather(1, label.unsqueeze(1)).squeeze(1)
    rivals = logits.scatter(1, label.unsqueeze(1), -torch.inf).amax(1)
    return (own > rivals).double()


def _gauc(prediction: Tensor, label: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """A ratio of two sums over users, who are those with both classes."""
    users, at = torch.unique(group, return_inverse=True)
    area, rows = areas(prediction, label, at)
    known = ~area.isnan()
    area, weight = area[known], rows[known].double()
    total = (area * weight).sum() / weight.sum()
    return users[known], total + weight / weight.mean() * (area - total)


_OF_ROWS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "auc": _auc,
    "logloss": log_loss,
    "ne": _normalised_entropy,
    "rmse": _rmse,
    "mae": _absolute_error,
    "accuracy": _accuracy,
}
_OF_USERS: dict[str, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "gauc": _gauc,
    "user_rmse": lambda prediction, rating, group: (torch.unique(group), user_rmse(prediction, rating, group)),
    "user_mae": lambda prediction, rating, group: (torch.unique(group), user_mae(prediction, rating, group)),
}
