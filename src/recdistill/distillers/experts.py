"""Distillation of vectors by maps that differ from user to user and from item to item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn

from recdistill.distillers.base import ListView, Setting
from recdistill.distillers.features import Side, VectorDistiller, hint_loss
from recdistill.distillers.schedules import Mix, Rate, Temperature, Weight

Sizes = Annotated[list[Annotated[int, Ge(1)]], MinLen(1)]


def gumbel_softmax(logits: Tensor, temperature: float, rng: torch.Generator) -> Tensor:
    """softmax((log p + g) / temperature) of each row of ``[n, M]``, where p is the softmax of the logits and g is
    Gumbel noise: the lower the temperature, the nearer to one 1, drawn by p, and zeros.

    Source: Jang et al., ICLR 2017; Maddison et al., ICLR 2017.
    """
    # Not in half precision, where an exact 0 is drawn now and then, whose logarithm is no number.
    log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
    noise = torch.empty_like(log_p).exponential_(generator=rng).log()
    return ((log_p - noise) / temperature).softmax(-1).to(logits.dtype)


class ExpertMixture(nn.Module):
    """Σ_m s_m E_m(e_s), where an expert E_m is linear, ReLU, linear with a hidden layer of the mean width, and s is
    :func:`gumbel_softmax` of a linear map of the teacher's vector.

    Args:
        n_in, n_out: lengths of the student's and the teacher's vectors.
        experts: M.
    """

    def __init__(self, n_in: int, n_out: int, experts: int):
        super().__init__()
        hidden = (n_in + n_out) // 2
        self.selector = nn.Linear(n_out, experts)
        # All experts side by side, each as torch's own linear layers begin.
        self.first = nn.Linear(n_in, experts * hidden)
        self.second = nn.Parameter(torch.empty(experts, hidden, n_out))
        self.bias = nn.Parameter(torch.empty(experts, n_out))
        for weight in (self.second, self.bias):
            nn.init.uniform_(weight, -(hidden**-0.5), hidden**-0.5)

    def forward(self, student: Tensor, teacher: Tensor, temperature: float, rng: torch.Generator) -> Tensor:
        """``[n, n_out]`` of the vectors ``[n, n_in]`` and ``[n, n_out]``."""
        share = gumbel_softmax(self.selector(teacher), temperature, rng)  # [n, M]
        hidden = self.first(student).relu().unflatten(1, self.second.shape[:2])  # [n, M, h]
        # What is mixed are the hidden layers: one product of matrices instead of M.
        mixed: Tensor = (hidden * share.unsqueeze(-1)).flatten(1) @ self.second.flatten(0, 1) + share @ self.bias
        return mixed


class PersonalMap(nn.Module):
    """W(e_t) e_s, where a network, linear, ReLU, linear with a hidden layer of the mean width, makes the matrix W from
    the teacher's vector.

    Args:
        n_in, n_out: lengths of the student's and the teacher's vectors.
    """

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        hidden = (n_in + n_out) // 2
        self.network = nn.Sequential(nn.Linear(n_out, hidden), nn.ReLU(), nn.Linear(hidden, n_out * n_in))

    def forward(self, student: Tensor, teacher: Tensor, temperature: float, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        """As :class:`ExpertMixture`; nothing is drawn."""
        matrix = self.network(teacher).unflatten(1, (teacher.shape[1], student.shape[1]))
        mapped: Tensor = (matrix @ student.unsqueeze(-1)).squeeze(-1)
        return mapped


class Assistants(nn.Module):
    """Vectors a_k of K teacher assistants: W_k(e) e with the mean square of e, where a hyper-network makes the matrix
    from the teacher's vector e.

    In the paper they have any length. Nothing but what the student can follow draws them then: they shrink until they
    teach nothing or, at a high learning rate, grow without end.

    Args:
        n_teacher: length of the teacher's vectors.
        sizes: length of each assistant's.
        rank: W_k(e) = A_k0 + Σ_r (u_r · e + b_r) A_kr with so many u; None for one of every entry of e, which is the
            linear hyper-network of the paper, with n_teacher² · Σ sizes weights.
    """

    def __init__(self, n_teacher: int, sizes: list[int], rank: int | None):
        super().__init__()
        self.sizes = sizes
        self.coefficients = nn.Identity() if rank is None else nn.Linear(n_teacher, rank)
        self.basis = nn.Linear(n_teacher, (1 + (rank or n_teacher)) * sum(sizes), bias=False)

    def forward(self, teacher: Tensor) -> list[Tensor]:
        """``[n, size]`` for each size; all 0 where e is."""
        factors = nn.functional.pad(self.coefficients(teacher), (1, 0), value=1.0)  # [n, 1 + rank]
        parts = self.basis(teacher).unflatten(1, (factors.shape[1], -1))  # [n, 1 + rank, Σ sizes]
        together = (factors.unsqueeze(1) @ parts).squeeze(1)
        root = teacher.square().mean(1, keepdim=True).sqrt()
        return [nn.functional.normalize(a, dim=1) * a.shape[1] ** 0.5 * root for a in together.split(self.sizes, 1)]


class DE(VectorDistiller):
    """Distillation experts: mean over users and items of ‖e_t - Σ_m s_m E_m(e_s)‖² / d_t, see :class:`ExpertMixture`.

    Source: Kang et al., DE-RRD: a knowledge distillation framework for recommender system, CIKM 2020; 30 experts, and
    a temperature that falls from 1 to 1e-10 by a constant factor. The paper's loss has no 1 / d_t: its λ is a weight
    of λ · d_t here. The authors' code adds 1e-10 to p, and takes each user and item of a batch once.

    Args:
        experts: M, for users and for items.
        temperature: of the choice of experts, usually :class:`~recdistill.distillers.schedules.Exponential`.
        rows, popular: see :class:`VectorDistiller`.
        weight: factor among the distillers.
        lr: of the networks; None for the student's learning rate.

    Raises:
        InputError: the student has no vectors.
    """

    temperature: float

    def __init__(
        self, experts: Annotated[int, Ge(1)] = 30, temperature: Temperature = 1.0,
        rows: Annotated[int, Ge(1)] = 64, popular: Mix = 0.5, weight: Weight = 1.0, lr: Rate = None,
    ):  # fmt: skip
        super().__init__(rows, popular, weight, lr)
        self.experts = experts
        self.temperature = temperature  # type: ignore[assignment]

    def prepare(self, setting: Setting) -> None:
        super().prepare(setting)
        widths = setting.student_dim, setting.teacher_dim
        self.maps = nn.ModuleList(ExpertMixture(*widths, self.experts) for _ in ("users", "items"))

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        sides = zip(self.maps, self.vectors(student, teacher, rng), strict=True)
        losses = [hint_loss(experts(s, t, self.temperature, rng), t) for experts, (s, t) in sides]
        return torch.stack(losses).mean()


class PHR(VectorDistiller):
    """Personalised hint regression: mean over users and items of ‖e_t - W(e_t) e_s‖² / d_t, see :class:`PersonalMap`.

    Source: Kang et al., Personalized knowledge distillation for recommender system, Knowledge-Based Systems 239, 2022.
    The paper's loss has no 1 / d_t. As in the code of HyperKDMA, one network serves users and items, and does not see
    the mean of an entity's vector and those it is seen with.

    Args:
        rows, popular: see :class:`VectorDistiller`.
        weight: factor among the distillers.
        lr: of the networks; None for the student's learning rate.

    Raises:
        InputError: the student has no vectors.
    """

    def __init__(self, rows: Annotated[int, Ge(1)] = 64, popular: Mix = 0.5, weight: Weight = 1.0, lr: Rate = None):
        super().__init__(rows, popular, weight, lr)

    def prepare(self, setting: Setting) -> None:
        super().prepare(setting)
        self.map = PersonalMap(setting.student_dim, setting.teacher_dim)

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        return mean_of_sides(
            self.vectors(student, teacher, rng), lambda s, t: (t - self.map(s, t, 1.0, rng)).square().mean(-1)
        )


class TeacherAssistants(VectorDistiller):
    """HyperKDMA: ℓ(e_t) + λ Σ_k g_k ℓ(a_k), mean over users and items, where ℓ(x) = ‖x - f_x(e_s)‖² / d_x with f of
    :class:`DE` or :class:`PHR`, a_k are the vectors of :class:`Assistants` of sizes between student and teacher, and
    the gate g is the softmax of a linear map of e_t.

    The assistants learn with the student. Users and items have one hyper-network and one gate, and one map of PHR.

    Source: HyperKDMA: distilling recommender systems via hypernetwork-based teacher assistants, 2023; the formulas are
    those of the authors' code, where with DE only the last assistant enters the loss: here all do.

    Args:
        mapping: f, "de" or "phr".
        assistants: how many, with sizes at equal steps, 8 in the paper; or the size of each.
        assistant_weight: λ.
        rank: of the hyper-network, see :class:`Assistants`; None as in the paper.
        experts: of each "de".
        temperature: of its choice of experts.
        rows, popular: see :class:`VectorDistiller`.
        weight: factor among the distillers.
        lr: of the networks; None for the student's learning rate.

    Raises:
        InputError: the student has no vectors.
    """

    temperature: float

    def __init__(
        self, mapping: Literal["de", "phr"] = "phr", assistants: Annotated[int, Ge(1)] | Sizes = 2,
        assistant_weight: Weight = 1.0, rank: Annotated[int, Ge(1)] | None = 4,
        experts: Annotated[int, Ge(1)] = 30, temperature: Temperature = 1.0,
        rows: Annotated[int, Ge(1)] = 32, popular: Mix = 0.5, weight: Weight = 1.0, lr: Rate = None,
    ):  # fmt: skip
        super().__init__(rows, popular, weight, lr)
        self.mapping, self.assistants, self.experts = mapping, assistants, experts
        self.rank = rank
        self.assistant_weight: float = assistant_weight  # type: ignore[assignment]
        self.temperature = temperature  # type: ignore[assignment]

    def prepare(self, setting: Setting) -> None:
        super().prepare(setting)
        n_in, n_out = setting.student_dim, setting.teacher_dim
        count = self.assistants
        sizes = sizes_between(n_in, n_out, count) if isinstance(count, int) else list(count)
        self.hyper = Assistants(n_out, sizes, self.rank)
        self.gate = nn.Linear(n_out, len(sizes))
        own = ("users", "items") if self.mapping == "de" else ("both",)
        self.maps = nn.ModuleList(nn.ModuleList(self._map(n_in, size) for size in (n_out, *sizes)) for _ in own)

    def _map(self, n_in: int, n_out: int) -> nn.Module:
        return ExpertMixture(n_in, n_out, self.experts) if self.mapping == "de" else PersonalMap(n_in, n_out)

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        sides = self.vectors(student, teacher, rng)
        if len(self.maps) == 1:
            return mean_of_sides(sides, lambda s, t: self.gaps(self.maps[0], s, t, rng))
        return torch.stack(
            [self.gaps(maps, *side, rng).mean() for maps, side in zip(self.maps, sides, strict=True)]
        ).mean()

    def gaps(self, maps: nn.Module, student: Tensor, teacher: Tensor, rng: torch.Generator) -> Tensor:
        """The loss of each row of the vectors ``[n, d]``: ``[n]``."""
        targets = [teacher, *self.hyper(teacher)]
        gaps = torch.stack([
            (target - mapping(student, target, self.temperature, rng)).square().mean(-1)
            for mapping, target in zip(maps, targets, strict=True)  # type: ignore[call-overload]
        ], 1)  # [n, 1 + K]  # fmt: skip
        gate = self.gate(teacher).softmax(-1)
        total: Tensor = gaps[:, 0] + self.assistant_weight * (gate * gaps[:, 1:]).sum(-1)
        return total


def mean_of_sides(sides: tuple[Side, Side], loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The mean of users' and items' means of ``loss(student, teacher)`` ``[n]``, which is asked once for all of them:
    of a network that serves both, the weights are then read once."""
    student, teacher = (torch.cat(both) for both in zip(*sides, strict=True))
    parts = torch.split(loss(student, teacher), [len(side[0]) for side in sides])
    return torch.stack([part.mean() for part in parts]).mean()


def sizes_between(n_in: int, n_out: int, count: int) -> list[int]:
    """``count`` sizes at equal steps between two others, such as 40, 60, …, 180 between 20 and 200."""
    return [int(n_in + (n_out - n_in) * k / (count + 1)) for k in range(1, count + 1)]
