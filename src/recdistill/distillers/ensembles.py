"""Several teachers at once, weighted query by query.

The teacher is an ensemble (:mod:`recdistill.models.ensemble`); what is learned from are its members.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from recdistill.distillers.base import LISTS, Distiller, Needs, Setting, View, on_list
from recdistill.distillers.candidates import ranks
from recdistill.distillers.lists import FLOOR, TopKKL
from recdistill.distillers.response import number_loss, soft_label_loss
from recdistill.distillers.schedules import Rate, Temperature, Weight


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


def list_entropy(top: Tensor, temperature: float) -> Tensor:
    """Entropy in nats ``[Q]`` of the softmax of each list's scores ``[Q, K]``, which are -inf behind its end; 0 of an
    empty list."""
    p = F.softmax((top / temperature).masked_fill(~on_list(top), FLOOR), -1)
    entropy: Tensor = torch.special.entr(p * on_list(top)).sum(-1)
    return entropy


class GatedEnsemble(TopKKL):
    """Σ_m α_m · D_m over the members m of an ensemble, with a gate that is learned beside the student: of each query
    α = softmax(W h + b), all alike at first. What a member teaches, D_m, and what the gate sees of it, h:

    - lists: KL(p_m ‖ p_s), where p_m is the softmax of m's own first k at temperature T and p_s the student's over
      these and the rest, as of :class:`~recdistill.distillers.lists.TopKKL`: T divides m's scores alone, so that there
      is no T². h is how sure each member is, 1 − H(p_m) / log k. A member without a list for a query has no share in
      it; of a query without any list nothing is learned.
    - classes: T² · KL(softmax(z_m / T) ‖ softmax(z_s / T)); h are the probabilities.
    - ratings: half of (z_m − z_s)²; h are the numbers.

    Source: the gate of Zhu et al., Ensembled CTR prediction via knowledge distillation, CIKM 2020, which
    :class:`CtrEnsemble` has for clicks, with losses of other tasks. As there, KL and not cross-entropy, whose part that
    is the member's own entropy would draw the gate to the surest; and as there, nothing else than the loss moves the
    gate, so that it prefers members that the student agrees with already, right or wrong. What it did is logged:
    ``share.N`` is the share of member N, from 0, as a mean over the queries of a step. A single teacher has no gate.

    Args:
        k, negatives: of each member's list, see :class:`~recdistill.distillers.lists.TopKKL`.
        temperature: of the members' lists, or of all probabilities of classes.
        lr: of the gate.
        weight: factor among the distillers.
    """

    tasks = (*LISTS, "rating", "classification")
    gate: nn.Linear | None
    share: Tensor

    def __init__(
        self,
        k: Annotated[int, Ge(1)] = 100,
        negatives: Annotated[int, Ge(0)] | None = None,
        temperature: Temperature = 1.0,
        lr: Rate = 0.001,
        weight: Weight = 1.0,
    ):
        super().__init__(k, negatives, temperature, weight)
        self.lr = lr

    def needs(self) -> Needs:
        return Needs(top_k=self.k, members=True)

    def prepare(self, setting: Setting) -> None:
        super().prepare(setting)
        count, self.gate = setting.members, None
        self.register_buffer("share", torch.full((count,), 1 / count))
        if count > 1:
            self.gate = nn.Linear(count * setting.outputs, count)
            nn.init.zeros_(self.gate.weight)
            nn.init.zeros_(self.gate.bias)

    def advance(self, progress: float) -> dict[str, float]:
        shares = enumerate(map(float, self.share.cpu())) if self.gate is not None else ()
        return super().advance(progress) | {f"share.{number}": value for number, value in shares}

    def forward(self, student: Any, teacher: Any, rng: torch.Generator) -> Tensor:
        members = teacher.members()
        loss, seen, there = self.of_lists(student, members, rng) if ranks(student) else self.of_rows(student, members)
        alpha = self.shares(seen, there)
        self.share.copy_(alpha.detach().sum(-1) / there.any(0).sum().clamp(min=1))
        return (alpha * loss).sum(0)

    def of_lists(self, student: Any, members: list[Any], rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Divergences ``[M, Q]``, what the gate sees ``[Q, M]``, and which members have a list, bool ``[M, Q]``."""
        lists = [member.top_items(self.k) for member in members]
        entropy = torch.stack([list_entropy(top, self.temperature) for _, top in lists])
        crossed = torch.stack([self.of_list(student, items, top, rng) for items, top in lists])
        there = torch.stack([on_list(top).any(-1) for _, top in lists])
        sure = (1 - entropy / math.log(max(2, self.k))) * there
        return crossed - entropy, sure.T, there

    def of_rows(self, student: View, members: list[Any]) -> tuple[Tensor, Tensor, Tensor]:
        """The same of rows of a table; the gate sees ``[Q, M · C]``."""
        z_s, z = student.scores(), [member.scores() for member in members]
        if student.regression:
            loss, seen = [number_loss(z_s, z_m) for z_m in z], z
        else:
            loss = [soft_label_loss(z_s, z_m, self.temperature) for z_m in z]
            seen = [F.softmax(z_m / self.temperature, -1) for z_m in z]
        found = torch.stack(loss)
        return found, torch.cat(seen, -1), torch.ones_like(found, dtype=torch.bool)

    def shares(self, seen: Tensor, there: Tensor) -> Tensor:
        """α ``[M, Q]`` of what the gate sees ``[Q, F]``; 0 where a member has nothing to say, bool ``[M, Q]``."""
        if self.gate is None:
            return there.to(seen.dtype)
        raw = self.gate(seen.to(self.gate.weight.dtype)).T
        alpha: Tensor = raw.masked_fill(~there, torch.finfo(raw.dtype).min).softmax(0) * there
        return alpha
