"""Distillation of numbers beside their soft labels: the teacher as a bound on the student's error."""

from __future__ import annotations

import torch
from torch import Tensor

from recdistill.distillers.base import Distiller, Needs, View
from recdistill.distillers.schedules import Weight


def bounded_loss(student: Tensor, teacher: Tensor, label: Tensor, margin: float) -> Tensor:
    """(z_s - y)² where (z_s - y)² + margin > (z_t - y)², and 0 elsewhere, of each of ``[Q]``: ``[Q]``.

    0 too where there is no label, which is NaN.
    """
    known = ~label.isnan()
    student, teacher, label = (torch.where(known, x, 0.0) for x in (student, teacher, label))
    error = (student - label).square()
    return torch.where(error + margin > (teacher - label).square(), error, 0.0)


class TeacherBounded(Distiller):
    """Where the student is not better than the teacher by a margin, it learns the label again: :func:`bounded_loss`.

    A teacher's number may be wrong in either direction; unlike soft labels this never pulls away from the label.

    Source: Chen et al., Learning efficient object detection models with knowledge distillation, NeurIPS 2017, the
    teacher bounded regression loss.

    Args:
        margin: in units of the squared label; 0 for rows on which the teacher is better.
        weight: factor among the distillers.
    """

    tasks = ("rating",)
    per_query = True

    def __init__(self, margin: Weight = 0.0, weight: Weight = 1.0):
        super().__init__(weight)
        self.margin: float = margin  # type: ignore[assignment]

    def needs(self) -> Needs:
        return Needs(scores=True)

    def forward(self, student: View, teacher: View, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        z_s, z_t = (view.scores().squeeze(-1) for view in (student, teacher))
        return bounded_loss(z_s, z_t, student.target(), self.margin)
