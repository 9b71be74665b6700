"""Distillation of vectors after a low-pass filter over the graph of users and items."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from recdistill.data.csr import Csr
from recdistill.distillers.base import Setting
from recdistill.distillers.features import VectorDistiller, hint_loss
from recdistill.distillers.schedules import Mix, Rate, Weight


def filter_rows(own: Tensor, others: Tensor, factor: Tensor, alpha: float) -> Tensor:
    """(1 - α) e_i + α Σ_j f_ij e_j of each row of ``[n, d]``.

    Args:
        own: e_i.
        others: e_j of the neighbours of each, ``[n, K, d]``.
        factor: f, ``[n, K]``, 0 where there is no neighbour.
    """
    return (1 - alpha) * own + alpha * (factor.unsqueeze(-1) * others).sum(1)


def cosine_gap(mapped: Tensor, teacher: Tensor) -> Tensor:
    """1 - cos, mean over rows of ``[n, d]``."""
    return 1 - F.cosine_similarity(mapped, teacher, dim=-1, eps=1e-6).mean()


class GraphFiltered(VectorDistiller):
    """FreqD: the :func:`~recdistill.distillers.features.hint_loss` between H E_t and g(H E_s), with a linear map g for
    users and for items, where H = (1 - α) I + α Â, and Â is the adjacency matrix of users and items in training, an
    edge divided by the root of the degrees of its two ends. H keeps what is smooth over the graph, where neighbours
    agree, and damps the rest, so that the loss is about that.

    A step looks at some neighbours of each user and item, a run of them from a random place; what they give is
    multiplied by how many there are of each of them.

    Source: Zhu and Zhang, Exploring feature-based knowledge distillation for recommender system: a frequency
    perspective, KDD 2025; H as in the authors' code, whose loss is 1 - cos, and whose graph is whole at each step, or
    one of nearest neighbours with edges dropped at random.

    Args:
        alpha: α.
        neighbours: of each user and item per step, at most.
        cosine: compare directions, as the authors' code does.
        rows, popular: see :class:`VectorDistiller`.
        weight: factor among the distillers.
        lr: of the maps; None for the student's learning rate.

    Raises:
        InputError: the student has no vectors.
    """

    tasks = ("ranking",)

    def __init__(
        self, alpha: Mix = 0.5, neighbours: Annotated[int, Ge(1)] = 10, cosine: bool = False,
        rows: Annotated[int, Ge(1)] = 256, popular: Mix = 0.5, weight: Weight = 1.0, lr: Rate = None,
    ):  # fmt: skip
        super().__init__(rows, popular, weight, lr)
        self.neighbours, self.cosine = neighbours, cosine
        self.alpha: float = alpha  # type: ignore[assignment]

    def prepare(self, setting: Setting) -> None:
        super().prepare(setting)
        items_of = setting.train.csr
        for name, sets in (("users", items_of), ("items", items_of.transposed(setting.train.n_items))):
            self.register_buffer(f"{name}_indptr", sets.indptr, persistent=False)
            self.register_buffer(f"{name}_indices", sets.indices, persistent=False)
        self.maps = nn.ModuleList(nn.Linear(setting.student_dim, setting.teacher_dim) for _ in ("users", "items"))

    def sets(self, name: str) -> Csr:
        """The items of each of the "users", or the users of each of the "items"."""
        return Csr(getattr(self, f"{name}_indptr"), getattr(self, f"{name}_indices"))

    def forward(self, student: Any, teacher: Any, rng: torch.Generator) -> Tensor:
        compare = cosine_gap if self.cosine else hint_loss
        items, users = self.draw(student.n_items, rng), student.users[: self.rows]
        losses = []
        for mapping, rows, name in zip(self.maps, (users, items), ("users", "items"), strict=True):
            near, factor = self.near(rows, name, rng)
            s, t = (self.filtered(view, rows, near, factor, name) for view in (student, teacher))
            losses.append(compare(mapping(s), t))
        return torch.stack(losses).mean()

    def filtered(self, view: Any, rows: Tensor, near: Tensor, factor: Tensor, name: str) -> Tensor:
        """Rows of H E, ``[n, d]``."""
        if name == "users":
            own, others = view.user_vectors()[: len(rows)], view.item_vectors(near.flatten())
        else:
            own, others = view.item_vectors(rows), view.of(near.flatten()).user_vectors()
        return filter_rows(own, others.view(*near.shape, -1), factor, self.alpha)

    def near(self, rows: Tensor, name: str, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Neighbours int64 ``[n, K]`` of users or items, and what each is multiplied by, ``[n, K]``."""
        own, other = (self.sets(name), self.sets("items" if name == "users" else "users"))
        counts, others = own.counts(), other.counts()
        if not len(own.indices):  # nobody has any
            nobody = rows.new_zeros(len(rows), self.neighbours)
            return nobody, nobody.float()
        degree = counts[rows].unsqueeze(1)
        start = torch.randint(2**31, (len(rows), 1), generator=rng, device=rng.device)
        place = torch.arange(self.neighbours, device=rows.device)
        # Of nobody's neighbours the first of all stands in, with factor 0.
        at = (own.indptr[rows].unsqueeze(1) + (start + place) % degree.clamp(min=1)).clamp(max=len(own.indices) - 1)
        near = own.indices[at]
        scale = degree.float() / degree.clamp(min=1, max=self.neighbours)
        factor = scale * (degree * others[near]).clamp(min=1).float().rsqrt() * (place < degree)
        return near, factor
