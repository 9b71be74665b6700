"""Distillation of vectors: the student's embeddings should hold what the teacher's hold."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from recdistill.distillers.base import Distiller, ListView, Needs, Setting
from recdistill.distillers.schedules import Mix, Rate, Weight
from recdistill.errors import InputError

Mapper = Literal["linear", "mlp", "none"]
Side = tuple[Tensor, Tensor]  # the student's vectors and the teacher's, of the same users or items


def hint_loss(mapped: Tensor, teacher: Tensor) -> Tensor:
    """‖e_t - g(e_s)‖² / d_t, mean over rows of ``[n, d_t]``."""
    return (teacher - mapped).square().mean()


def mapper_of(kind: Mapper, n_in: int, n_out: int) -> nn.Module:
    """A map of vectors ``[n, n_in]`` to ``[n, n_out]``: linear, with a hidden layer of the mean width, or none.

    Raises:
        InputError: there is to be none, and the widths differ.
    """
    if kind == "linear":
        return nn.Linear(n_in, n_out)
    if kind == "mlp":
        hidden = (n_in + n_out) // 2
        return nn.Sequential(nn.Linear(n_in, hidden), nn.ReLU(), nn.Linear(hidden, n_out))
    if n_in != n_out:
        raise InputError(
            f"vectors of the student, {n_in} wide, and of the teacher, {n_out} wide, need a map between them",
            where="distiller", why="a bias of items is an entry of their vectors",
            fix="mapper: linear, of that distiller; or net.dim and net.item_bias of both the same",
        )  # fmt: skip
    return nn.Identity()


class VectorDistiller(Distiller):
    """Base of losses on the vectors of the users (or histories) of a step and of items that it draws.

    Args:
        rows: most users, and number of items, per step.
        popular: share of the items that are drawn by how often they occur in training, as the positives of a batch
            are; the others are drawn uniformly, as its negatives.
        weight: factor among the distillers.
        lr: see :class:`Distiller`.
    """

    events: Tensor  # the item of each event of the training part
    known: Tensor | None  # numbers of the items that the teacher knows something of, None for all

    def __init__(self, rows: Annotated[int, Ge(1)] = 512, popular: Mix = 0.5, weight: Weight = 1.0, lr: Rate = None):
        super().__init__(weight)
        self.rows, self.lr = rows, lr
        self.popular: float = popular  # type: ignore[assignment]

    def needs(self) -> Needs:
        return Needs(embeddings=True)

    def prepare(self, setting: Setting) -> None:
        """Raises InputError: the student has no vectors."""
        if not setting.student_dim:
            raise InputError(
                f"{type(self).__name__} needs a student with user and item vectors", where="distiller",
                fix="choose student=mf, or another distiller: recdistill ls distiller",
            )  # fmt: skip
        events = torch.empty(0, dtype=torch.int64) if setting.train is None else setting.train.item
        some = setting.known_items
        self.register_buffer("events", events if some is None else events[some[events]], persistent=False)
        self.register_buffer("known", None if some is None else some.nonzero().flatten(), persistent=False)

    def draw(self, n_items: int, rng: torch.Generator) -> Tensor:
        """Items int64 ``[rows]``, of those that the teacher knows something of.

        Raises:
            InputError: there are none.
        """
        if self.known is not None and not len(self.known):
            raise InputError("the teacher knows no item, so that its items can't be compared", where="distiller",
                             fix="distiller=hint distiller.hint.side=user")  # fmt: skip
        drawn = n_items if self.known is None else len(self.known)
        uniform = torch.randint(drawn, (self.rows,), generator=rng, device=rng.device)
        uniform = uniform if self.known is None else self.known[uniform]
        if not len(self.events) or not self.popular:
            return uniform
        place = torch.randint(len(self.events), (round(self.popular * self.rows),), generator=rng, device=rng.device)
        return torch.cat([self.events[place], uniform[len(place) :]])

    def vectors(self, student: ListView, teacher: ListView, rng: torch.Generator) -> tuple[Side, Side]:
        """Of users, then of items."""
        items = self.draw(student.n_items, rng)
        users = student.user_vectors()[: self.rows], teacher.user_vectors()[: self.rows]
        return users, (student.item_vectors(items), teacher.item_vectors(items))


class Hint(VectorDistiller):
    """Mean of :func:`hint_loss` for the users and for random items of the step, with a map g for each.

    Where the student trains under rounding or another constraint on its tables, the vectors that are compared are the
    decoded ones that will be served: so a hint there teaches the compressed table itself.

    Source: Romero et al., FitNets, ICLR 2015, eq. 3.

    Args:
        items: random items per step.
        mapper: what g is: linear, "mlp" with a hidden layer of the mean width, or "none" between vectors of one width.
        side: whose vectors are compared.
        weight: factor among the distillers.
        lr: of the maps; None for the student's learning rate.

    Raises:
        InputError: the student has no vectors, or no map is wanted and the widths differ.
    """

    def __init__(
        self, items: Annotated[int, Ge(1)] = 512, mapper: Mapper = "linear",
        side: Literal["both", "user", "item"] = "both", weight: Weight = 1.0, lr: Rate = None,
    ):  # fmt: skip
        super().__init__(items, popular=0.0, weight=weight, lr=lr)
        self.mapper, self.side = mapper, side

    def prepare(self, setting: Setting) -> None:
        super().prepare(setting)
        if self.side != "item":
            self.user_map = mapper_of(self.mapper, setting.student_dim, setting.teacher_dim)
        if self.side != "user":
            self.item_map = mapper_of(self.mapper, setting.student_dim, setting.teacher_dim)

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        losses = []
        if self.side != "item":
            losses.append(hint_loss(self.user_map(student.user_vectors()), teacher.user_vectors()))
        if self.side != "user":
            items = self.draw(student.n_items, rng)
            losses.append(hint_loss(self.item_map(student.item_vectors(items)), teacher.item_vectors(items)))
        return torch.stack(losses).mean()
