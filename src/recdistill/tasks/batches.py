"""Batches, and how an epoch is cut into them.

Everything random in an epoch is drawn once, from a generator seeded by (seed, epoch). A batch is then a slice
of resident tensors, the same on every run, every resume and every number of processes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.interactions import Interactions

GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, as in splitmix64: neighbouring inputs give unrelated seeds


def mix(*numbers: int) -> int:
    """A 63-bit seed from whole numbers, such as (seed, rank, epoch, step)."""
    state = 0
    for number in numbers:
        state = (state + number + GOLDEN) & (2**64 - 1)
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        state ^= state >> 31
    return state >> 1


def generator(device: torch.device | str, *numbers: int) -> torch.Generator:
    """A generator on ``device``, seeded by whole numbers."""
    return torch.Generator(device).manual_seed(mix(*numbers))


@dataclass(frozen=True)
class RankingBatch:
    """One step of a ranking model, or one process's share of it.

    Attributes:
        user: int64 ``[B]``.
        item: int64 ``[B]``, an item of each user; empty where a sample is a user.
        negative: int64 ``[B, n]``, items that the user has not interacted with.
        query: int64 ``[Q]``, users whose ranking is distilled in this step.
        weight: this process's share of the step's samples times the number of processes, so that the average
            over processes of weight times local mean is the mean over the whole step. A process for which no
            sample is left takes one at weight 0: its mean stays finite and its gradients are there to
            average.
        query_weight: the same for ``query``.
        seed: for what a distiller draws in this step; equal on all processes.
    """

    user: Tensor
    item: Tensor
    negative: Tensor
    query: Tensor
    weight: float
    query_weight: float
    seed: int


def _share(total: int, steps: int, step: int, rank: int, world: int) -> tuple[slice, float]:
    """Where one process's part of one step lies, and its weight (see :class:`RankingBatch`)."""
    first, last = total * step // steps, total * (step + 1) // steps
    size = last - first
    start, stop = size * rank // world, size * (rank + 1) // world
    if start == stop:
        return slice(first, first + min(size, 1)), 0.0
    return slice(first + start, first + stop), world * (stop - start) / size


@dataclass(frozen=True)
class RankingEpoch:
    """One pass over the interactions.

    Attributes:
        user: int64 ``[N]``, shuffled.
        item: int64 ``[N]``; empty where a sample is a user.
        negative: int64 ``[N, n]``; empty where a sample is a user.
        query: int64 ``[steps * queries]``, users in shuffled rounds; each comes once per round.
        steps: number of batches; their sizes differ by one at most.
        seed: of this epoch.
    """

    user: Tensor
    item: Tensor
    negative: Tensor
    query: Tensor
    steps: int
    seed: int

    def batch(self, step: int, rank: int = 0, world: int = 1) -> RankingBatch:
        here, weight = _share(self.user.numel(), self.steps, step, rank, world)
        there, query_weight = _share(self.query.numel(), self.steps, step, rank, world)
        return RankingBatch(
            user=self.user[here],
            item=self.item[here],
            negative=self.negative[here],
            query=self.query[there],
            weight=weight,
            query_weight=query_weight,
            seed=mix(self.seed, step),
        )


def user_epoch(train: Interactions, *, seed: int, epoch: int, batch_size: int) -> RankingEpoch:
    """One pass over the users instead of the interactions, for losses over a user's whole ranking.

    The users of a batch are also those who are distilled in it, so that hard and soft loss share one scoring.
    """
    rng = generator(train.user.device, seed, epoch)
    steps = max(1, math.ceil(train.n_users / batch_size))
    order = torch.randperm(train.n_users, generator=rng, device=rng.device)
    return RankingEpoch(order, order.new_empty(0), order.new_empty(0, 0), order, steps, mix(seed, epoch, 1))


def ranking_epoch(
    train: Interactions, *, seed: int, epoch: int, batch_size: int, negatives: int, queries: int
) -> RankingEpoch:
    """Shuffles, draws all negatives of the epoch at once and plans which users are distilled when.

    Args:
        train: on the device where the batches are wanted.
        batch_size: samples per step over all processes.
        negatives: uniform negatives per sample, 0 for none.
        queries: users distilled per step over all processes, 0 for none.
    """
    rng = generator(train.user.device, seed, epoch)
    n = len(train)
    steps = max(1, math.ceil(n / batch_size))
    order = torch.randperm(n, generator=rng, device=rng.device)
    user, item = train.user[order], train.item[order]
    negative = uniform_negatives(train.csr, user, negatives, train.n_items, rng)
    rounds = math.ceil(steps * queries / max(train.n_users, 1))
    query = torch.cat(
        [torch.randperm(train.n_users, generator=rng, device=rng.device) for _ in range(rounds)] or [user.new_empty(0)]
    )[: steps * queries]
    return RankingEpoch(user, item, negative, query, steps, mix(seed, epoch, 1))


def uniform_negatives(seen: Csr, user: Tensor, count: int, n_items: int, rng: torch.Generator) -> Tensor:
    """Items drawn uniformly from those that each user has not seen: int64 ``[len(user), count]``.

    Exact, and without drawing again: of the user's unseen items the r-th is drawn, and before it lie as many
    seen items as have at most r unseen ones before them. A user who has seen everything gets any item.
    """
    owner = user.unsqueeze(1).expand(-1, count)
    unseen = n_items - seen.counts()
    free = torch.where(unseen > 0, unseen, n_items)
    draw = torch.randint(2**62, owner.shape, generator=rng, device=user.device) % free[owner]  # r
    whose = torch.repeat_interleave(torch.arange(len(unseen), device=user.device), seen.counts())
    place = torch.arange(whose.numel(), device=user.device) - seen.indptr[whose]
    unseen_before = whose * (n_items + 1) + seen.indices - place  # ascending within and over users
    skipped = torch.searchsorted(unseen_before, owner * (n_items + 1) + draw, right=True) - seen.indptr[owner]
    return torch.where(unseen[owner] > 0, draw + skipped, draw)
