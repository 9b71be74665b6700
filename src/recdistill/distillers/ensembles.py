"""Several teachers at once, weighted query by query.

The teacher is an ensemble (:mod:`recdistill.models.ensemble`); what is learned from are its members.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recdistill.distillers.base import Distiller, Needs, Setting, View
from recdistill.distillers.schedules import Temperature, Weight


def soft_cross_entropies(student: Tensor, teachers: Tensor, temperature: float) -> Tensor:
    """T² · CE(softmax(z_m / T), softmax(z_s / T)) of each teacher m and query.

    Args:
        student: logits ``[Q, C]``, or ``[M, Q, C]`` of one for each teacher.
        teachers: logits ``[M, Q, C]``.

    Returns:
        ``[M, Q]``.
    """
    log_q = F.log_softmax(student / temperature, -1)
    return -(temperature**2) * (F.softmax(teachers / temperature, -1) * log_q).sum(-1)


def confidence_weights(teachers: Tensor, label: Tensor) -> Tensor:
    """w_m = (1 − e^(L_m) / Σ_j e^(L_j)) / (M − 1), where L_m is the cross-entropy of teacher m with the label; they sum
    to 1.

    Without a label they are alike.

    Args:
        teachers: logits ``[M, Q, C]``.
        label: int64 ``[Q]``, -1 for none.

    Returns:
        ``[M, Q]``; 1 for a single teacher.
    """
    if len(teachers) == 1:
        return torch.ones_like(teachers[..., 0])
    known = label.clamp(min=0).expand(len(teachers), -1).unsqueeze(-1)
    loss = -F.log_softmax(teachers, -1).gather(-1, known).squeeze(-1).masked_fill(label < 0, 0.0)
    return (1 - F.softmax(loss, 0)) / (len(teachers) - 1)


def member_scores(teacher: View) -> Tensor:
    """Logits of all members ``[M, Q, C]``."""
    return torch.stack([member.scores() for member in teacher.members()])


class CtrEnsemble(Distiller):
    """Σ_m α_m · T² · KL(σ(z_m / T) ‖ σ(z_s / T)), with a gate over the teachers m that is learned beside the student:
    of each row α = softmax(W z + b), where z are the logits of all teachers.

    Source: Zhu et al., Ensembled CTR prediction via knowledge distillation, CIKM 2020, distillation by soft labels with
    teacher gating. Its hint on hidden layers is a distiller of its own here. The gate is brought to nothing else than
    the loss, as there: it prefers teachers that the student agrees with. The article has the cross-entropy, with the
    same gradient for the student; its part that is the teacher's own entropy draws the gate to the surest teacher,
    whether or not anybody agrees with it.

    Args:
        temperature: softens all probabilities.
        weight: factor among the distillers.
    """

    tasks = ("ctr",)
    per_query = True
    temperature: float
    gate: nn.Linear

    def __init__(self, temperature: Temperature = 1.0, weight: Weight = 1.0):
        super().__init__(weight)
        self.temperature = temperature  # type: ignore[assignment]

    def needs(self) -> Needs:
        return Needs(scores=True, members=True)

    def prepare(self, setting: Setting) -> None:
        self.gate = nn.Linear(setting.members, setting.members)
        nn.init.zeros_(self.gate.weight)  # all teachers alike at first
        nn.init.zeros_(self.gate.bias)

    def shares(self, teachers: Tensor) -> Tensor:
        """α ``[M, Q]`` of logits of no and yes ``[M, Q, 2]``."""
        logit = teachers[..., 1] - teachers[..., 0]
        alpha: Tensor = self.gate(logit.T.to(self.gate.weight.dtype)).softmax(-1).T
        return alpha

    def forward(self, student: Any, teacher: Any, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        teachers = member_scores(teacher)
        divergences = soft_cross_entropies(student.scores(), teachers, self.temperature)
        divergences = divergences - soft_cross_entropies(teachers, teachers, self.temperature)
        return (self.shares(teachers) * divergences).sum(0)


class ConfidenceEnsemble(Distiller):
    """Σ_m w_m · T² · CE(softmax(z_m / T), softmax(z_s / T)) with weights of the teachers m by how near each is to the
    label of the row, :func:`confidence_weights`.

    Source: Zhang et al., Confidence-aware multi-teacher knowledge distillation, ICASSP 2022, the loss on logits. Its
    loss on hidden layers is left out; it uses T = 4 on images.

    Args:
        temperature: softens all probabilities; the weights are without it.
        weight: factor among the distillers.
    """

    tasks = ("ctr", "classification")
    per_query = True
    temperature: float

    def __init__(self, temperature: Temperature = 1.0, weight: Weight = 1.0):
        super().__init__(weight)
        self.temperature = temperature  # type: ignore[assignment]

    def needs(self) -> Needs:
        return Needs(scores=True, members=True)

    def forward(self, student: Any, teacher: Any, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        teachers = member_scores(teacher)
        weight = confidence_weights(teachers, student.target().nan_to_num(-1.0).long())
        return (weight * soft_cross_entropies(student.scores(), teachers, self.temperature)).sum(0)
