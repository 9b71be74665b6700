"""Distillation of ranked lists: the top of the teacher's ranking against the rest of the catalogue."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn import functional as F

from recdistill.distillers.base import Distiller, Needs, View


def topk_kl_loss(top_s: Tensor, rest_s: Tensor, top_t: Tensor, temperature: float) -> Tensor:
    """Cross-entropy between the teacher's softmax over its list and the student's over list and rest.

    Args:
        top_s, top_t: scores ``[Q, K]`` of the teacher's list by student and teacher.
        rest_s: the student's scores ``[Q, L]`` of other items, to which the teacher gives no mass.
        temperature: divides the teacher's scores only, so that the student stays calibrated for its own ranking.
    """
    target = F.softmax(top_t / temperature, -1)
    log_norm = torch.logsumexp(torch.cat([top_s, rest_s], -1), -1, keepdim=True)
    return -(target * (top_s - log_norm)).sum(-1).mean()


def rrd_loss(top: Tensor, rest: Tensor) -> Tensor:
    """Relaxed Plackett-Luce: -Σ_k log(e^{z_k} / (Σ_{j≥k} e^{z_j} + Σ_l e^{z_l})), mean over rows.

    Args:
        top: the student's scores ``[Q, K]`` of the interesting items, in the teacher's order.
        rest: the student's scores ``[Q, L]`` of the uninteresting items, whose order does not matter.
    """
    from_here_on = top.flip(-1).logcumsumexp(-1).flip(-1)  # [Q, K]: log Σ_{j≥k} e^{z_j}
    below = rest.logsumexp(-1, keepdim=True)
    return (torch.logaddexp(from_here_on, below) - top).sum(-1).mean()


class TopKKL(Distiller):
    """Listwise soft labels: :func:`topk_kl_loss` over the teacher's top k and the rest of the catalogue.

    Args:
        k: length of the teacher's list.
        negatives: random items beside it, shared by the users of a step; 0 takes the whole catalogue.
        temperature: of the teacher's distribution over its list.
        weight: factor among the distillers.
    """

    def __init__(
        self,
        k: Annotated[int, Ge(1)] = 100,
        negatives: Annotated[int, Ge(0)] = 500,
        temperature: Annotated[float, Gt(0)] = 1.0,
        weight: Annotated[float, Ge(0)] = 1.0,
    ):
        super().__init__(weight)
        self.k, self.negatives, self.temperature = k, negatives, temperature

    def needs(self) -> Needs:
        return Needs(top_k=self.k)

    def forward(self, student: View, teacher: View, rng: torch.Generator) -> Tensor:
        items, top_t = teacher.top_items(self.k)
        if not self.negatives:
            target = F.softmax(top_t / self.temperature, -1)
            log_p = student.scores().gather(1, items) - student.log_normaliser().unsqueeze(1)
            return -(target * log_p).sum(-1).mean()
        rest = unlisted(items, student, self.negatives, rng)
        return topk_kl_loss(student.scores(items), rest, top_t, self.temperature)


class RRD(Distiller):
    """Relaxed ranking distillation: :func:`rrd_loss` on K interesting items of the teacher's list against L others.

    Source: Kang et al., DE-RRD, CIKM 2020, eq. 7; the interesting items are drawn by p(rank) ∝ exp(-rank / T).

    Args:
        k: interesting items per user.
        uninteresting: other items, shared by the users of a step.
        pool: length of the teacher's list from which the interesting ones are drawn.
        position_temperature: T of the draw; 0 takes the first k, which the paper's author found to be at least as good.
        weight: factor among the distillers; divided by nothing, as in the paper the terms of a list are summed.
    """

    def __init__(
        self,
        k: Annotated[int, Ge(1)] = 40,
        uninteresting: Annotated[int, Ge(1)] = 500,
        pool: Annotated[int, Ge(1)] = 100,
        position_temperature: Annotated[float, Ge(0)] = 10.0,
        weight: Annotated[float, Ge(0)] = 1.0,
    ):
        super().__init__(weight)
        if pool < k:
            raise ValueError(f"pool={pool} must be at least k={k}")
        self.k, self.uninteresting, self.pool = k, uninteresting, pool
        self.position_temperature = position_temperature

    def needs(self) -> Needs:
        return Needs(top_k=self.pool if self.position_temperature else self.k)

    def forward(self, student: View, teacher: View, rng: torch.Generator) -> Tensor:
        items, _ = teacher.top_items(self.needs().top_k)
        if self.position_temperature:
            items = draw_by_rank(items, self.k, self.position_temperature, rng)
        return rrd_loss(student.scores(items), unlisted(items, student, self.uninteresting, rng))


def draw_by_rank(items: Tensor, k: int, temperature: float, rng: torch.Generator) -> Tensor:
    """k of the ranked ``items`` ``[Q, pool]`` without replacement, p ∝ exp(-rank / temperature), best first."""
    rank = torch.arange(items.shape[1], device=items.device)
    p = torch.exp(-rank / temperature).clamp(min=1e-30).expand(items.shape[0], -1)
    chosen = torch.multinomial(p, k, generator=rng).sort(-1).values
    return items.gather(1, chosen)


def unlisted(listed: Tensor, student: View, count: int, rng: torch.Generator) -> Tensor:
    """The student's scores ``[Q, count]`` of random items; -inf where such an item is on the user's own list."""
    others = torch.randint(student.n_items, (count,), generator=rng, device=listed.device)
    scores = student.scores(others)  # [Q, count]
    ordered = listed.sort(-1).values
    at = torch.searchsorted(ordered, others.expand(len(listed), -1).contiguous()).clamp(max=listed.shape[1] - 1)
    # A finite floor: a row whose others are all listed must not give NaN gradients.
    return scores.masked_fill(ordered.gather(1, at) == others, -1e9)
