"""Losses to which neither place nor scale of the student's logits matters: its own may be of another kind of model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recdistill.distillers.base import LISTS
from recdistill.distillers.candidates import Candidates, candidates
from recdistill.distillers.divergences import ListLength, Others, Soft
from recdistill.distillers.lists import FLOOR
from recdistill.distillers.response import soft_label_loss
from recdistill.distillers.schedules import Temperature, Weight


def standardised(logits: Tensor, hidden: Tensor | None = None) -> Tensor:
    """(z - mean) / standard deviation of each row of ``[Q, C]``, what is hidden left out and FLOOR."""
    kept = torch.ones_like(logits, dtype=torch.bool) if hidden is None else ~hidden
    count = kept.sum(-1, keepdim=True).clamp(min=1)
    centred = (logits - (logits * kept).sum(-1, keepdim=True) / count) * kept
    # The root of 0 has no gradient; 1e-12 is below the variance of any scores that were trained.
    deviation = (centred.square().sum(-1, keepdim=True) / count + 1e-12).sqrt()
    return torch.where(kept, centred / deviation, FLOOR)


def pearson(x: Tensor, y: Tensor, kept: Tensor) -> Tensor:
    """Correlation of each row of ``[n, m]`` over the places that are ``kept``: ``[n]``; 0 where one does not vary."""
    u, v = _centred(x, kept), _centred(y, kept)
    # What varies has a place at 1 or -1, so that the squares sum to 1 at least.
    norms = (u.square().sum(-1).clamp(min=0.5) * v.square().sum(-1).clamp(min=0.5)).sqrt()
    return (u * v).sum(-1) / norms


def _centred(x: Tensor, kept: Tensor) -> Tensor:
    """Deviations from the mean, divided by the largest one: probabilities may be tiny."""
    x = torch.where(kept, x, 0.0)
    deviation = torch.where(kept, x - x.sum(-1, keepdim=True) / kept.sum(-1, keepdim=True).clamp(min=1), 0.0)
    largest, size = (z.detach().abs().amax(-1, keepdim=True) for z in (deviation, x))
    # Below that it is rounding, which must not be blown up to 1.
    return deviation / torch.where(largest > 1e-6 * size, largest, size.clamp(min=1e-30))


def dist_loss(student: Tensor, teacher: Tensor, kept: Tensor) -> Tensor:
    """1 - Pearson correlation of each row of ``[n, m]`` over the places kept, ``[n]``; 0 where fewer than three are: of
    two the correlation is 1 or -1, which has no gradient."""
    return torch.where(kept.sum(-1) > 2, 1 - pearson(student, teacher, kept), 0.0)


class LogitStandardised(Soft):
    """Soft labels of logits that are z-scored by row: :func:`~recdistill.distillers.response.soft_label_loss` of
    :func:`standardised`.

    Source: Sun et al., Logit standardization in knowledge distillation, CVPR 2024; T 2. The standard deviation is that
    of the row as a whole (divided by C); the published code divides by C - 1. Not for ``ctr``: of the two logits 0 and
    z only the sign of z would be left.

    Args:
        k, others, temperature, weight: see :class:`~recdistill.distillers.divergences.Soft`.
    """

    tasks = (*LISTS, "classification")

    def __init__(self, k: ListLength = 100, others: Others = 0, temperature: Temperature = 2.0, weight: Weight = 1.0):
        super().__init__(k, others, temperature, weight)

    def loss(self, student: Tensor, both: Candidates) -> Tensor:
        z_s, z_t = (standardised(logits, both.hidden) for logits in (student, both.teacher))
        return soft_label_loss(z_s, z_t, self.temperature)


class DIST(Soft):
    """beta · (mean over rows of 1 - Pearson correlation) + gamma · (the same over columns), of the two matrices
    softmax(z / T) ``[Q, C]``: :func:`dist_loss`.

    A row is a query. A column is a class; on lists it is one of the random items beside them, which are the same for
    all queries of the step, since the places of lists hold other items in each. Without ``others`` rows alone are left.
    In ``ctr``, and of two classes, it is columns alone, see :func:`dist_loss`. With several processes columns are of a
    process's own queries.

    Source: Huang et al., Knowledge distillation from a stronger teacher, NeurIPS 2022.

    Args:
        beta, gamma: weights of the parts.
        k, others, temperature, weight: see :class:`~recdistill.distillers.divergences.Soft`.
    """

    tasks = (*LISTS, "ctr", "classification")
    per_query = False

    def __init__(
        self, beta: Weight = 1.0, gamma: Weight = 1.0, k: ListLength = 100, others: Others = 0,
        temperature: Temperature = 1.0, weight: Weight = 1.0,
    ):  # fmt: skip
        super().__init__(k, others, temperature, weight)
        self.beta: float = beta  # type: ignore[assignment]
        self.gamma: float = gamma  # type: ignore[assignment]

    def forward(self, student: Any, teacher: Any, rng: torch.Generator) -> Tensor:
        both = candidates(student, teacher, self.k, self.others, rng)
        p_s, p_t = (F.softmax(logits / self.temperature, -1) for logits in (both.of(student), both.teacher))
        kept = torch.ones_like(p_t, dtype=torch.bool) if both.hidden is None else ~both.hidden
        loss = self.beta * dist_loss(p_s, p_t, kept).mean()
        first = 0 if both.items is None else both.items.shape[1]
        if p_t.shape[1] == first:
            return loss
        return loss + self.gamma * dist_loss(p_s[:, first:].T, p_t[:, first:].T, kept[:, first:].T).mean()
