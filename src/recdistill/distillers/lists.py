"""Distillation of ranked lists: the top of the teacher's ranking against the rest of the catalogue."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional as F

from recdistill.distillers.base import Distiller, ListView, Needs, on_list
from recdistill.distillers.schedules import Temperature, Weight

# Instead of -inf, whose differences are NaN: e^FLOOR is exactly 0 beside any score.
FLOOR = -1e9


def topk_kl_loss(top_s: Tensor, log_norm: Tensor, top_t: Tensor, temperature: float) -> Tensor:
    """Cross-entropy between the teacher's softmax over its list and the student's over list and rest, of each
    row: ``[Q]``. That of an empty list is 0.

    Args:
        top_s: the student's scores ``[Q, K]`` of the teacher's list.
        log_norm: log Σ e^z of the student's scores of list and rest, ``[Q]``; the teacher gives the rest no
            mass.
        top_t: the teacher's scores ``[Q, K]``; -inf behind the end of a list.
        temperature: divides the teacher's scores only, so that the student stays calibrated for its own
            ranking.
    """
    listed = on_list(top_t)
    target = F.softmax((top_t / temperature).masked_fill(~listed, FLOOR), -1) * listed
    return -(target * (top_s - log_norm.unsqueeze(-1))).sum(-1)


def rrd_loss(top: Tensor, rest: Tensor, listed: Tensor | None = None) -> Tensor:
    """Relaxed Plackett-Luce: -Σ_k log(e^{z_k} / (Σ_{j≥k} e^{z_j} + Σ_l e^{z_l})) of each row: ``[Q]``.

    Args:
        top: the student's scores ``[Q, K]`` of the interesting items, in the teacher's order.
        rest: the student's scores ``[Q, L]`` of the uninteresting items, whose order does not matter.
        listed: bool ``[Q, K]``, False behind the end of a short list; None where all lists are full.
    """
    if listed is not None:
        top = top.masked_fill(~listed, FLOOR)
    from_here_on = top.flip(-1).logcumsumexp(-1).flip(-1)  # [Q, K]: log Σ_{j≥k} e^{z_j}
    below = rest.logsumexp(-1, keepdim=True)
    terms = torch.logaddexp(from_here_on, below) - top
    return (terms if listed is None else terms * listed).sum(-1)


class TopKKL(Distiller):
    """Listwise soft labels: :func:`topk_kl_loss` over the teacher's top k and the rest of the catalogue.

    Source: Cao et al., Learning to rank: from pairwise to listwise approach, ICML 2007, for the top-one
    probabilities of a list.

    Args:
        k: length of the teacher's list.
        negatives: random items beside it, shared by the users of a step; 0 takes the whole catalogue.
        temperature: of the teacher's distribution over its list.
        weight: factor among the distillers.
    """

    per_query = True
    temperature: float

    def __init__(
        self,
        k: Annotated[int, Ge(1)] = 100,
        negatives: Annotated[int, Ge(0)] = 500,
        temperature: Temperature = 1.0,
        weight: Weight = 1.0,
    ):
        super().__init__(weight)
        self.k, self.negatives = k, negatives
        self.temperature = temperature  # type: ignore[assignment]

    def needs(self) -> Needs:
        return Needs(top_k=self.k)

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        items, top_t = teacher.top_items(self.k)
        top_s = student.scores(items)
        if not self.negatives:
            return topk_kl_loss(top_s, student.log_normaliser(), top_t, self.temperature)
        rest = unlisted(items, student, self.negatives, rng)
        both = torch.cat([top_s.masked_fill(~on_list(top_t), FLOOR), rest], -1)
        return topk_kl_loss(top_s, both.logsumexp(-1), top_t, self.temperature)


class RRD(Distiller):
    """Relaxed ranking distillation: :func:`rrd_loss` on K interesting items of the teacher's list against L
    others.

    Source: Kang et al., DE-RRD, CIKM 2020, eq. 7; the interesting items are drawn by p(rank) ∝
    exp(-rank / T).

    Args:
        k: interesting items per user.
        uninteresting: other items, shared by the users of a step.
        pool: length of the teacher's list from which the interesting ones are drawn.
        position_temperature: T of the draw; 0 takes the first k, which the paper's author found to be at
            least as good.
        weight: factor among the distillers; small, because the terms of a list are summed, as in the paper.
    """

    per_query = True

    def __init__(
        self,
        k: Annotated[int, Ge(1)] = 40,
        uninteresting: Annotated[int, Ge(1)] = 500,
        pool: Annotated[int, Ge(1)] = 100,
        position_temperature: Annotated[float, Ge(0)] = 10.0,
        weight: Weight = 1.0,
    ):
        super().__init__(weight)
        if pool < k:
            raise ValueError(f"pool={pool} must be at least k={k}")
        self.k, self.uninteresting, self.pool = k, uninteresting, pool
        self.position_temperature = position_temperature

    def needs(self) -> Needs:
        return Needs(top_k=self.pool if self.position_temperature else self.k)

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        items, top_t = teacher.top_items(self.needs().top_k)
        if self.position_temperature:
            chosen = draw_ranks(top_t, self.k, self.position_temperature, rng)
            items, top_t = items.gather(1, chosen), top_t.gather(1, chosen)
        rest = unlisted(items, student, self.uninteresting, rng)
        return rrd_loss(student.scores(items), rest, on_list(top_t))


def draw_ranks(top_scores: Tensor, k: int, temperature: float, rng: torch.Generator) -> Tensor:
    """k places ``[Q, k]`` of each ranked list without replacement, p(rank) ∝ exp(-rank / temperature),
    ascending.

    Places behind the end of a list are taken only when nothing else is left.
    """
    rank = torch.arange(top_scores.shape[1], device=top_scores.device)
    # Gumbel's trick: the k largest of log p + noise are a draw without replacement.
    exponential = torch.empty(top_scores.shape, device=top_scores.device).exponential_(generator=rng)
    keys = (-rank / temperature - exponential.log()).masked_fill(~on_list(top_scores), -torch.inf)
    return keys.topk(k).indices.sort(-1).values


def unlisted(listed: Tensor, student: ListView, count: int, rng: torch.Generator) -> Tensor:
    """The student's scores ``[Q, count]`` of random items; FLOOR for those that are ``listed``."""
    others = torch.randint(student.n_items, (count,), generator=rng, device=listed.device)
    # Item to its place among the others; all draws of an item share the place that was written last.
    place = torch.full((student.n_items,), count, device=listed.device)
    place[others] = torch.arange(count, device=listed.device)
    hit = torch.zeros(len(listed), count + 1, dtype=torch.bool, device=listed.device)
    hit.scatter_(1, place[listed], True)
    return student.scores(others).masked_fill(hit[:, place[others]], FLOOR)
