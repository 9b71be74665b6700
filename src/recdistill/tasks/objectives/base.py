"""What a hard loss must offer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from recdistill.tasks.sampling import Sampler, Uniform


class Objective:
    """A hard loss.

    Attributes:
        tasks: names of the tasks that it is for.
        name: under which the term is logged.
        samples: what one sample of an epoch is: an interaction, a user, a sequence, or a row of a table.
        negatives: negatives that each interaction gets of its own.
        sampler: where they come from.
        few_labels: whether it can do where only some of the samples have a label.
    """

    tasks: ClassVar[tuple[str, ...]] = ("ranking",)
    name: str = "task"
    samples: Literal["interactions", "users", "sequences", "rows"] = "interactions"
    negatives: int = 0
    sampler: Sampler = Uniform()
    few_labels: bool = True

    def bind(self, train: Any) -> None:
        """Looks once at the training part, where the loss needs more of it than a step holds."""

    def __call__(self, model: Any, batch: Any, view: Any, rng: torch.Generator) -> Tensor:
        """Mean loss over the batch, a scalar.

        Args:
            model: the model in training.
            batch: one step, as the task cuts it.
            view: the model's answers for ``batch.query``, shared with the distillers; where queries are users, those
                for other users come from ``view.of(users)``.
            rng: for random choices; equal on all processes of a step.
        """
        raise NotImplementedError
