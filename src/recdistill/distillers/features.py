"""Distillation of vectors: the student's embeddings should hold what the teacher's hold."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from recdistill.distillers.base import Distiller, Needs, View


class Hint(Distiller):
    """‖e_t - g(e_s)‖² / d_t, mean over users and items of the step, with a linear g for users and one for items.

    Source: Romero et al., FitNets, ICLR 2015, eq. 3.

    Args:
        items: random items per step.
        weight: factor among the distillers.
    """

    def __init__(self, items: Annotated[int, Ge(1)] = 512, weight: Annotated[float, Ge(0)] = 1.0):
        super().__init__(weight)
        self.items = items

    def needs(self) -> Needs:
        return Needs(embeddings=True)

    def prepare(self, student_dim: int, teacher_dim: int) -> None:
        self.user_map = nn.Linear(student_dim, teacher_dim)
        self.item_map = nn.Linear(student_dim, teacher_dim)

    def forward(self, student: View, teacher: View, rng: torch.Generator) -> Tensor:
        items = torch.randint(student.n_items, (self.items,), generator=rng, device=student.users.device)
        users = (teacher.user_vectors() - self.user_map(student.user_vectors())).square().mean()
        things = (teacher.item_vectors(items) - self.item_map(student.item_vectors(items))).square().mean()
        return (users + things) / 2
