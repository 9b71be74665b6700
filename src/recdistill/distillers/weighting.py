"""Weights of samples: which of the teacher's answers count more in this step."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn import functional as F

from recdistill.distillers.base import LISTS, TABLES, Needs
from recdistill.distillers.candidates import candidates, entropy
from recdistill.distillers.response import number_loss


class Weighting:
    """A factor for each query of a step, computed from both models' answers without gradients.

    A list of one item says nothing of an order: its factor is 0, and so is that of an empty one. The module brings the
    factors of a step to mean 1, so that they move attention between queries and not between the terms of the
    loss. What is looked at are the probabilities of the classes or, in a ranking, of the items on the teacher's list.
    A rating is one number, which has no probabilities: only what looks at both models' numbers can weigh it.

    Args:
        k: length of that list.
        temperature: softens both distributions.
        power: of the raw factors, before they are brought to mean 1.

    Attributes:
        tasks: names of the tasks that it serves.
    """

    tasks: ClassVar[tuple[str, ...]] = (*LISTS, *TABLES)

    def __init__(
        self,
        k: Annotated[int, Ge(2)] = 50,
        temperature: Annotated[float, Gt(0)] = 1.0,
        power: Annotated[float, Ge(0)] = 1.0,
    ):
        self.k, self.temperature, self.power = k, temperature, power

    def needs(self) -> Needs:
        """Signals that it takes from the teacher."""
        return Needs(top_k=self.k)

    def raw(self, teacher: Tensor, student: Tensor, count: Tensor) -> Tensor:
        """Factors ``[Q]``, at least 0, from log-probabilities ``[Q, C]`` of ``count`` ``[Q]`` classes or items each."""
        raise NotImplementedError

    def raw_of_numbers(self, teacher: Tensor, student: Tensor) -> Tensor:
        """Factors ``[Q]``, at least 0, from numbers ``[Q, 1]``; where ``tasks`` has ratings."""
        raise NotImplementedError

    def __call__(self, student: Any, teacher: Any) -> Tensor:
        """Float32 ``[Q]``, not yet brought to mean 1, which is that over the step of all processes."""
        if student.regression:
            return self.raw_of_numbers(teacher.scores().float(), student.scores().detach().float()) ** self.power
        both = candidates(student, teacher, self.k)
        # With gradients, and detached: the view keeps what it computes for the losses of the step.
        logits = both.teacher, both.of(student).detach()
        log_t, log_s = (F.log_softmax(z.float() / self.temperature, -1) for z in logits)
        count = torch.full_like(log_t[:, 0], log_t.shape[-1])
        if both.hidden is not None:
            count = (~both.hidden).sum(-1).float()
        raw = self.raw(log_t, log_s, count.clamp(min=2))
        return torch.where(count > 1, raw**self.power, 0.0)  # not 0^power, which is 1 at power 0


class Confidence(Weighting):
    """How far the teacher's highest probability is from a guess: (max_c p_c - 1 / C) / (1 - 1 / C).

    Args:
        k, temperature, power: see :class:`Weighting`.
    """

    tasks: ClassVar[tuple[str, ...]] = (*LISTS, "ctr", "classification")

    def raw(self, teacher: Tensor, student: Tensor, count: Tensor) -> Tensor:  # noqa: ARG002
        return ((teacher.amax(-1).exp() - 1 / count) / (1 - 1 / count)).clamp(min=0)


class Entropy(Weighting):
    """How sure the teacher is of its whole answer: 1 - H(p) / log C.

    Args:
        k, temperature, power: see :class:`Weighting`.
    """

    tasks: ClassVar[tuple[str, ...]] = (*LISTS, "ctr", "classification")

    def raw(self, teacher: Tensor, student: Tensor, count: Tensor) -> Tensor:  # noqa: ARG002
        return (1 - entropy(teacher) / count.log()).clamp(min=0)


class Adaptive(Entropy):
    """How near a query is to what a teacher of another domain learned from, and how sure the teacher is of it:

        w_q = closeness_q · (1 − H(p_q) / log C),

    brought to mean 1 over the step like all weights. What closeness is, a bridge says
    (:mod:`recdistill.models.bridges`); where the teacher knows nothing it is 0. A rating has no entropy, and is
    weighted by closeness alone. The effective sample size of a step, (Σ w)² / Σ w², is logged.

    Source: Bickel, Brückner and Scheffer, ICML 2007, for weights by how like the source a sample is; Kish, Survey
    sampling, 1965, for the effective size.

    Args:
        k, temperature, power: see :class:`Weighting`.
    """

    tasks = (*LISTS, *TABLES)
    closeness: Tensor  # float32, of all queries

    def __call__(self, student: Any, teacher: Any) -> Tensor:
        self.closeness = self.closeness.to(student.users.device)
        return self.closeness[student.users] * super().__call__(student, teacher)

    def raw_of_numbers(self, teacher: Tensor, student: Tensor) -> Tensor:  # noqa: ARG002
        return torch.ones_like(teacher[:, 0])


def effective_share(weights: Tensor) -> Tensor:
    """(Σ w)² / (Q Σ w²) of weights ``[Q]``: 1 where all are alike, 1 / Q where one has everything, 0 for none."""
    return weights.sum().square() / (len(weights) * weights.square().sum()).clamp(min=1e-30)


class Gap(Weighting):
    """How far the student still is from the teacher: KL(p_t ‖ p_s), and half of (z_t - z_s)² of ratings.

    Args:
        k, temperature, power: see :class:`Weighting`.
    """

    def raw(self, teacher: Tensor, student: Tensor, count: Tensor) -> Tensor:  # noqa: ARG002
        return (teacher.exp() * (teacher - student)).sum(-1).clamp(min=0)

    def raw_of_numbers(self, teacher: Tensor, student: Tensor) -> Tensor:
        return number_loss(student, teacher)
