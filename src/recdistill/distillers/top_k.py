"""RankDistil: the teacher's first k above everything else, by three losses."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional as F

from recdistill.distillers.base import Distiller, ListView, Needs, on_list
from recdistill.distillers.lists import FLOOR, gumbel_noise, rrd_loss, unlisted
from recdistill.distillers.schedules import Amount, Temperature, Weight


def binary_loss(top: Tensor, rest: Tensor, listed: Tensor) -> Tensor:
    """B: -mean_{i in top} log σ(z_i) - mean_{j in rest} log(1 - σ(z_j)) of each row: ``[Q]``; 0 where no list is.

    Args:
        top: the student's scores ``[Q, K]`` of the teacher's first k.
        rest: its scores ``[Q, L]`` of other items; FLOOR for those that do not count.
        listed: bool ``[Q, K]``, False behind the end of a short list.
    """
    above = -(F.logsigmoid(top) * listed).sum(-1) / listed.sum(-1).clamp(min=1)
    counted = rest > FLOOR
    below = (F.softplus(rest) * counted).sum(-1) / counted.sum(-1).clamp(min=1)
    return above + below * listed.any(-1)


def margin_loss(top: Tensor, rest: Tensor, listed: Tensor, margin: float) -> Tensor:
    """M: mean over i in top and j in rest of max(0, z_j - z_i + margin), of each row: ``[Q]``.

    In O(K + L) memory: of a sorted rest, those that are above a threshold stand in front, and their sum is a prefix's.

    Args:
        top, rest, listed: see :func:`binary_loss`.
        margin: how far the first k should be ahead.
    """
    counted = rest > FLOOR
    down = rest.sort(-1, descending=True).values
    threshold = top - margin
    above = torch.searchsorted(-down.detach(), -threshold.detach())  # [Q, K]: how many are higher than that
    prefix = F.pad(down.masked_fill(down <= FLOOR, 0).cumsum(-1), (1, 0))
    sums = prefix.gather(1, above) - above * threshold
    return (sums * listed).sum(-1) / (listed.sum(-1) * counted.sum(-1)).clamp(min=1)


def plackett_loss(top: Tensor, rest: Tensor, top_t: Tensor, temperature: float, rng: torch.Generator) -> Tensor:
    """P: -log of the student's Plackett-Luce probability of the list, in an order that is drawn from the teacher's
    Plackett-Luce distribution at a temperature, and then the rest; divided by the length of the list: ``[Q]``.

    Args:
        top, rest: see :func:`binary_loss`.
        top_t: the teacher's scores ``[Q, K]``; -inf behind the end of a list.
    """
    order = (top_t / temperature + gumbel_noise(top_t, rng)).argsort(-1, descending=True)
    listed = on_list(top_t).gather(1, order)
    return rrd_loss(top.gather(1, order), rest, listed) / listed.sum(-1).clamp(min=1)


class RankDistil(Distiller):
    """RankDistil: the student's scores of the teacher's first k against those of random other items, by
    :func:`binary_loss` (B), :func:`margin_loss` (M) or :func:`plackett_loss` (P).

    Source: Reddi et al., RankDistil, AISTATS 2021. P is the form that TensorFlow Ranking documents as
    CoupledRankDistilLoss of that article, with one order drawn for each user and step; its deterministic kin, soft
    labels over the list and the rest, is topk_kl.

    Args:
        k: length of the teacher's list.
        variant: which loss.
        negatives: other items, shared by the users of a step.
        margin: of M.
        temperature: of the teacher's scores in P; towards 0 the order is always the teacher's.
        weight: factor among the distillers.
    """

    per_query = True
    temperature: float

    def __init__(
        self,
        k: Annotated[int, Ge(1)] = 50,
        variant: Literal["B", "M", "P"] = "P",
        negatives: Annotated[int, Ge(1)] = 500,
        margin: Amount = 1.0,
        temperature: Temperature = 1.0,
        weight: Weight = 1.0,
    ):
        super().__init__(weight)
        self.k, self.variant, self.negatives = k, variant, negatives
        self.margin: float = margin  # type: ignore[assignment]
        self.temperature = temperature  # type: ignore[assignment]

    def needs(self) -> Needs:
        return Needs(top_k=self.k)

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        items, top_t = teacher.top_items(self.k)
        listed, top = on_list(top_t), student.scores(items)
        rest = unlisted(items, listed, student, self.negatives, rng)
        if self.variant == "B":
            return binary_loss(top, rest, listed)
        if self.variant == "M":
            return margin_loss(top, rest, listed, self.margin)
        return plackett_loss(top, rest, top_t, self.temperature, rng)
