"""Soft labels over the whole catalogue from a list and the mass behind it."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn import functional as F

from recdistill.distillers.base import Distiller, ListView, Needs, Setting, on_list
from recdistill.distillers.lists import FLOOR, unlisted, usual_others
from recdistill.distillers.schedules import Weight


def tail_kl_loss(top_s: Tensor, rest_s: Tensor, top_t: Tensor, tail_t: Tensor, temperature: float) -> Tensor:
    """T² · KL(p_t ‖ p_s) of each row over K + 1 outcomes, the K items of the teacher's list and "any other": ``[Q]``.

    An item has e^{z / T} of the mass, any other the sum of those of all others. That of an empty list is 0.

    Args:
        top_s, top_t: scores ``[Q, K]`` of the list; the teacher's are -inf behind its end.
        rest_s: log Σ e^{z / T} of the student's scores of the others, ``[Q]``; about FLOOR where there are none.
        tail_t: the same of the teacher's, ``[Q]``; -inf where it gives them no mass.
    """
    top, tail = top_t / temperature, tail_t.unsqueeze(-1)
    there = torch.cat([on_list(top), on_list(tail)], -1)
    log_t = F.log_softmax(torch.cat([top, tail], -1).masked_fill(~there, FLOOR), -1)
    own = (top_s / temperature).masked_fill(~on_list(top), FLOOR)
    log_s = F.log_softmax(torch.cat([own, rest_s.unsqueeze(-1)], -1), -1)
    return temperature**2 * (there * log_t.exp() * (log_t - log_s)).sum(-1)


class TailKL(Distiller):
    """Soft labels from a list and its tail: :func:`tail_kl_loss` over the teacher's first k and, as one outcome, all
    items behind them. Of the whole catalogue, at k = all items it is
    :func:`~recdistill.distillers.response.soft_label_loss` over them; below, never more than that, since to merge
    outcomes takes away from a KL.

    A user's training items are in neither list nor tail, of both models. The teacher's tail is a number for each query
    that is stored beside the list; the student's is of its own scores, of all others or of some random ones: each of R
    stands for n_items / R, since they are drawn from the whole catalogue and those that the list or training has are
    hidden, so that the mass is right on average.

    Source: Hinton et al., Distilling the knowledge in a neural network, 2015, section 2, for the loss; that a list
    without its tail is a biased soft label, Anshumann et al., Sparse logit sampling, ACL 2025.

    Args:
        k: length of the teacher's list.
        negatives: random items that the student's tail is estimated from, shared by the users of a step; 0 takes all,
            None is :func:`~recdistill.distillers.lists.usual_others`.
        temperature: of both distributions; it takes no schedule, since tails are stored for one.
        weight: factor among the distillers.
    """

    per_query = True

    def __init__(
        self,
        k: Annotated[int, Ge(1)] = 100,
        negatives: Annotated[int, Ge(0)] | None = None,
        temperature: Annotated[float, Gt(0)] = 2.0,
        weight: Weight = 1.0,
    ):
        super().__init__(weight)
        self.k, self.negatives, self.temperature = k, negatives, temperature

    def needs(self) -> Needs:
        return Needs(top_k=self.k, tails=(self.temperature,))

    def prepare(self, setting: Setting) -> None:
        self.negatives = usual_others(self.negatives, setting)

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        items, top_t = teacher.top_items(self.k)
        rest = self.log_rest(student, items, on_list(top_t), rng)
        # Where no other item is drawn, the sample says nothing of the tail.
        none = rest < FLOOR / (2 * max(1.0, self.temperature))
        tail = teacher.log_tail(self.k, self.temperature).masked_fill(none, -torch.inf)
        return tail_kl_loss(student.scores(items), rest, top_t, tail, self.temperature)

    def log_rest(self, student: ListView, items: Tensor, listed: Tensor, rng: torch.Generator) -> Tensor:
        """log Σ e^{z / T} of the student's scores of what is not listed, ``[Q]``, or an estimate."""
        if not self.negatives:
            return student.log_rest(items, listed, self.temperature)
        drawn = unlisted(items, listed, student, self.negatives, rng)
        return (drawn / self.temperature).logsumexp(-1) + math.log(student.n_items / self.negatives)
