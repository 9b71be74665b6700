"""A student whose teacher is the moving average of its own weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Lt
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor

from recdistill.distillers.teacher import LiveTeacher
from recdistill.models.base import Model
from recdistill.modules.distillation import DistillationModule


@dataclass(frozen=True)
class MeanTeacher:
    """The student teaches itself, by the moving average of its weights over the steps.

    Source: Tarvainen and Valpola, Mean teachers are better role models, NeurIPS 2017.

    Args:
        decay: of the average, from 0, where the teacher is the student after the last step, to below 1.
    """

    decay: Annotated[float, Ge(0), Lt(1)] = 0.99


class AveragedTeacher(LiveTeacher):
    """a <- decay · a + (1 - decay) · w after each step, from the weights before the first one. It answers as in
    evaluation: without dropout.

    Args:
        student: whose weights are averaged, and the statistics of its batch normalisation.
        decay: share of the past.
        ask, layers: see :class:`~recdistill.distillers.teacher.LiveTeacher`.
    """

    changes = True

    def __init__(
        self, student: Model, decay: float, ask: Callable[[Any, Any, Tensor], Any], layers: Sequence[str] = ()
    ):
        super().__init__(copy.deepcopy(student), None, ask, layers)
        self.decay = decay

    @torch.no_grad()
    def follow(self, student: Model) -> None:
        """Moves on after a step."""
        weights = student.state_dict()
        averages = {name: own for name, own in self.model.state_dict().items() if own.is_floating_point()}
        moved = [weights[name].to(own.dtype) for name, own in averages.items()]
        torch._foreach_lerp_(list(averages.values()), moved, 1 - self.decay)


class MeanTeacherModule(DistillationModule):
    """Distillation from an :class:`AveragedTeacher`.

    Args:
        args, kwargs: as of :class:`DistillationModule`; the teacher is such a one.
    """

    teacher: AveragedTeacher

    def optimize(self, optimizer: LightningOptimizer, parts: list[Any], step: int) -> dict[str, float]:
        named = super().optimize(optimizer, parts, step)
        self.teacher.follow(self.model)
        return named

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["recdistill"]["teacher"] = dict(self.teacher.model.state_dict())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        with torch.no_grad():
            self.teacher.model.load_state_dict(checkpoint["recdistill"]["teacher"])
