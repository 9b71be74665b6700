"""Alignment of vectors with those of texts: contrastive, or by giving back the text's from a part of one's own."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import functional as F

from recdistill.data.features import Features, sizes_of
from recdistill.distillers.base import ListView, Needs, Setting
from recdistill.distillers.features import VectorDistiller, mapper_of
from recdistill.distillers.lists import FLOOR
from recdistill.distillers.schedules import Dropped, Mix, Temperature, Weight
from recdistill.models.fusion import centred, chosen


def info_nce(rows: Tensor, others: Tensor, ids: Tensor, known: Tensor, temperature: float) -> Tensor:
    """τ · mean_i [ log Σ_j e^{cos(a_i, b_j) / τ} - cos(a_i, b_i) / τ ] over the rows i that are known, j over the
    different ids among them: an id that occurs several times counts once. The factor τ keeps the gradient's size.

    Args:
        rows, others: a and b, ``[n, d]``.
        ids: int64 ``[n]``, what each row is of.
        known: bool ``[n]``; what others say of the rest means nothing.
        temperature: τ.
    """
    cosine = F.normalize(rows, dim=-1) @ F.normalize(others, dim=-1).T / temperature
    times = (ids.unsqueeze(1) == ids).sum(0)
    among = (cosine - times.log()).masked_fill(~known, FLOOR).logsumexp(-1)
    return temperature * ((among - cosine.diagonal()) * known).sum() / known.sum().clamp(min=1)


class RLMRec(VectorDistiller):
    """The mean of :func:`info_nce` between the student's vectors e and those of texts t, of users and of items:

    ===============  ============================================================================================
    ``contrastive``  of e and g(t): a text's vector, mapped, is nearer to its own item than to the step's others
    ``generative``   of g(e ∘ m) and t: what is left of e behind a random mask m gives back the text's vector
    ===============  ============================================================================================

    g has a hidden layer of the mean width, and is thrown away after the training.

    Source: Ren et al., Representation learning with large language models for recommendation, WWW 2024, with a map for
    each of users and items. Its generative form masks whole nodes before a graph is propagated; here single numbers of
    e are masked, which needs no graph. Its texts are profiles of users and items that a language model writes; here
    they are what ``encode`` is given.

    Args:
        mode: see above.
        vectors: name of a vector feature of the items, and of users who are queries where they have it, too; None for
            the teacher's own vectors, such as those of ``content_knn``. By a name it takes nothing of the teacher, and
            stands beside a distiller that does.
        rows: most users, and number of items, per step.
        popular: see :class:`~recdistill.distillers.features.VectorDistiller`.
        masked: share of a vector's numbers that ``generative`` masks.
        temperature: τ.
        weight: factor among the distillers.

    Raises:
        InputError: the student has no vectors, or the items have none of that name.
    """

    temperature: float

    def __init__(
        self,
        mode: Literal["contrastive", "generative"] = "contrastive",
        vectors: str | None = None,
        rows: Annotated[int, Ge(2)] = 512,
        popular: Mix = 0.5,
        masked: Dropped = 0.1,
        temperature: Temperature = 0.2,
        weight: Weight = 1.0,
    ):
        super().__init__(rows, popular, weight)
        self.mode, self.named = mode, vectors
        self.masked: float = masked  # type: ignore[assignment]
        self.temperature = temperature  # type: ignore[assignment]
        self.teaches = vectors is None

    def needs(self) -> Needs:
        return Needs() if self.named else super().needs()

    def prepare(self, setting: Setting) -> None:
        super().prepare(setting)
        self.content: dict[str, str] = {}  # side to the name of its buffer
        widths = {"item": setting.teacher_dim, "user": setting.teacher_dim}
        if self.named:
            widths = {}
            for side, table in named_vectors(self.named, setting).items():
                self.content[side] = f"{side}_content"
                self.register_buffer(self.content[side], table, persistent=False)
                widths[side] = table.shape[1]
        ends = {side: (width, setting.student_dim) for side, width in widths.items()}
        self.maps = nn.ModuleDict({
            side: mapper_of("mlp", *(pair if self.mode == "contrastive" else pair[::-1])) for side, pair in ends.items()
        })  # fmt: skip

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        items = self.draw(student.n_items, rng)
        losses = [self.aligned("item", student.item_vectors(items), items, teacher, rng)]
        if "user" in self.maps:
            users = student.users[: self.rows]
            losses.append(self.aligned("user", student.user_vectors()[: self.rows], users, teacher, rng))
        return torch.stack(losses).mean()

    def aligned(self, side: str, own: Tensor, ids: Tensor, teacher: ListView, rng: torch.Generator) -> Tensor:
        """The loss of one side's vectors ``[n, d]``, of users or items ``[n]``."""
        if self.named:
            text = self.get_buffer(self.content[side])[ids]
        else:
            text = teacher.item_vectors(ids) if side == "item" else teacher.user_vectors()[: self.rows]
        known = text.isfinite().all(-1)
        text = text.where(known.unsqueeze(-1), 0.0)
        if self.mode == "contrastive":
            return info_nce(own, self.maps[side](text), ids, known, self.temperature)
        kept = torch.rand(own.shape, generator=rng, device=own.device) >= self.masked
        return info_nce(self.maps[side](own * kept), text, ids, known, self.temperature)


def named_vectors(name: str, setting: Setting) -> dict[str, Tensor]:
    """The vectors ``[n, d]`` of that name by side, centred; NaN where one is missing.

    Raises:
        InputError: the items have none.
    """
    train = setting.train
    chosen(sizes_of(train.item_features), [name], "rlmrec", ["vector"], "distiller.rlmrec.vectors")
    of_users: Features = train.user_features
    found = {"item": centred(train.item_features.vector[name][: train.n_items])}
    if name in of_users.vector and setting.queries == train.n_users:  # queries of sequences are events
        found["user"] = centred(of_users.vector[name][: train.n_users])
    return found
