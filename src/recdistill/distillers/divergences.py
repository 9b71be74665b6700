"""Divergences between answers other than that of soft labels: reversed, skewed, symmetric, decoupled."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional as F

from recdistill.distillers.base import LISTS, Distiller, Needs
from recdistill.distillers.candidates import Candidates, candidates, kl
from recdistill.distillers.lists import FLOOR
from recdistill.distillers.schedules import Blend, Temperature, Weight

ListLength = Annotated[int, Ge(2)]
Others = Annotated[int, Ge(0)]


def reverse_kl_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(p_s ‖ p_t), p = softmax(z / T), of each row of ``[Q, C]``: ``[Q]``."""
    log_s, log_t = _log_softmax(student, teacher, temperature)
    return temperature**2 * kl(log_s, log_t)


def skew_kl_loss(student: Tensor, teacher: Tensor, temperature: float, skew: float, reverse: bool = False) -> Tensor:
    """T² · KL(p_t ‖ a · p_t + (1 - a) · p_s) of each row of ``[Q, C]``, ``[Q]``; with ``reverse`` the roles of p_s and
    p_t are swapped."""
    log_s, log_t = _log_softmax(student, teacher, temperature)
    log_p, log_q = (log_s, log_t) if reverse else (log_t, log_s)
    return temperature**2 * kl(log_p, _mixture(log_p, log_q, skew))


def jsd_loss(student: Tensor, teacher: Tensor, temperature: float, share: float) -> Tensor:
    """T² · (b · KL(p_t ‖ m) + (1 - b) · KL(p_s ‖ m)), m = b · p_t + (1 - b) · p_s, of each row of ``[Q, C]``: ``[Q]``.

    Args:
        share: b.
    """
    log_s, log_t = _log_softmax(student, teacher, temperature)
    middle = _mixture(log_t, log_s, share)
    return temperature**2 * (share * kl(log_t, middle) + (1 - share) * kl(log_s, middle))


def dkd_loss(student: Tensor, teacher: Tensor, target: Tensor, temperature: float, alpha: float, beta: float) -> Tensor:
    """T² · (alpha · KL(b_t ‖ b_s) + beta · KL(p̂_t ‖ p̂_s)) of each row of ``[Q, C]``: ``[Q]``.

    b = [p_y, 1 - p_y] for the true class y, and p̂ is the softmax of all others.

    Args:
        target: int64 ``[Q]``, y; -1 where there is none: the first part is then 0, and the others are all classes.
    """
    place = torch.arange(student.shape[-1], device=student.device)
    true = place == target.long().unsqueeze(-1)  # bool [Q, C]
    both = [_decoupled(z / temperature, true) for z in (student, teacher)]
    (binary_s, others_s), (binary_t, others_t) = both
    return temperature**2 * (alpha * kl(binary_t, binary_s) * (target >= 0) + beta * kl(others_t, others_s))


def _decoupled(logits: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """log b ``[Q, 2]``, and log p̂ ``[Q, C]``."""
    rest = logits.masked_fill(true, FLOOR)
    of_true, of_rest = logits.masked_fill(~true, FLOOR).logsumexp(-1), rest.logsumexp(-1)
    return F.log_softmax(torch.stack([of_true, of_rest], -1), -1), F.log_softmax(rest, -1)


def _log_softmax(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    return F.log_softmax(student / temperature, -1), F.log_softmax(teacher / temperature, -1)


def _mixture(log_p: Tensor, log_q: Tensor, share: float) -> Tensor:
    """log(share · p + (1 - share) · q)."""
    return torch.logaddexp(log_p + math.log(share), log_q + math.log1p(-share))


class Soft(Distiller):
    """A loss between two softmaxes of a query: over the classes, or over the teacher's list and random items beside it.

    Args:
        k: length of the teacher's list.
        others: random items beside it, shared by the queries of a step; 0 for the list alone.
        temperature: softens both distributions.
        weight: factor among the distillers.
    """

    tasks: tuple[str, ...] = (*LISTS, "ctr", "classification")
    per_query = True
    temperature: float

    def __init__(self, k: ListLength = 100, others: Others = 0, temperature: Temperature = 1.0, weight: Weight = 1.0):
        super().__init__(weight)
        self.k, self.others = k, others
        self.temperature = temperature  # type: ignore[assignment]

    def needs(self) -> Needs:
        return Needs(top_k=self.k, scores=self.others > 0)

    def forward(self, student: Any, teacher: Any, rng: torch.Generator) -> Tensor:
        both = candidates(student, teacher, self.k, self.others, rng)
        return self.loss(both.of(student), both)

    def loss(self, student: Tensor, both: Candidates) -> Tensor:
        """Of each query ``[Q]``, from the student's logits ``[Q, C]`` and the teacher's."""
        raise NotImplementedError


class ReverseKL(Soft):
    """:func:`reverse_kl_loss`: the student gives no mass to what the teacher excludes, and may leave out the rest.

    Source: Gu et al., MiniLLM: knowledge distillation of large language models, ICLR 2024.

    Args:
        k, others, temperature, weight: see :class:`Soft`.
    """

    def loss(self, student: Tensor, both: Candidates) -> Tensor:
        return reverse_kl_loss(student, both.teacher, self.temperature)


class SkewKL(Soft):
    """:func:`skew_kl_loss`: finite gradients also where the student all but excludes what the teacher does not.

    Source: Ko et al., DistiLLM: towards streamlined distillation for large language models, ICML 2024; skew 0.1.

    Args:
        skew: share a of the first distribution in the second.
        reverse: from the student to the teacher.
        k, others, temperature, weight: see :class:`Soft`.
    """

    def __init__(
        self, skew: Blend = 0.1, reverse: bool = False, k: ListLength = 100, others: Others = 0,
        temperature: Temperature = 1.0, weight: Weight = 1.0,
    ):  # fmt: skip
        super().__init__(k, others, temperature, weight)
        self.skew: float = skew  # type: ignore[assignment]
        self.reverse = reverse

    def loss(self, student: Tensor, both: Candidates) -> Tensor:
        return skew_kl_loss(student, both.teacher, self.temperature, self.skew, self.reverse)


class JSD(Soft):
    """:func:`jsd_loss`, the Jensen-Shannon divergence, at most T² log 2.

    Source: Agarwal et al., On-policy distillation of language models, ICLR 2024, for shares other than 1/2. Near the
    teacher it is b · (1 - b) times the divergence of soft labels, which ``weight`` can make up for.

    Args:
        share: b, of the teacher in the middle.
        k, others, temperature, weight: see :class:`Soft`.
    """

    def __init__(
        self, share: Blend = 0.5, k: ListLength = 100, others: Others = 0,
        temperature: Temperature = 1.0, weight: Weight = 1.0,
    ):  # fmt: skip
        super().__init__(k, others, temperature, weight)
        self.share: float = share  # type: ignore[assignment]

    def loss(self, student: Tensor, both: Candidates) -> Tensor:
        return jsd_loss(student, both.teacher, self.temperature, self.share)


class DKD(Soft):
    """Decoupled: how likely the true class is, and how likely the others are among themselves, :func:`dkd_loss`.

    In soft labels the second part has the factor 1 - p_t(y), which a sure teacher makes small. Of two classes, as in
    ``ctr``, it is 0, and alpha times soft labels are left. In a sequence the true class is the item that comes next;
    the others are the teacher's list and random items.

    Source: Zhao et al., Decoupled knowledge distillation, CVPR 2022; alpha 1, beta 8 and T 4 for small images, and beta
    0.5 and T 1 for ImageNet. The published code raises the weight linearly in the first epochs: ``weight`` may be a
    schedule.

    Args:
        alpha, beta: weights of the parts.
        k, others, temperature, weight: see :class:`Soft`.
    """

    tasks = ("sequence", "ctr", "classification")

    def __init__(
        self, alpha: Weight = 1.0, beta: Weight = 8.0, k: ListLength = 100, others: Others = 0,
        temperature: Temperature = 1.0, weight: Weight = 1.0,
    ):  # fmt: skip
        super().__init__(k, others, temperature, weight)
        self.alpha: float = alpha  # type: ignore[assignment]
        self.beta: float = beta  # type: ignore[assignment]

    def needs(self) -> Needs:
        return Needs(top_k=self.k, scores=True)

    def forward(self, student: Any, teacher: Any, rng: torch.Generator) -> Tensor:
        target = student.target().nan_to_num(-1.0).long()
        both = candidates(student, teacher, self.k, self.others, rng)
        if both.items is not None:
            both = target_first(both, target, teacher)
            target = target.clamp(max=0)
        return dkd_loss(both.of(student), both.teacher, target, self.temperature, self.alpha, self.beta)


def target_first(both: Candidates, target: Tensor, teacher: Any) -> Candidates:
    """The candidates with the item int64 ``[Q]`` before them; -1 for none, whose place is then hidden."""
    assert both.items is not None
    assert both.hidden is not None
    none, own = (target < 0).unsqueeze(-1), target.clamp(min=0).unsqueeze(-1)
    again = [both.items == own] + ([] if both.others is None else [both.others == own])
    hidden = torch.cat([none, both.hidden | (torch.cat(again, -1) & ~none)], -1)
    logits = torch.cat([teacher.scores(own), both.teacher], -1).masked_fill(hidden, FLOOR)
    return Candidates(logits, torch.cat([own, both.items], -1), both.others, hidden)
