"""Losses of a positive item against sampled negatives: what they share, BPR and binary cross-entropy.

A negative that is left out has the score -inf: every loss here is 0 there, as is its gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional as F

from recdistill.distillers.views import ModelView
from recdistill.models.base import FactorModel, RankingModel
from recdistill.tasks.batches import RankingBatch
from recdistill.tasks.objectives.base import Objective
from recdistill.tasks.sampling import Sampler, Uniform


@dataclass(frozen=True)
class Scored:
    """The scores of a step.

    Attributes:
        positive: ``[B]``.
        negative: ``[B, n]``; -inf for one that is the positive itself, where the loss asks for that.
        items: what was drawn: the negatives, int64 ``[B, n]``, or ``[n]`` for all samples of the step; of hard shared
            ones the candidates.
    """

    positive: Tensor
    negative: Tensor
    items: Tensor


class Sampled(Objective):
    """A loss over sampled negatives; a subclass says which, in :meth:`loss`.

    Negatives are a sample's own, none of them seen by its user, or shared by all samples of a step, whoever has seen
    them: these cost one matmul instead of a gather each, so that a thousand of them are affordable.

    Args:
        negatives: items drawn for each sample.
        shared: items drawn for all samples of a step; replaces ``negatives`` when above 0.
        l2: weight of half the squared length of the table rows of users, items and own negatives, 0 for none.
        sampler: where negatives come from, :mod:`recdistill.tasks.sampling`; None is uniform. In-batch negatives
            replace both of the above.

    Attributes:
        leaves_out_hits: a shared negative that is the positive itself does not count.
    """

    leaves_out_hits = True

    def __init__(
        self,
        negatives: Annotated[int, Ge(1)] = 1,
        shared: Annotated[int, Ge(0)] = 0,
        l2: Annotated[float, Ge(0)] = 0.0,
        sampler: Sampler | None = None,
    ):
        self.sampler = sampler or Uniform()
        self.negatives = 0 if shared or self.sampler.in_batch else negatives
        self.shared, self.l2 = shared, l2

    def loss(self, scored: Scored, batch: RankingBatch) -> Tensor:
        """Mean over the samples, a scalar."""
        raise NotImplementedError

    def scores(self, view: ModelView, items: Tensor) -> Tensor:
        """Scores ``[B, K]`` of items ``[K]`` or ``[B, K]``."""
        return view.scores(items)

    def __call__(self, model: RankingModel, batch: RankingBatch, view: ModelView, rng: torch.Generator) -> Tensor:
        own = view.of(batch.user)
        scored = self._own(own, batch) if self.negatives else self._shared(own, batch, rng)
        loss = self.loss(scored, batch)
        if self.l2:
            touched: list[tuple[Literal["user", "item"], Tensor]] = [("user", batch.user), ("item", batch.item)]
            if self.negatives:
                touched.append(("item", scored.items))
            loss = loss + self.l2 * l2_penalty(model, *touched)
        return loss

    def _own(self, view: ModelView, batch: RankingBatch) -> Scored:
        items = batch.negative
        if self.sampler.candidates > 1:
            with torch.no_grad():
                choice = items.view(len(items), self.negatives, -1)  # [B, n, candidates]
                best = self.scores(view, items).view_as(choice).argmax(-1, keepdim=True)
                items = choice.gather(-1, best).squeeze(-1)
        scores = self.scores(view, torch.cat([batch.item.unsqueeze(1), items], 1))
        return Scored(scores[:, 0], scores[:, 1:], items)

    def _shared(self, view: ModelView, batch: RankingBatch, rng: torch.Generator) -> Scored:
        hard = self.sampler.candidates > 1
        if self.sampler.in_batch:
            items = batch.step_item
        else:
            assert batch.proposal is not None
            items = batch.proposal.draw(self.shared * self.sampler.candidates, rng)
        positive = self.scores(view, batch.item.unsqueeze(1)).squeeze(1)
        negative = self.scores(view, items)
        if self.leaves_out_hits or hard:
            negative = negative.masked_fill(items == batch.item.unsqueeze(1), -torch.inf)
        if hard:
            negative = negative.view(len(negative), self.shared, -1).amax(-1)
        return Scored(positive, negative, items)


def l2_penalty(model: RankingModel, *touched: tuple[Literal["user", "item"], Tensor]) -> Tensor:
    """Half the squared length of the table rows that a batch touches, per sample of the first."""
    if not isinstance(model, FactorModel):
        raise TypeError(f"l2 needs factors, whose dot products are the scores; {type(model).__name__} has none")
    user, item = model.raw_factors()
    total = user.new_zeros(())
    for table, ids in touched:
        total = total + F.embedding(ids, user if table == "user" else item).square().sum()
    return total / (2 * touched[0][1].numel())


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of -log σ(positive - negative), ``[B]`` against ``[B, n]``."""
    return F.softplus(negative - positive.unsqueeze(-1)).mean()


class BPR(Sampled):
    """-log σ(z_ui - z_uj) for an item i of the user and items j that are not (+ l2 · penalty).

    Source: Rendle et al., BPR, UAI 2009, section 4.1 (BPR-Opt).

    Args:
        negatives, shared, l2, sampler: see :class:`Sampled`.
    """

    name = "bpr"
    leaves_out_hits = False  # against itself an item adds log 2, and no gradient

    def loss(self, scored: Scored, batch: RankingBatch) -> Tensor:  # noqa: ARG002
        return bpr(scored.positive, scored.negative)


def bce(positive: Tensor, negative: Tensor, weight: float = 1.0) -> Tensor:
    """Mean of -log σ(positive) + weight · mean of -log(1 - σ(negative)), ``[B]`` and ``[B, n]``."""
    return F.softplus(-positive).mean() + weight * F.softplus(negative).mean()


class BCE(Sampled):
    """-log σ(z_ui) - weight · mean_j log(1 - σ(z_uj)): each pair on its own is seen, or is not.

    Source: He et al., Neural collaborative filtering, WWW 2017, eq. 7, whose sum over the negatives is a weight of
    their number.

    Args:
        weight: of the negatives beside the positive.
        negatives, shared, l2, sampler: see :class:`Sampled`.
    """

    name = "bce"

    def __init__(
        self,
        negatives: Annotated[int, Ge(1)] = 4,
        shared: Annotated[int, Ge(0)] = 0,
        l2: Annotated[float, Ge(0)] = 0.0,
        weight: Annotated[float, Ge(0)] = 1.0,
        sampler: Sampler | None = None,
    ):
        super().__init__(negatives, shared, l2, sampler)
        self.weight = weight

    def loss(self, scored: Scored, batch: RankingBatch) -> Tensor:  # noqa: ARG002
        return bce(scored.positive, scored.negative, self.weight)
