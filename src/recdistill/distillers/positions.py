"""Distillation of single places of the teacher's list: each is an example of its own, weighted or drawn by its rank."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn import functional as F

from recdistill.distillers.base import Distiller, ListView, Moment, Needs, Setting, on_list
from recdistill.distillers.lists import FLOOR, draw, draw_ranks, require_pool, unlisted
from recdistill.distillers.ranked_lists import RankedLists, catalogue_size
from recdistill.distillers.schedules import Schedule, Share, Temperature, Weight


def rd_loss(top: Tensor, weights: Tensor) -> Tensor:
    """-Σ_r w_r log σ(z_r) of each row, from the student's scores and the weights ``[Q, K]``: ``[Q]``."""
    return -(weights * F.logsigmoid(top)).sum(-1)


def position_weights(k: int, temperature: float, device: torch.device | None = None) -> Tensor:
    """w_a(r) ∝ e^(-r / temperature) of the places 1 to k, ``[k]``, with sum 1."""
    return torch.softmax(-torch.arange(1, k + 1, device=device) / temperature, -1)


def discrepancy_weights(top: Tensor, sampled: Tensor, n_items: int, mu: float) -> Tensor:
    """w_b(r) = tanh(max(0, mu · (r̂ - r))) of the places of each list, ``[Q, K]``.

    r̂ is the student's rank of the item, estimated as 1 + ⌊(n_items - 1) · share of the sampled items above it⌋.

    Args:
        top: the student's scores ``[Q, K]`` of the teacher's list.
        sampled: its scores ``[Q, n]`` of random items; FLOOR for those that do not count.
    """
    counted = (sampled > FLOOR).sum(-1, keepdim=True)
    above = (sampled.unsqueeze(1) > top.unsqueeze(2)).sum(-1)
    estimate = 1 + ((n_items - 1) * above / counted.clamp(min=1)).floor()
    return torch.tanh((mu * (estimate - torch.arange(1, top.shape[1] + 1, device=top.device))).clamp(min=0))


class RD(Distiller):
    """Ranking distillation: :func:`rd_loss` on the teacher's first k, weighted by position importance and, when the
    training is under way, by how much deeper the student ranks them: w_r ∝ w_a(r) · w_b(r), with sum 1.

    The article trains on (1 - alpha) · task + alpha · this. Its public code leaves out the (1 - alpha), and does not
    bring the product of the weights back to sum 1: ``normalised=False``.

    Source: Tang and Wang, Ranking distillation, KDD 2018, eq. 8 (:func:`position_weights`) and eq. 9
    (:func:`discrepancy_weights`).

    Args:
        k: length of the teacher's list.
        position_temperature: the article's lambda, the sharpness of the position weights.
        mu: sharpness of the discrepancy weights.
        samples: random items that are not on the list, from which the student's ranks are estimated; shared by the
            users of a step.
        hybrid_after: share of the training after which the discrepancy counts; before, the student's ranks say
            little. 1 leaves it out.
        normalised: whether the weights of a list sum to 1.
        weight: factor among the distillers.
    """

    per_query = True

    def __init__(
        self,
        k: Annotated[int, Ge(1)] = 10,
        position_temperature: Temperature = 1.0,
        mu: Annotated[float, Gt(0)] | Schedule = 0.1,
        samples: Annotated[int, Ge(1)] = 100,
        hybrid_after: Share = 0.2,
        normalised: bool = True,
        weight: Weight = 1.0,
    ):
        super().__init__(weight)
        self.k, self.samples = k, samples
        self.position_temperature: float = position_temperature  # type: ignore[assignment]
        self.mu: float = mu  # type: ignore[assignment]
        self.hybrid_after, self.normalised = hybrid_after, normalised
        self.hybrid = False

    def needs(self) -> Needs:
        return Needs(top_k=self.k)

    def advance(self, progress: float) -> dict[str, float]:
        self.hybrid = self.hybrid_after < 1 and progress >= self.hybrid_after
        return super().advance(progress)

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        items, top_t = teacher.top_items(self.k)
        top = student.scores(items)
        listed = on_list(top_t)
        weights = position_weights(self.k, self.position_temperature, top.device) * listed
        if self.hybrid:
            sampled = unlisted(items, listed, student, self.samples, rng)
            weights = weights * discrepancy_weights(top.detach(), sampled.detach(), student.n_items, self.mu)
        if self.normalised:
            weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-30)
        return rd_loss(top, weights)


def cd_loss(student: Tensor, teacher: Tensor, listed: Tensor, temperature: float, shift: float) -> Tensor:
    """Mean over the places that hold an item of BCE(q, σ(z_s)) with q = σ((z_t + shift) / temperature): ``[Q]``.

    Args:
        student, teacher: scores ``[Q, K]`` of the same items.
        listed: bool ``[Q, K]``, which places hold an item.
    """
    label = torch.sigmoid((teacher.masked_fill(~listed, 0) + shift) / temperature)
    loss = F.binary_cross_entropy_with_logits(student.masked_fill(~listed, 0), label, reduction="none")
    return (loss * listed).sum(-1) / listed.sum(-1).clamp(min=1)


class CD(Distiller):
    """Collaborative distillation: :func:`cd_loss` on k items, drawn by p(rank) ∝ exp(-rank / T) from the teacher's
    list, or from the student's own, whose errors it then sees.

    Source: Lee et al., Collaborative distillation for top-N recommendation, ICDM 2019. Temperature and shift are t1 and
    t2 of public code; there, the draw takes the better of two ranks until k differ.

    Args:
        k: items per user.
        pool: length of the list that they are drawn from; at T = 20, ranks beyond 200 are never drawn.
        position_temperature: T of the draw.
        temperature: divides the teacher's score in the label.
        shift: what is added to that score before.
        guide: whose list it is.
        every: epochs between two looks at the student's list, each of which scores the catalogue for all queries.
        weight: factor among the distillers.
    """

    per_query = True
    temperature: float

    def __init__(
        self,
        k: Annotated[int, Ge(1)] = 50,
        pool: Annotated[int, Ge(1)] = 200,
        position_temperature: Temperature = 20.0,
        temperature: Temperature = 2.0,
        shift: float | Schedule = 0.0,
        guide: Literal["teacher", "student"] = "teacher",
        every: Annotated[int, Ge(1)] = 5,
        weight: Weight = 1.0,
    ):
        super().__init__(weight)
        require_pool(pool, k)
        self.k, self.pool = k, pool
        self.position_temperature: float = position_temperature  # type: ignore[assignment]
        self.temperature = temperature  # type: ignore[assignment]
        self.shift: float = shift  # type: ignore[assignment]
        self.guide, self.every = guide, every

    def needs(self) -> Needs:
        return Needs(top_k=self.pool) if self.guide == "teacher" else Needs(scores=True)

    def prepare(self, setting: Setting) -> None:
        if self.guide == "student":
            self.lists = RankedLists(setting.queries, self.pool, scored=True)

    def start_epoch(self, moment: Moment) -> None:
        if self.guide == "student" and self.lists.due(moment, self.every):
            size = catalogue_size(moment.student, moment.rng.device)
            self.lists.refresh(lambda queries: moment.student(queries).top_items(self.pool), size, moment.teacher)

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        if self.guide == "teacher":
            items, top_t = teacher.top_items(self.pool)
            chosen = draw_ranks(top_t, self.k, self.position_temperature, rng)
            items, scores = items.gather(1, chosen), top_t.gather(1, chosen)
            return cd_loss(student.scores(items), scores, on_list(scores), self.temperature, self.shift)
        items, listed = self.lists.of(student.users)
        rank = torch.arange(self.pool, device=items.device)
        chosen = draw((-rank / self.position_temperature).masked_fill(~listed, -torch.inf), self.k, rng)
        items, listed = items.gather(1, chosen), listed.gather(1, chosen)
        scores = self.lists.scores[student.users].gather(1, chosen)
        return cd_loss(student.scores(items), scores, listed, self.temperature, self.shift)
