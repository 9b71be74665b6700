"""What a hard loss must offer."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from recdistill.distillers.base import ModelView
from recdistill.models.base import RankingModel
from recdistill.tasks.batches import RankingBatch
from recdistill.tasks.sampling import Sampler, Uniform


class Objective:
    """A hard loss.

    Attributes:
        name: under which the term is logged.
        samples: what one sample of an epoch is, an interaction or a user.
        negatives: negatives that each interaction gets of its own.
        sampler: where they come from.
    """

    name: str = "task"
    samples: Literal["interactions", "users"] = "interactions"
    negatives: int = 0
    sampler: Sampler = Uniform()

    def __call__(self, model: RankingModel, batch: RankingBatch, view: ModelView, rng: torch.Generator) -> Tensor:
        """Mean loss over the batch, a scalar.

        Args:
            model: the model in training.
            batch: one step.
            view: the model's answers for the users of ``batch.query``, shared with the distillers; those for
                other users come from ``view.of(users)``.
            rng: for random choices; equal on all processes of a step.
        """
        raise NotImplementedError
