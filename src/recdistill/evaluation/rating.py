"""Ratings: how far predictions are off, over rows and over users.

Predictions are taken as they are; to keep them within the range of the ratings is the model's business.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from recdistill.evaluation.tables import mean_by, refuse_nan, warnings, widened


def rmse(prediction: Tensor, rating: Tensor) -> float:
    """Root of the mean squared error over rows ``[N]``, in float64; NaN without a row."""
    return float((prediction.double() - rating.double()).square().mean().sqrt())


def mae(prediction: Tensor, rating: Tensor) -> float:
    """Mean absolute error over rows ``[N]``, in float64; NaN without a row."""
    return float((prediction.double() - rating.double()).abs().mean())


def user_rmse(prediction: Tensor, rating: Tensor, user: Tensor) -> Tensor:
    """RMSE of each user (ids int64 ``[N]``), float64 ``[U]``, users ascending."""
    return mean_by((prediction.double() - rating.double()).square(), user).sqrt()


def user_mae(prediction: Tensor, rating: Tensor, user: Tensor) -> Tensor:
    """Mean absolute error of each user (ids int64 ``[N]``), float64 ``[U]``, users ascending."""
    return mean_by((prediction.double() - rating.double()).abs(), user)


class RatingMetrics(Metric):
    """RMSE and MAE over rows, and their averages over users, from sums by user: nothing is kept by row.

    Give each row to one process only; a user's rows may be spread.

    Args:
        n_users: users are in ``[0, n_users)``.
        name: of the model, for errors and warnings.
        kwargs: of :class:`torchmetrics.Metric`.

    Attributes:
        warnings: names, after ``compute``.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    squared: Tensor
    absolute: Tensor
    rows: Tensor
    ends: Tensor

    def __init__(self, n_users: int, name: str = "model", **kwargs: Any):
        super().__init__(**kwargs)
        self.name = name
        self.warnings: list[str] = []
        for state in ("squared", "absolute"):
            self.add_state(state, torch.zeros(n_users, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros(n_users, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("ends", torch.full((2, 1), torch.inf, dtype=torch.float64), dist_reduce_fx="min")

    def update(self, prediction: Tensor, rating: Tensor, user: Tensor | None = None) -> None:
        """Add rows: ``prediction`` and ``rating`` float ``[B]``, ``user`` int64 ``[B]``; without users all are of one.

        Raises:
            InputError: a prediction is NaN.
        """
        refuse_nan(prediction, self.name, int(self.rows.sum()))
        error = prediction.double() - rating.double()
        user = torch.zeros(len(error), dtype=torch.int64, device=error.device) if user is None else user
        self.squared.index_add_(0, user, error.square())
        self.absolute.index_add_(0, user, error.abs())
        self.rows.index_add_(0, user, torch.ones_like(user))
        self.ends = widened(self.ends, prediction)

    def compute(self) -> dict[str, Tensor]:
        """``rmse``, ``mae``, ``user_rmse``, ``user_mae``: float64 scalars; NaN before the first row."""
        n, known = self.rows.sum(), self.rows > 0
        rows = self.rows[known]
        self.warnings = warnings(self.ends, int(n))
        return {
            "rmse": (self.squared.sum() / n).sqrt(),
            "mae": self.absolute.sum() / n,
            "user_rmse": (self.squared[known] / rows).sqrt().mean(),
            "user_mae": (self.absolute[known] / rows).mean(),
        }
