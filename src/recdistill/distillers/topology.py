"""Distillation of topology: the angles between vectors, of all with all, or inside groups and of the groups."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from recdistill.distillers.base import ListView, Setting
from recdistill.distillers.experts import ExpertMixture
from recdistill.distillers.features import Side, VectorDistiller, hint_loss
from recdistill.distillers.schedules import Blend, Mix, Rate, Temperature, Weight

EPS = 1e-6  # a shorter vector has no direction


def cosines(rows: Tensor, others: Tensor) -> Tensor:
    """``[n, m]``, of vectors ``[n, d]`` with ``[m, d]``; 0 with a vector of zeros."""
    return F.normalize(rows, dim=-1, eps=EPS) @ F.normalize(others, dim=-1, eps=EPS).T


def topology_loss(student: Tensor, teacher: Tensor, share: Tensor) -> Tensor:
    """Σ_ij w_i w_j (cos_t(i, j) - cos_s(i, j))²: a mean over pairs of rows of ``[n, d]``.

    Args:
        share: w, with sum 1, ``[n]``.
    """
    gap = (cosines(teacher, teacher) - cosines(student, student)).square()
    return share @ gap @ share


def hierarchical_loss(
    student: Tensor, teacher: Tensor, group: Tensor, share: Tensor,
    level: Literal["entity", "group"] = "entity", authors_code: bool = False,
) -> Tensor:  # fmt: skip
    """Σ_ij w_i w_j (cos_t(i, j) - cos_s(i, j))² / Σ_ij w_i w_j over the pairs i, j of one group, plus the mean over
    groups g of Σ_i w_i (cos_t(P_g, i) - cos_s(P_g, i))², where P_g is the mean of the vectors of a group.

    Args:
        student, teacher: vectors ``[n, d]``.
        group: int64 ``[n]``.
        share: w, with sum 1, ``[n]``.
        level: "group" compares prototypes with each other instead of with the entities: the second term is then the
            mean over pairs of groups.
        authors_code: hold the student's prototypes constant, and leave out pairs whose cosine is not positive in the
            teacher's space.
    """
    cos_t, cos_s = cosines(teacher, teacher), cosines(student, student)
    together = group.unsqueeze(1) == group
    if authors_code:
        together = together & (cos_t > 0)
    pair = share.unsqueeze(1) * share * together
    inside = (pair * (cos_t - cos_s).square()).sum() / pair.sum().clamp(min=1e-12)
    names, place = torch.unique(group, return_inverse=True)
    member = F.one_hot(place, len(names)).to(student.dtype)
    member = (member / member.sum(0)).T  # [G, n], rows with sum 1
    prototypes_t, prototypes_s = member @ teacher, member @ student
    if authors_code:
        prototypes_s = prototypes_s.detach()
    if level == "group":
        return inside + (cosines(prototypes_t, prototypes_t) - cosines(prototypes_s, prototypes_s)).square().mean()
    return inside + ((cosines(prototypes_t, teacher) - cosines(prototypes_s, student)).square() @ share).mean()


class FTD(VectorDistiller):
    """Full topology distillation: :func:`topology_loss` of the users and items of a step together, half of the weight
    on each.

    A bias of items is a coordinate of their vectors, beside a 1 of all users: angles are easier to learn without it.

    Source: Kang et al., Topology distillation for recommender system, KDD 2021; for a student that is not much narrower
    than its teacher. The paper's loss is a sum over pairs.

    Args:
        rows, popular: see :class:`VectorDistiller`.
        weight: factor among the distillers.

    Raises:
        InputError: the student has no vectors.
    """

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        return topology_loss(*joined(self.vectors(student, teacher, rng)))


class HTD(VectorDistiller):
    """Hierarchical topology distillation: γ · :func:`hierarchical_loss` + (1 - γ) · hint by group, where the second is
    the loss of :class:`~recdistill.distillers.experts.DE`, and an entity's group is the expert that its selector
    likes best; users and items are of different groups.

    Source: Kang et al., Topology distillation for recommender system, KDD 2021; the temperature is that of the authors'
    code, γ and 30 groups those of their notebook. The paper's losses are sums; means are taken here.

    Args:
        groups: of the users, and of the items.
        gamma: γ.
        level: see :func:`hierarchical_loss`.
        authors_code: see there.
        temperature: of the choice of experts.
        rows, popular: see :class:`VectorDistiller`.
        weight: factor among the distillers.
        lr: of the networks; None for the student's learning rate.

    Raises:
        InputError: the student has no vectors.
    """

    temperature: float

    def __init__(
        self, groups: Annotated[int, Ge(1)] = 30, gamma: Blend = 0.5,
        level: Literal["entity", "group"] = "entity", authors_code: bool = False, temperature: Temperature = 0.1,
        rows: Annotated[int, Ge(1)] = 64, popular: Mix = 0.5, weight: Weight = 1.0, lr: Rate = None,
    ):  # fmt: skip
        super().__init__(rows, popular, weight, lr)
        self.groups, self.level, self.authors_code = groups, level, authors_code
        self.gamma: float = gamma  # type: ignore[assignment]
        self.temperature = temperature  # type: ignore[assignment]

    def prepare(self, setting: Setting) -> None:
        super().prepare(setting)
        widths = setting.student_dim, setting.teacher_dim
        self.maps = nn.ModuleList(ExpertMixture(*widths, self.groups) for _ in ("users", "items"))

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        sides = self.vectors(student, teacher, rng)
        hints, groups = [], []
        for number, (experts, (s, t)) in enumerate(zip(self.maps, sides, strict=True)):
            assert isinstance(experts, ExpertMixture)
            hints.append(hint_loss(experts(s, t, self.temperature, rng), t))
            groups.append(experts.selector(t).argmax(-1) + number * self.groups)
        s, t, share = joined(sides)
        topology = hierarchical_loss(s, t, torch.cat(groups), share, self.level, self.authors_code)
        return self.gamma * topology + (1 - self.gamma) * torch.stack(hints).mean()


def joined(sides: tuple[Side, Side]) -> tuple[Tensor, Tensor, Tensor]:
    """The vectors of users and items below each other, the student's and the teacher's, and the weight of each row:
    users and items have half of it, however many there are."""
    (user_s, user_t), (item_s, item_t) = sides
    shares = [rows.new_full((len(rows),), 0.5 / len(rows)) for rows in (user_s, item_s)]
    return torch.cat([user_s, item_s]), torch.cat([user_t, item_t]), torch.cat(shares)
