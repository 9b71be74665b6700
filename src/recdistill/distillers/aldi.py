"""ALDI: what a warm teacher knows of items from who took them, for a student that knows them by their content."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional as F

from recdistill.data.interactions import Interactions
from recdistill.distillers.base import Distiller, ListView, Needs, Setting
from recdistill.distillers.features import hint_loss, mapper_of
from recdistill.distillers.schedules import Weight, most
from recdistill.errors import InputError


class ALDI(Distiller):
    """rating · L_rating + ranking · L_ranking + identification · L_identification + embedding · L_embedding, means over
    triples of a query u, an item i that it has in training, and a random item j, with scores s of the student and t of
    the teacher, BCE(x, y) = -y log σ(x) - (1 - y) log(1 - σ(x)), and the trust w_i of :func:`trust`:

    ==============  ==================================================================================================
    rating          \\|t_ui - s_ui\\| + \\|t_uj - s_uj\\|
    ranking         w_i BCE(s_ui - s_uj, σ(t_ui - t_uj))
    identification  w_i BCE(d_s, σ(d_t)), d = v_i · v_i - mean_j v_i · v_j: whether an item is told from the random ones
    embedding       ‖g(f_i) - e_i‖² / d of the items' vectors, student's to teacher's; g is linear where widths differ
    ==============  ==================================================================================================

    Source: Huang et al., Aligning distillation for cold-start item recommendation, SIGIR 2023; L_identification and the
    weights as in the authors' code, L_embedding is not theirs. There users are a map of the teacher's; here they are
    the student's own.

    Args:
        rating, ranking, identification, embedding: weights of the terms; 0 leaves one out.
        confidence: M of :func:`trust`; 0 trusts the teacher alike in all items.
        pairs: triples of each query at a step.
        weight: factor among the distillers.

    Raises:
        InputError: no term has a weight, or vectors are to be compared and the student has none.
    """

    trusted: Tensor

    def __init__(
        self, rating: Weight = 0.1, ranking: Weight = 0.9, identification: Weight = 0.05, embedding: Weight = 0.0,
        confidence: Annotated[float, Ge(0)] = 4.0, pairs: Annotated[int, Ge(1)] = 8, weight: Weight = 1.0,
    ):  # fmt: skip
        super().__init__(weight)
        shares = {"rating": rating, "ranking": ranking, "identification": identification, "embedding": embedding}
        vars(self).update(shares)
        # Those that have a weight at any time are there at all times, so that what they learn always has gradients.
        self.terms = [name for name, share in shares.items() if most(share)]
        self.of_vectors = "identification" in self.terms or "embedding" in self.terms
        self.confidence, self.pairs = confidence, pairs
        if not self.terms:
            raise InputError("ALDI without a term teaches nothing", where="distiller.aldi",
                             fix="distiller.aldi.ranking=0.9")  # fmt: skip

    def needs(self) -> Needs:
        return Needs(scores=True, embeddings=self.of_vectors)

    def prepare(self, setting: Setting) -> None:
        if self.of_vectors and not setting.student_dim:
            raise InputError(
                "ALDI compares vectors of items, and the student has none", where="distiller.aldi",
                fix="student=mf or two_tower, or distiller.aldi.identification=0 distiller.aldi.embedding=0",
            )  # fmt: skip
        self.register_buffer("trusted", trust(setting.train, self.confidence), persistent=False)
        if "embedding" in self.terms:
            same = setting.student_dim == setting.teacher_dim
            self.item_map = mapper_of("none" if same else "linear", setting.student_dim, setting.teacher_dim)

    def advance(self, progress: float) -> dict[str, float]:
        """See :class:`Distiller`; by the names of the terms themselves the log has their values."""
        now = super().advance(progress)
        return {f"weight.{name}" if name in self.terms else name: value for name, value in now.items()}

    def forward(self, student: ListView, teacher: ListView, rng: torch.Generator) -> Tensor:
        items, has = self.draw(student, rng)
        s, t = student.scores(items)[has], teacher.scores(items)[has]
        own, other = items[has].chunk(2, 1)
        if not len(own):  # nobody in this step has anything
            return s.sum()
        trusted = self.trusted[own]
        gap_s, gap_t = (scores[:, : self.pairs] - scores[:, self.pairs :] for scores in (s, t))
        terms = {"rating": 2 * (t - s).abs().mean(), "ranking": aligned(gap_s, gap_t, trusted)}
        if self.of_vectors:
            terms |= self.of_items(student, teacher, own.flatten(), other.flatten(), trusted.flatten())
        self.parts = {name: (terms[name].detach(), getattr(self, name)) for name in self.terms}
        return torch.stack([share * terms[name] for name, (_, share) in self.parts.items()]).sum()

    def draw(self, student: ListView, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Items ``[Q, 2 · pairs]``, first those that the queries have and then random ones, and which queries have any,
        bool ``[Q]``."""
        row, item = student.seen_pairs()
        n = len(student.users)
        count = torch.bincount(row, minlength=n)
        place = torch.rand(n, self.pairs, generator=rng, device=row.device) * count.unsqueeze(1)
        at = (count.cumsum(0) - count).unsqueeze(1) + place.long()
        other = torch.randint(student.n_items, (n, self.pairs), generator=rng, device=row.device)
        own = F.pad(item, (0, 1))[at]  # behind the end where the last query has none
        return torch.cat([own, other], 1), count > 0

    def of_items(
        self, student: ListView, teacher: ListView, own: Tensor, other: Tensor, trusted: Tensor
    ) -> dict[str, Tensor]:
        """The terms of vectors of items, of int64 ``[n]`` that queries have and ``[n]`` random ones."""
        own_s, own_t = student.item_vectors(own), teacher.item_vectors(own)
        parts = {}
        if "identification" in self.terms:
            parts["identification"] = aligned(
                told_apart(own_s, student.item_vectors(other)), told_apart(own_t, teacher.item_vectors(other)), trusted
            )
        if "embedding" in self.terms:
            parts["embedding"] = hint_loss(self.item_map(own_s), own_t)
        return parts


def aligned(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """Mean of w BCE(d_s, σ(d_t)) over differences d of any shape."""
    return F.binary_cross_entropy_with_logits(student, teacher.sigmoid(), weight)


def told_apart(own: Tensor, other: Tensor) -> Tensor:
    """v_i · v_i - mean_j v_i · v_j ``[n]`` of vectors ``[n, d]``, with j over all of the others ``[m, d]``."""
    return (own * (own - other.mean(0))).sum(1)


def trust(train: Interactions, confidence: float) -> Tensor:
    """How far the teacher knows each item, ``[n_items]``: w_i = tanh(M min(f_i / f, 1)) with f_i = Σ_u 1 / n_u over the
    users of the item, n_u their number of items, and f the mean of all f_i; 1 where M is 0."""
    if not confidence:
        return torch.ones(train.n_items)
    user, item = train.csr.rows(torch.arange(train.n_users))
    known = torch.zeros(train.n_items).index_add(0, item, 1 / train.csr.counts()[user])
    return (confidence * (known / known.mean().clamp(min=torch.finfo(known.dtype).tiny)).clamp(max=1)).tanh()
