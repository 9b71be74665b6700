"""Batches of histories, and how an epoch is cut into them.

Everything random in an epoch is drawn once, from a generator seeded by (seed, epoch), as for
:mod:`recdistill.tasks.batches`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from recdistill.tasks.batches import generator, mix, share
from recdistill.tasks.sampling import Proposal, Sampler
from recdistill.tasks.windows import Sequences

BLOCK = 32  # batches whose sequences are sorted by length together: enough for little padding, few enough to mix


@dataclass(frozen=True)
class SequenceBatch:
    """One step of a sequence model, or one process's share of it.

    Attributes:
        history: int64 ``[B, L]``, items of a user in a row; ``n_items`` behind the end.
        target: int64 ``[B, L]``, the item that comes after each place; -1 behind the end, and where it has no label.
        user: int64 ``[B]``.
        query: int64 ``[Q]``, rows of events whose next item is distilled in this step, all of them places of
            ``history``.
        place: int64 ``[Q]``, where they are among the places ``[B * L]``.
        weight: this process's share of the step's targets times the number of processes, so that the average over
            processes of weight times the mean over local targets is the mean over the whole step. A process for
            which no sequence is left takes one at weight 0: its mean stays finite and its gradients are there to
            average.
        query_weight: the same for ``query``.
        seed: for what a loss draws in this step; equal on all processes.
        proposal: the distribution of negatives; None where the loss has none.
    """

    history: Tensor
    target: Tensor
    user: Tensor
    query: Tensor
    place: Tensor
    weight: float
    query_weight: float
    seed: int
    proposal: Proposal | None


@dataclass(frozen=True)
class SequenceEpoch:
    """One pass over the windows. Its plan is on the CPU, so that cutting a batch waits for no device.

    Attributes:
        train: what is read.
        first, count: int64 ``[W]``, the windows in the order of the batches.
        upto: int64 ``[W + 1]``, places before each window.
        targets: int64 ``[W + 1]``, targets before each window: places, but for those whose next item has no label.
        bounds: ``[steps + 1]``, where each step begins among the windows.
        order: ``[steps]``, which of these is made when.
        queries: how many places are distilled in a step.
        seed: of this epoch.
        proposal: the distribution of negatives; None where the loss has none.
    """

    train: Sequences
    first: Tensor
    count: Tensor
    upto: Tensor
    targets: Tensor
    bounds: list[int]
    order: list[int]
    queries: int
    seed: int
    proposal: Proposal | None = None

    @property
    def steps(self) -> int:
        return len(self.order)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> SequenceBatch:
        """One process's share of a step: sequences in a row, and of the step's queries those in them."""
        begin, end = self.bounds[self.order[step]], self.bounds[self.order[step] + 1]
        here, counts = share(end - begin, 1, 0, rank, world)
        mine = slice(begin + here.start, begin + here.stop)
        seed = mix(self.seed, step)
        width = int(self.count[begin:end].max())
        asked, total = self._asked(begin, end, seed)
        sequence, offset = asked[:, (asked[0] >= mine.start) & (asked[0] < mine.stop)]
        query_weight = world * len(sequence) / max(total, 1) if counts else 0.0
        if total and not query_weight:
            sequence, offset, query_weight = torch.tensor([mine.start]), torch.tensor([0]), 0.0
        history, target, user = self._cut(mine, width)
        own, of_all = (int(self.targets[s.stop] - self.targets[s.start]) for s in (mine, slice(begin, end)))
        device = history.device
        return SequenceBatch(
            history=history,
            target=target,
            user=user,
            query=(self.first[sequence] + offset).to(device),
            place=((sequence - mine.start) * width + offset).to(device),
            weight=world * own / max(of_all, 1) if counts else 0.0,
            query_weight=query_weight,
            seed=seed,
            proposal=self.proposal,
        )

    def _asked(self, begin: int, end: int, seed: int) -> tuple[Tensor, int]:
        """Windows and places in them, int64 ``[2, Q]``, that the whole step distils; and how many these are."""
        upto = self.upto[begin : end + 1]
        total = min(self.queries, int(upto[-1] - upto[0]))
        if not total:
            return torch.empty(2, 0, dtype=torch.int64), 0
        drawn = torch.randperm(int(upto[-1] - upto[0]), generator=generator("cpu", seed))[:total] + upto[0]
        within = torch.searchsorted(upto, drawn, right=True) - 1
        return torch.stack([within + begin, drawn - upto[within]]), total

    def _cut(self, windows: slice, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """Histories, targets and users of some windows."""
        timeline = self.train.timeline
        device = timeline.item.device
        first = self.first[windows].to(device)
        place = torch.arange(width, device=device)
        inside = place < self.count[windows].to(device).unsqueeze(1)
        at = torch.where(inside, first.unsqueeze(1) + place, 0)
        history = torch.where(inside, timeline.item[at], timeline.n_items)
        return history, torch.where(inside, timeline.next_item(at), -1), timeline.users(first)


def sequence_epoch(
    train: Sequences, *, seed: int, epoch: int, batch_size: int, queries: int, sampler: Sampler | None = None
) -> SequenceEpoch:
    """Shuffles the windows, sorts them by length within blocks, cuts steps of as many places each, shuffles these.

    A batch of long histories has fewer of them than one of short ones. With as many of each kind, an event of a short
    history would have the weight in the loss of several of a long one, since a step's loss is a mean.

    Args:
        batch_size: sequences per step over all processes, on average.
        queries: places distilled per step over all processes, 0 for none.
        sampler: gives the distribution of negatives; None for none.
    """
    rng = generator("cpu", seed, epoch)
    n = len(train.first)
    steps = max(1, math.ceil(n / batch_size))
    order = torch.randperm(n, generator=rng)
    block = torch.arange(n) * math.ceil(steps / BLOCK) // n
    # Lengths go up in one block and down in the next: a step on the border of two has no short ones beside long ones.
    length = torch.where(block % 2 == 0, train.count[order], -train.count[order])
    by_length = length.argsort(stable=True)
    order = order[by_length[block[by_length].argsort(stable=True)]]
    count = train.count[order]
    upto = torch.cat([count.new_zeros(1), count.cumsum(0)])
    return SequenceEpoch(
        train=train,
        first=train.first[order],
        count=count,
        upto=upto,
        targets=targets_before(train, order, upto),
        bounds=even_bounds(upto, steps).tolist(),
        order=torch.randperm(steps, generator=rng).tolist(),
        queries=queries,
        seed=mix(seed, epoch, 1),
        proposal=sampler.proposal(train.part) if sampler else None,
    )


def targets_before(train: Sequences, order: Tensor, upto: Tensor) -> Tensor:
    """Targets before each window in an order, int64 ``[W + 1]``; ``upto`` are the places before it."""
    labelled = train.timeline.labelled
    if labelled is None:
        return upto
    before = torch.cat([upto.new_zeros(1), labelled.cpu().cumsum(0)])
    first, last = train.first[order] + 1, train.first[order] + train.count[order]
    return torch.cat([upto.new_zeros(1), (before[last + 1] - before[first]).cumsum(0)])


def even_bounds(upto: Tensor, steps: int) -> Tensor:
    """Where steps begin, int64 ``[steps + 1]``: none is empty, and all have about as many places.

    Args:
        upto: int64 ``[W + 1]``, places before each of ``W`` windows; ``W`` is at least ``steps``.
    """
    number = torch.arange(steps + 1)
    bounds = torch.searchsorted(upto, upto[-1] * number // steps)
    bounds = (bounds - number).cummax(0).values + number
    return torch.minimum(bounds, len(upto) - 1 - steps + number)
