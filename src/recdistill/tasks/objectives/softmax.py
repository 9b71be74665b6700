"""The softmax over the whole catalogue."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from recdistill.distillers.views import ModelView
from recdistill.models.base import RankingModel
from recdistill.tasks.batches import RankingBatch
from recdistill.tasks.objectives.base import Objective


class Softmax(Objective):
    """Cross-entropy between each user's items, all equally right, and the softmax over the whole catalogue.

    Source: the multinomial likelihood of Liang et al., Variational autoencoders for collaborative filtering,
    WWW 2018, eq. 2, per item of the user.

    Args:
        temperature: divides the scores.
    """

    name = "softmax"
    samples = "users"

    def __init__(self, temperature: Annotated[float, Gt(0)] = 1.0):
        self.temperature = temperature

    def __call__(
        self,
        model: RankingModel,  # noqa: ARG002
        batch: RankingBatch,
        view: ModelView,
        rng: torch.Generator,  # noqa: ARG002
    ) -> Tensor:
        view = view if batch.user is view.users else view.of(batch.user)
        row, item = view.seen.rows(view.users)
        count = torch.bincount(row, minlength=view.users.numel()).clamp(min=1)
        log_p = view.pair_scores(row, item) / self.temperature - view.log_normaliser(self.temperature)[row]
        return -(log_p / count[row]).sum() / view.users.numel()
