"""Weights of samples: which of the teacher's answers count more in this step."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn import functional as F

from recdistill.distillers.base import Needs
from recdistill.distillers.candidates import candidates, entropy


class Weighting:
    """A factor for each query of a step, computed from both models' answers without gradients.

    The factors of a step have mean 1, so that they move attention between queries and not between the terms of the
    loss. What is looked at are the probabilities of the classes or, in a ranking, of the items on the teacher's list.

    Args:
        k: length of that list.
        temperature: softens both distributions.
        power: of the raw factors, before they are brought to mean 1.
    """

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

    def raw(self, teacher: Tensor, student: Tensor) -> Tensor:
        """Factors ``[Q]``, at least 0, from log-probabilities ``[Q, C]``."""
        raise NotImplementedError

    @torch.no_grad()
    def __call__(self, student: Any, teacher: Any) -> Tensor:
        """Float32 ``[Q]``, with mean 1; all 1 where no factor is above 0."""
        both = candidates(student, teacher, self.k)
        logits = both.teacher, both.of(student)
        factors = self.raw(*(F.log_softmax(z.float() / self.temperature, -1) for z in logits)) ** self.power
        mean = factors.mean()
        return torch.where(mean > 0, factors / mean.clamp(min=1e-30), torch.ones_like(factors))


class Confidence(Weighting):
    """The teacher's highest probability, max_c p_c.

    Args:
        k, temperature, power: see :class:`Weighting`.
    """

    def raw(self, teacher: Tensor, student: Tensor) -> Tensor:  # noqa: ARG002
        return teacher.amax(-1).exp()


class Entropy(Weighting):
    """How sure the teacher is of its whole answer: 1 - H(p) / log C.

    Args:
        k, temperature, power: see :class:`Weighting`.
    """

    def raw(self, teacher: Tensor, student: Tensor) -> Tensor:  # noqa: ARG002
        return (1 - entropy(teacher) / math.log(teacher.shape[-1])).clamp(min=0)


class Gap(Weighting):
    """How far the student still is from the teacher: KL(p_t ‖ p_s).

    Args:
        k, temperature, power: see :class:`Weighting`.
    """

    def raw(self, teacher: Tensor, student: Tensor) -> Tensor:
        return (teacher.exp() * (teacher - student)).sum(-1).clamp(min=0)
