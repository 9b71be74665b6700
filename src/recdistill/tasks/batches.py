"""Batches, and how an epoch is cut into them.

Everything random in an epoch is drawn once, from a generator seeded by (seed, epoch). A batch is then a slice
of resident tensors, the same on every run, every resume and every number of processes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from recdistill.data.interactions import Interactions
from recdistill.tasks.sampling import Proposal, Sampler, Uniform

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
        step_item: int64 ``[S]``, the items of the whole step, those of all processes.
        query: int64 ``[Q]``, users whose ranking is distilled in this step; ``user`` itself where a sample is a user
            and all have labels.
        weight: this process's share of the step's samples times the number of processes, so that the average
            over processes of weight times local mean is the mean over the whole step. A process for which no
            sample is left takes one at weight 0: its mean stays finite and its gradients are there to
            average.
        query_weight: the same for ``query``.
        seed: for what a loss draws in this step; equal on all processes.
        proposal: the distribution of negatives; None where a sample is a user.
    """

    user: Tensor
    item: Tensor
    negative: Tensor
    step_item: Tensor
    query: Tensor
    weight: float
    query_weight: float
    seed: int
    proposal: Proposal | None


def span(total: int, steps: int, step: int) -> tuple[int, int]:
    """Where one step begins and ends."""
    return total * step // steps, total * (step + 1) // steps


def share(total: int, steps: int, step: int, rank: int, world: int) -> tuple[slice, float]:
    """Where one process's part of one step lies, and its weight (see :class:`RankingBatch`)."""
    first, last = span(total, steps, step)
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
        proposal: the distribution of negatives; None where a sample is a user.
    """

    user: Tensor
    item: Tensor
    negative: Tensor
    query: Tensor
    steps: int
    seed: int
    proposal: Proposal | None = None

    def batch(self, step: int, rank: int = 0, world: int = 1) -> RankingBatch:
        here, weight = share(self.user.numel(), self.steps, step, rank, world)
        there, query_weight = share(self.query.numel(), self.steps, step, rank, world)
        user = self.user[here]
        return RankingBatch(
            user=user,
            item=self.item[here],
            negative=self.negative[here],
            step_item=self.item[slice(*span(self.item.numel(), self.steps, step))],
            query=user if self.query is self.user else self.query[there],
            weight=weight,
            query_weight=query_weight,
            seed=mix(self.seed, step),
            proposal=self.proposal,
        )


def user_epoch(train: Interactions, *, seed: int, epoch: int, batch_size: int) -> RankingEpoch:
    """One pass over the users instead of the interactions, for losses over a user's whole ranking.

    The users of a batch are also those who are distilled in it, so that hard and soft loss share one scoring. Where
    some have no labels, all are distilled, and the others are shared out over the same steps for the hard loss.
    """
    rng = generator(train.user.device, seed, epoch)
    steps = max(1, math.ceil(train.n_users / batch_size))
    order = torch.randperm(train.n_users, generator=rng, device=rng.device)
    users = order
    if train.unlabelled:
        users = enough(order[train.csr.counts()[order] > 0], steps)
    return RankingEpoch(users, order.new_empty(0), order.new_empty(0, 0), order, steps, mix(seed, epoch, 1))


def enough(order: Tensor, steps: int) -> Tensor:
    """The samples ``[N]``, over and over where there are fewer than steps; none of none."""
    return order.repeat(math.ceil(steps / len(order)))[: max(steps, len(order))] if len(order) else order


def ranking_epoch(
    train: Interactions, *, seed: int, epoch: int, batch_size: int, negatives: int, queries: int,
    sampler: Sampler | None = None,
) -> RankingEpoch:  # fmt: skip
    """Shuffles, draws all negatives of the epoch at once and plans which users are distilled when.

    There are as many steps as for all events: where only some have labels, a step has fewer of them.

    Args:
        train: on the device where the batches are wanted.
        batch_size: samples per step over all processes.
        negatives: items drawn for each sample that its user has not seen, 0 for none.
        queries: users distilled per step over all processes, 0 for none.
        sampler: gives the distribution of negatives; uniform by default.
    """
    rng = generator(train.user.device, seed, epoch)
    steps = max(1, math.ceil((len(train) + train.unlabelled) / batch_size))
    order = enough(torch.randperm(len(train), generator=rng, device=rng.device), steps)
    user, item, n = train.user[order], train.item[order], len(order)
    proposal = (sampler or Uniform()).proposal(train)
    negative = proposal.draw_unseen(user, negatives, rng) if negatives else user.new_empty(n, 0)
    rounds = math.ceil(steps * queries / max(train.n_users, 1))
    query = torch.cat(
        [torch.randperm(train.n_users, generator=rng, device=rng.device) for _ in range(rounds)] or [user.new_empty(0)]
    )[: steps * queries]
    return RankingEpoch(user, item, negative, query, steps, mix(seed, epoch, 1), proposal)
