"""Negatives: the items that a model learns to put below the positive ones, and the distribution they come from."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.interactions import Interactions

FINEST = 2**40  # what the weights of all items add up to, about


class Proposal:
    """The distribution of negatives in one epoch: item i comes with probability q(i) in proportion to its weight.

    Weights are whole numbers, so that what a user has seen is left out exactly and in one go, without drawing again:
    of what the user has not seen the r-th unit of weight is drawn, and in front of it lies what is seen of the items
    that have at most r unseen units before them.

    Args:
        seen: the items of each user.
        n_items: size of the catalogue.
        weight: int64 ``[n_items]``, each 1 or more; None where all items weigh the same.
    """

    def __init__(self, seen: Csr, n_items: int, weight: Tensor | None = None):
        self.seen, self.n_items, self.weight = seen, n_items, weight
        of_seen = torch.ones_like(seen.indices) if weight is None else weight[seen.indices]
        self.seen_upto = torch.cat([of_seen.new_zeros(1), of_seen.cumsum(0)])  # [nnz + 1]
        self.upto = torch.arange(1, n_items + 1, device=of_seen.device) if weight is None else weight.cumsum(0)
        self.total = n_items if weight is None else int(self.upto[-1])
        unseen = self.total - self.seen_upto[seen.indptr].diff()
        self.everything = unseen == 0  # bool [n_users]: who has seen all items
        self.free = torch.where(self.everything, self.total, unseen)  # int64 [n_users], the weight that is drawn from

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Items for everybody, whoever has seen them: int64 ``[count]``."""
        if self.weight is None:
            return torch.randint(self.n_items, (count,), generator=rng, device=self.upto.device)
        unit = torch.randint(self.total, (count,), generator=rng, device=self.upto.device)
        return torch.searchsorted(self.upto, unit, right=True)

    def draw_unseen(self, user: Tensor, count: int, rng: torch.Generator) -> Tensor:
        """Items that each user has not seen: int64 ``[len(user), count]``; any items where all are seen."""
        owner = user.unsqueeze(1).expand(-1, count)
        unit = torch.randint(2**62, owner.shape, generator=rng, device=user.device) % self.free[owner]
        first = self.seen.indptr[owner]
        behind = torch.searchsorted(self._keys, owner * (self.total + 1) + unit, right=True)
        unit = torch.where(self.everything[owner], unit, unit + self.seen_upto[behind] - self.seen_upto[first])
        return unit if self.weight is None else torch.searchsorted(self.upto, unit, right=True)

    @cached_property
    def _keys(self) -> Tensor:
        """For each seen item the unseen weight before it, ascending within and over users: ``[nnz]``."""
        indptr, item = self.seen.indptr, self.seen.indices
        whose = torch.repeat_interleave(torch.arange(len(indptr) - 1, device=item.device), self.seen.counts())
        before = item if self.weight is None else self.upto[item] - self.weight[item]
        return whose * (self.total + 1) + before - (self.seen_upto[:-1] - self.seen_upto[indptr[whose]])

    def log_q(self, items: Tensor, users: Tensor | None = None) -> Tensor:
        """Log-probability of items, float32 in the shape of ``items``.

        Args:
            items: int64, of any shape.
            users: int64 ``[B]`` for items ``[B, ...]``: of being drawn for them, whose seen items are left out.
        """
        log_weight = torch.zeros_like(items, dtype=torch.float32)
        if self.weight is not None:
            log_weight = self.weight[items].double().log().float()
        if users is None:
            return log_weight - math.log(self.total)
        return log_weight - self.free[users].double().log().float().view(-1, *[1] * (items.dim() - 1))


class Sampler:
    """Where negatives come from. A sampler is a distribution, and what is done with what was drawn.

    Attributes:
        power: q(i) is in proportion to (interactions of i) ** power.
        candidates: items drawn for each negative, of which the highest scored counts.
        in_batch: the negatives of a sample are the items of the other samples of its step.
    """

    power: float = 0.0
    candidates: int = 1
    in_batch: bool = False

    def proposal(self, train: Interactions) -> Proposal:
        """The distribution over the catalogue of ``train``."""
        if not self.power:
            return Proposal(train.csr, train.n_items)
        weight = torch.bincount(train.item, minlength=train.n_items).double() ** self.power
        finest = min(FINEST, 2**61 // (train.n_users + 1))  # keys of users and weights fit in 63 bits
        return Proposal(train.csr, train.n_items, (weight * (finest / weight.sum())).long().clamp(min=1))


class Uniform(Sampler):
    """All items alike. Source: Rendle et al., BPR, UAI 2009, section 4.2."""


class Popularity(Sampler):
    """q(i) ∝ (interactions of i) ** power.

    Source: Mikolov et al., Distributed representations of words and phrases, NeurIPS 2013, section 2.2, for 3/4.

    Args:
        power: 0 is uniform, 1 in proportion to the interactions.
    """

    def __init__(self, power: Annotated[float, Ge(0)] = 0.75):
        self.power = power


class InBatch(Sampler):
    """The items of the step's other samples, which come in proportion to their interactions and cost no drawing.

    The step is that of all processes together. Source: Yi et al., Sampling-bias-corrected neural modeling for large
    corpus item recommendations, RecSys 2019, section 4.
    """

    power = 1.0
    in_batch = True


class Hard(Sampler):
    """Of several items drawn, the one that the model scores highest now.

    Source: Zhang et al., Optimizing top-n collaborative filtering via dynamic negative item sampling, SIGIR 2013.

    Args:
        candidates: items drawn for each negative; 1 is no choice.
        power: of the distribution that they come from, see :class:`Popularity`.
    """

    def __init__(self, candidates: Annotated[int, Ge(1)] = 8, power: Annotated[float, Ge(0)] = 0.0):
        self.candidates, self.power = candidates, power
