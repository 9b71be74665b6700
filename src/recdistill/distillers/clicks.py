"""Distillation of clicks: logits of yes or no, one by one, as a list, and by how much two heads agree."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recdistill.distillers.base import Distiller, Needs, Setting, View
from recdistill.distillers.schedules import Temperature, Weight


def bce_soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · BCE(σ(z_t / T), σ(z_s / T)) of each logit of ``[Q]``: ``[Q]``."""
    label = torch.sigmoid(teacher / temperature)
    loss = F.binary_cross_entropy_with_logits(student / temperature, label, reduction="none")
    return temperature**2 * loss


def clid_loss(student: Tensor, teacher: Tensor, form: Literal["listwise", "pointwise"] = "listwise") -> Tensor:
    """KL(q_t ‖ q_s) with q_b = σ(z_b) / Σ_c σ(z_c) over the logits ``[Q]``, a scalar: the cross-entropy of the list
    without the teacher's entropy, which is constant.

    Args:
        form: "pointwise" for Σ_b of the divergences of yes and no with probabilities q_b instead.
    """
    log_q_s, log_q_t = (F.logsigmoid(z) - F.logsigmoid(z).logsumexp(-1) for z in (student, teacher))
    loss = _relative(log_q_t, log_q_s)
    if form == "pointwise":
        loss = loss + _relative(_log1mexp(log_q_t), _log1mexp(log_q_s))
    return loss.sum()


def _relative(log_p: Tensor, log_q: Tensor) -> Tensor:
    return log_p.exp() * (log_p - log_q)


def _log1mexp(log_p: Tensor) -> Tensor:
    """log(1 - p); that of a list of one, where p is 1, is that of the largest number below."""
    return torch.log1p(-log_p.exp().clamp(max=1 - torch.finfo(log_p.dtype).eps))


def uncertain_loss(loss: Tensor, head: Tensor, other: Tensor) -> Tensor:
    """e^(-D) · loss + D with D = KL(σ(head) ‖ σ(other)) of yes and no, for each of ``[Q]``: ``[Q]``.

    Args:
        loss: of the head against a label that may be wrong.
        head, other: logits of two heads of one model.
    """
    apart = _bernoulli(head, other)
    return torch.exp(-apart) * loss + apart


def _bernoulli(z: Tensor, other: Tensor) -> Tensor:
    """KL(σ(z) ‖ σ(other)) of yes and no."""
    p = torch.sigmoid(z)
    yes, no = F.logsigmoid(z) - F.logsigmoid(other), F.logsigmoid(-z) - F.logsigmoid(-other)
    return p * yes + (1 - p) * no


def logit(view: View) -> Tensor:
    """The logit of yes ``[Q]``, from those of no and yes."""
    both = view.scores()
    return both[:, 1] - both[:, 0]


class BCESoft(Distiller):
    """Binary cross-entropy with the teacher's softened probabilities, :func:`bce_soft_loss`: soft labels of clicks plus
    the teacher's entropy.

    Not for classes, whose logits are known up to a constant only.

    Source: Hinton et al., Distilling the knowledge in a neural network, 2015, for two classes.

    Args:
        temperature: softens both probabilities.
        weight: factor among the distillers.
    """

    tasks = ("ctr",)
    per_query = True
    temperature: float

    def __init__(self, temperature: Temperature = 1.0, weight: Weight = 1.0):
        super().__init__(weight)
        self.temperature = temperature  # type: ignore[assignment]

    def needs(self) -> Needs:
        return Needs(scores=True)

    def forward(self, student: View, teacher: View, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        return bce_soft_loss(logit(student), logit(teacher), self.temperature)


class CLID(Distiller):
    """Calibration-compatible listwise distillation, :func:`clid_loss`: the rows of a step are the list. It is 0 where
    the student's probabilities are the teacher's, so that it does not work against the hard loss.

    One value for a step. With several processes a list is a process's own share of the step.

    Source: Gui et al., Calibration-compatible listwise distillation of privileged features for CTR prediction, WSDM
    2024. There a list is the items of a page; a step of random rows stands for it where pages are not known, as in
    published code, which has "pointwise" and a mean over the rows where this is a sum.

    Args:
        form: see :func:`clid_loss`.
        weight: factor among the distillers.
    """

    tasks = ("ctr",)

    def __init__(self, form: Literal["listwise", "pointwise"] = "listwise", weight: Weight = 1.0):
        super().__init__(weight)
        self.form: Literal["listwise", "pointwise"] = form

    def needs(self) -> Needs:
        return Needs(scores=True)

    def forward(self, student: View, teacher: View, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        return clid_loss(logit(student), logit(teacher), self.form)


class Debiased(Distiller):
    """Soft labels that count less where two heads of the student disagree: the teacher's answers are noisy there.

    The second head is a linear map of one of the student's layers, which learns the teacher's labels too and is thrown
    away: :func:`uncertain_loss` of :func:`bce_soft_loss` for the student's logit + :func:`bce_soft_loss` for that head.

    Source: Xu et al., UKD: debiasing conversion rate estimation via uncertainty-regularized knowledge distillation, WWW
    2022, the student's part; its weights are those of Zheng and Yang, Rectifying pseudo label learning via uncertainty
    estimation for domain adaptive semantic segmentation, IJCV 2021.

    Args:
        layer: name of the student's submodule that feeds the second head, "trunk" for its last hidden layer. That of a
            teacher which learns from the student is always fed by the trunk.
        weight: factor among the distillers.
    """

    tasks = ("ctr",)
    per_query = True

    def __init__(self, layer: str = "trunk", weight: Weight = 1.0):
        super().__init__(weight)
        self.layers = (layer,)

    def needs(self) -> Needs:
        return Needs(scores=True)

    def swap(self) -> None:
        self.layers = ("trunk",)  # the layer that is named is the student's

    def prepare(self, setting: Setting) -> None:
        self.head = nn.Linear(setting.student_layers[self.layers[0]], 1)

    def forward(self, student: View, teacher: View, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        z, label = logit(student), logit(teacher)
        second: Tensor = self.head(student.layer(self.layers[0])).squeeze(-1)
        return uncertain_loss(bce_soft_loss(z, label, 1.0), z, second) + bce_soft_loss(second, label, 1.0)
