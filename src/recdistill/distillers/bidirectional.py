"""Distillation of what the other model ranks higher, in both directions where both models learn."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional as F

from recdistill.distillers.base import Distiller, ListView, Moment, Needs, Setting
from recdistill.distillers.discrepancy import discrepancy, draw_where
from recdistill.distillers.lists import require_pool
from recdistill.distillers.ranked_lists import RankedLists, catalogue_size
from recdistill.distillers.schedules import Temperature, Weight


def followed(student: Tensor, teacher: Tensor, counted: Tensor, temperature: float) -> Tensor:
    """Mean over the counted places of -q log σ(z_s) - (1 - q) log(1 - σ(z_s)), q = σ(z_t / temperature), of each row:
    ``[Q]``; 0 where none counts.

    Args:
        student, teacher: scores ``[Q, K]`` of the same items.
        counted: bool ``[Q, K]``.
    """
    loss = F.binary_cross_entropy_with_logits(student, torch.sigmoid(teacher / temperature), reduction="none")
    return (loss * counted).sum(-1) / counted.sum(-1).clamp(min=1)


def sharp_discrepancy(behind: Tensor, listed: Tensor, temperature: float) -> Tensor:
    """exp(behind / temperature) of the places of a list ``[Q, P]``, divided by the largest of its row; 0 behind its
    end. See :func:`~recdistill.distillers.discrepancy.discrepancy`."""
    behind = (behind / temperature).masked_fill(~listed, -torch.inf)
    return torch.exp(behind - behind.amax(-1, keepdim=True).clamp(min=-1e9))


class Bidirectional(Distiller):
    """:func:`followed` on k items of the teacher's list, drawn without replacement in proportion to how much lower the
    student ranks them: max(0, tanh(d / ``discrepancy_temperature``)) for what a student learns of a teacher, and
    exp(d / ``discrepancy_temperature``), which looks at the widest gaps almost alone, for what a teacher learns of a
    student, where both learn (``teaching=mutual``).

    Both rank the whole catalogue in the paper; here d is between lists of length ``pool``, and an item that is not on a
    list has rank ``pool`` + 1, so that memory does not grow with the catalogue. The paper's models are trained before:
    untrained ones have little to say, so let alpha begin at 0.

    Source: Kweon et al., Bidirectional distillation for top-K recommender system, WWW 2021. As in its authors' code the
    temperature divides what is learned from alone.

    Args:
        k: items to draw.
        pool: length of both lists.
        discrepancy_temperature: ranks that make a difference.
        temperature: of the teacher's scores.
        emphasis: how d becomes a weight; None for that of the direction.
        every: epochs between two looks at both lists, each of which scores the catalogue for all queries; 10 there.
        weight: factor among the distillers.
    """

    per_query = True
    temperature: float

    def __init__(
        self,
        k: Annotated[int, Ge(1)] = 40,
        pool: Annotated[int, Ge(1)] = 100,
        discrepancy_temperature: Temperature = 10.0,
        temperature: Temperature = 2.0,
        emphasis: Literal["tanh", "exp"] | None = None,
        every: Annotated[int, Ge(1)] = 5,
        weight: Weight = 1.0,
    ):
        super().__init__(weight)
        require_pool(pool, k)
        self.k, self.pool = k, pool
        self.discrepancy_temperature: float = discrepancy_temperature  # type: ignore[assignment]
        self.temperature = temperature  # type: ignore[assignment]
        self.emphasis, self.usual, self.every = emphasis, "tanh", every

    def needs(self) -> Needs:
        return Needs(top_k=self.pool, scores=True)

    def swap(self) -> None:
        self.usual = "exp"

    def prepare(self, setting: Setting) -> None:
        self.target = RankedLists(setting.queries, self.pool, compared=True)

    def start_epoch(self, moment: Moment) -> None:
        if moment.epoch % self.every:
            return
        size = catalogue_size(moment.student, moment.rng.device)
        own = RankedLists(moment.queries, self.pool).to(moment.rng.device)
        own.refresh(lambda queries: moment.student(queries).top_items(self.pool), size)
        self.target.refresh(lambda queries: moment.teacher(queries).top_items(self.pool), size)
        self.target.compare(own)

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        target, behind = self.target.of(student.users), self.target.behind[student.users]
        weigh = discrepancy if (self.emphasis or self.usual) == "tanh" else sharp_discrepancy
        items, counted = draw_where(target, weigh(behind, target[1], self.discrepancy_temperature), self.k, rng)
        return followed(student.scores(items), teacher.scores(items), counted, self.temperature)
