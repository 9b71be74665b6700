"""Distillation of vectors: the student's embeddings should hold what the teacher's hold."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from recdistill.distillers.base import Distiller, ListView, Needs, Setting
from recdistill.distillers.schedules import Weight
from recdistill.errors import InputError


def hint_loss(mapped: Tensor, teacher: Tensor) -> Tensor:
    """‖e_t - g(e_s)‖² / d_t, mean over rows of ``[n, d_t]``."""
    return (teacher - mapped).square().mean()


class Hint(Distiller):
    """Mean of :func:`hint_loss` for the users and for random items of the step, with a linear g for each.

    Source: Romero et al., FitNets, ICLR 2015, eq. 3.

    Args:
        items: random items per step.
        weight: factor among the distillers.

    Raises:
        InputError: the student has no vectors.
    """

    def __init__(self, items: Annotated[int, Ge(1)] = 512, weight: Weight = 1.0):
        super().__init__(weight)
        self.items = items

    def needs(self) -> Needs:
        return Needs(embeddings=True)

    def prepare(self, setting: Setting) -> None:
        if not setting.student_dim:
            raise InputError(
                "hint needs a student with user and item vectors",
                where="distiller.hint", fix="leave out hint, or choose student=mf",
            )  # fmt: skip
        self.user_map = nn.Linear(setting.student_dim, setting.teacher_dim)
        self.item_map = nn.Linear(setting.student_dim, setting.teacher_dim)

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        items = torch.randint(student.n_items, (self.items,), generator=rng, device=student.users.device)
        users = hint_loss(self.user_map(student.user_vectors()), teacher.user_vectors())
        things = hint_loss(self.item_map(student.item_vectors(items)), teacher.item_vectors(items))
        return (users + things) / 2
