"""Distillation of relations: not where a vector is, but how it lies to the others. No map between the two spaces is
needed, so that their widths may differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional as F

from recdistill.distillers.base import LISTS, TABLES, Needs, Otherwise, Setting
from recdistill.distillers.features import Side, VectorDistiller
from recdistill.distillers.layers import Paired
from recdistill.distillers.schedules import Mix, Weight
from recdistill.distillers.topology import EPS


def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over pairs of rows of h(d_t / μ_t - d_s / μ_s), where d is their distance, μ the mean of all, and h Huber's
    loss: x² / 2 up to 1, |x| - 1/2 beyond. 0 of less than two rows."""
    if len(student) < 2:
        return student.sum() * 0
    d_s, d_t = F.pdist(student), F.pdist(teacher)
    return F.smooth_l1_loss(d_s / d_s.mean().clamp(min=EPS), d_t / d_t.mean().clamp(min=EPS))


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over triples of different rows of h(cos ∠_t(i, j, k) - cos ∠_s(i, j, k)), the angle at j, with h of
    :func:`distance_loss`. 0 of less than three rows."""
    n = len(student)
    if n < 3:
        return student.sum() * 0
    gaps = F.smooth_l1_loss(angles(student), angles(teacher), reduction="sum")  # without a third row, or a side: 0
    return gaps / (n * (n - 1) * (n - 2))


def angles(rows: Tensor) -> Tensor:
    """Cosines ``[n, n, n]`` of the angles at j between i and k, in the order [j, i, k]; 0 where i or k is j."""
    sides = F.normalize(rows.unsqueeze(0) - rows.unsqueeze(1), dim=-1, eps=EPS)  # [j, i]: from j to i
    return sides @ sides.transpose(1, 2)


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over rows of ‖G_t - G_s‖², where a row of G are the dot products of one vector with all, divided by their
    norm.

    The paper's has a further 1 / n, so that it falls with the size of a batch.
    """
    gram_s, gram_t = (F.normalize(rows @ rows.T, dim=-1, eps=EPS) for rows in (student, teacher))
    return (gram_t - gram_s).square().sum(-1).mean()


def cka_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - ‖X_tᵀ X_s‖² / (‖X_sᵀ X_s‖ ‖X_tᵀ X_t‖), with Frobenius norms, of vectors ``[n, d]`` without their mean."""
    # Scale does not matter: at length 1, no power of it is too large for float32.
    x, y = (F.normalize((rows - rows.mean(0)).flatten(), dim=0, eps=EPS).view_as(rows) for rows in (student, teacher))
    scale = (x.T @ x).norm() * (y.T @ y).norm()
    alike: Tensor = (y.T @ x).square().sum() / scale.clamp(min=EPS)
    return 1 - alike


OF_LAYERS = Otherwise(("sequence", *TABLES), "with layers it compares hidden layers", "layers={trunk: trunk}")
OF_VECTORS = Otherwise(LISTS, "without layers it compares the vectors of users and items", "layers=null")


class Relational(Paired, VectorDistiller):
    """Base of losses on the relations of the users, of the items, or of the rows of a table.

    Args:
        layers: submodules of the student, and which of the teacher's each learns from, for rows of tables and for
            histories; "trunk" is the last hidden layer of a model. None for the vectors of users and items.
        rows: most users (or rows of a table), and number of items, per step.
        popular: see :class:`VectorDistiller`.
        weight: factor among the distillers.

    Raises:
        InputError: vectors are wanted, and the student has none.
    """

    def __init__(
        self, layers: Mapping[str, str] | None = None,
        rows: Annotated[int, Ge(1)] = 256, popular: Mix = 0.5, weight: Weight = 1.0,
    ):  # fmt: skip
        super().__init__(rows, popular, weight)
        self.pair((layers or {}).items())
        this, self.otherwise = (OF_LAYERS, OF_VECTORS) if self.pairs else (OF_VECTORS, OF_LAYERS)
        self.tasks = this.tasks

    def needs(self) -> Needs:
        return Paired.needs(self) if self.pairs else VectorDistiller.needs(self)

    def prepare(self, setting: Setting) -> None:
        if not self.pairs:
            super().prepare(setting)

    def forward(self, student: Any, teacher: Any, rng: torch.Generator) -> Tensor:
        sides = self.outputs(student, teacher) if self.pairs else self.vectors(student, teacher, rng)
        return torch.stack([self.loss(*side) for side in sides]).mean()

    def outputs(self, student: Any, teacher: Any) -> list[Side]:
        """Of the layers."""
        return [(student.layer(own)[: self.rows], teacher.layer(its)[: self.rows]) for own, its in self.pairs]

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        raise NotImplementedError


class RKD(Relational):
    """Relational knowledge distillation: distance · :func:`distance_loss` + angle · :func:`angle_loss`.

    Source: Park et al., Relational knowledge distillation, CVPR 2019, whose weights are as 1 to 2.

    Args:
        distance, angle: weights of the two.
        triples: rows that angles are taken between, all with all: their number grows with its cube.
        layers, rows, popular: see :class:`Relational`.
        weight: factor among the distillers.

    Raises:
        InputError: see :class:`Relational`.
    """

    def __init__(
        self, distance: Weight = 1.0, angle: Weight = 2.0,
        triples: Annotated[int, Ge(0)] = 32, layers: Mapping[str, str] | None = None,
        rows: Annotated[int, Ge(1)] = 256, popular: Mix = 0.5, weight: Weight = 1.0,
    ):  # fmt: skip
        super().__init__(layers, rows, popular, weight)
        self.distance: float = distance  # type: ignore[assignment]
        self.angle: float = angle  # type: ignore[assignment]
        self.triples = triples

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        distances = distance_loss(student, teacher)
        return self.distance * distances + self.angle * angle_loss(student[: self.triples], teacher[: self.triples])


class SimilarityPreserving(Relational):
    """:func:`similarity_loss`.

    Source: Tung and Mori, Similarity-preserving knowledge distillation, ICCV 2019.
    """

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        return similarity_loss(student, teacher)


class CKA(Relational):
    """:func:`cka_loss`: the two spaces alike but for a rotation and a scale.

    Source: Kornblith et al., Similarity of neural network representations revisited, ICML 2019, for linear CKA.
    """

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        return cka_loss(student, teacher)
