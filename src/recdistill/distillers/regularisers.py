"""Terms on the student's own answers, beside those that teach: how sure they are, and whether they depend on noise."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional as F

from recdistill.distillers.base import LISTS, Distiller, Needs, some_of, spread
from recdistill.distillers.candidates import candidates, entropy
from recdistill.distillers.divergences import ListLength
from recdistill.distillers.response import number_loss, soft_label_loss
from recdistill.distillers.schedules import Amount, Dropped, Mix, Temperature, Weight, most


def entropy_loss(logits: Tensor, kept: Tensor, towards: Literal["flat", "sharp"]) -> Tensor:
    """H(p), p = softmax(z) over the places kept of each row of ``[Q, C]``, for "sharp"; log C - H(p) for "flat", with C
    the number of places kept: ``[Q]``, at least 0. 0 where nothing is kept."""
    found = entropy(F.log_softmax(logits, -1))
    count = kept.sum(-1)
    value = found if towards == "sharp" else count.clamp(min=1).log() - found
    return torch.where(count > 0, value, 0.0)


def consistency_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """T² · (KL(p_a ‖ p_b) + KL(p_b ‖ p_a)) / 2, p = softmax(z / T), of each row of ``[Q, C]``: ``[Q]``."""
    return (soft_label_loss(first, second, temperature) + soft_label_loss(second, first, temperature)) / 2


class OutputEntropy(Distiller):
    """The entropy of the student's answer, :func:`entropy_loss`; over the classes or the teacher's list.

    Source: Pereyra et al., Regularizing neural networks by penalizing confident output distributions, ICLR workshop
    2017, for "flat": their -H with a constant that makes its least value 0. Grandvalet and Bengio, Semi-supervised
    learning by entropy minimization, NeurIPS 2004, for "sharp". It teaches nothing: choose it beside other distillers.

    Args:
        towards: "flat" against answers that are too sure, "sharp" for sure ones.
        k: length of the list.
        weight: factor among the distillers, the β of the papers.
    """

    tasks = (*LISTS, "ctr", "classification")
    per_query = True
    teaches = False

    def __init__(self, towards: Literal["flat", "sharp"] = "flat", k: ListLength = 100, weight: Weight = 0.1):
        super().__init__(weight)
        self.k = k
        self.towards: Literal["flat", "sharp"] = towards

    def needs(self) -> Needs:
        return Needs(top_k=self.k)

    def forward(self, student: Any, teacher: Any, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        both = candidates(student, teacher, self.k)
        logits = both.of(student)
        kept = torch.ones_like(logits, dtype=torch.bool) if both.hidden is None else ~both.hidden
        return entropy_loss(logits, kept, self.towards)


class Consistency(Distiller):
    """Two answers of the student for inputs changed at random should agree, with each other and with the teacher's
    for the input as it is: (1 - teacher) · :func:`consistency_loss` of the two + teacher · the mean of the soft labels
    of both. Of a number, the losses are those of :func:`~recdistill.distillers.response.number_loss`.

    What changes are fields, numbers and histories: a ranking model, which knows users by number, has none.

    Source: Xie et al., Unsupervised data augmentation for consistency training, NeurIPS 2020; the symmetric divergence
    of two answers of one model is that of Liang et al., R-Drop, NeurIPS 2021, which changes them by dropout alone
    (``share`` and ``noise`` 0).

    Args:
        share: of the fields of a row, or the items of a history, that are left out.
        noise: deviation of what is added to numbers, which have deviation 1, and to vectors.
        teacher: share of the teacher, 0 for a term on the student alone.
        k: length of the teacher's list, where a catalogue is ranked.
        temperature: softens the distributions.
        rows: most queries of a step, or of a process's part of it: each is answered twice more.
        weight: factor among the distillers.
    """

    tasks = ("sequence", "ctr", "rating", "classification")
    per_query = True
    temperature: float

    def __init__(
        self,
        share: Dropped = 0.1,
        noise: Amount = 0.1,
        teacher: Mix = 0.5,
        k: ListLength = 100,
        temperature: Temperature = 1.0,
        rows: Annotated[int, Ge(1)] = 256,
        weight: Weight = 1.0,
    ):
        super().__init__(weight)
        self.k, self.rows = k, rows
        self.share: float = share  # type: ignore[assignment]
        self.noise: float = noise  # type: ignore[assignment]
        self.teacher: float = teacher  # type: ignore[assignment]
        self.teaches = most(teacher) > 0
        self.temperature = temperature  # type: ignore[assignment]

    def needs(self) -> Needs:
        return Needs(top_k=self.k)

    def forward(self, student: Any, teacher: Any, rng: torch.Generator) -> Tensor:
        queries = student.users
        chosen = some_of(len(queries), self.rows, queries.device)
        both = candidates(student, teacher, self.k).at(chosen)
        student = student.of(queries[chosen])
        first, second = (both.of(student.augmented(self.share, self.noise, rng)) for _ in range(2))
        if student.regression:
            own = number_loss(first, second)
            taught = number_loss(first, both.teacher) + number_loss(second, both.teacher)
        else:
            own = consistency_loss(first, second, self.temperature)
            taught = soft_label_loss(first, both.teacher, self.temperature)
            taught = taught + soft_label_loss(second, both.teacher, self.temperature)
        return spread((1 - self.teacher) * own + self.teacher * taught / 2, chosen, len(queries))
