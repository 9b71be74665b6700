"""Windows: what of each user's timeline a sequence model reads at once in training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.interactions import Interactions
from recdistill.errors import InputError
from recdistill.tasks.timeline import Timeline


@dataclass(frozen=True)
class Sequences:
    """A training part as batches are cut from it.

    A *window* is what a model reads of one user at once: places in a row, the next item of each is its target. What
    does not fit in one is read in several, so that every event of a user but the first is a target.

    Attributes:
        part: the events as they are, those that a student may learn from; its ``csr`` is of all events.
        timeline: the same in the order of time.
        first: int64 ``[W]``, row of the first event of each window, on the CPU.
        count: int64 ``[W]``, places in each, on the CPU.
        max_length: most places of a window.
    """

    part: Interactions
    timeline: Timeline
    first: Tensor
    count: Tensor
    max_length: int

    @classmethod
    def of(cls, train: Interactions, device: torch.device, max_length: int, stride: int | None = None) -> Sequences:
        """The training part on ``device``.

        Args:
            stride: places from the start of a window to that of the next; None for ``max_length``. The last window of a
                user ends with the last event, so that it may share places with the one before.

        Raises:
            InputError: there are no times, or nobody has two events.
        """
        timeline = Timeline.of(train)
        first, count = windows(timeline, max_length, stride or max_length)
        if not len(first):
            raise InputError(
                "there is nothing to learn from: no user has two events in the training part",
                where="data",
                fix="choose data with longer histories, or task=ranking",
            )
        labels = train.taught
        moved = replace(labels, user=labels.user.to(device), item=labels.item.to(device))
        moved.__dict__["csr"] = Csr(train.csr.indptr.to(device), train.csr.indices.to(device))
        return cls(moved, timeline.to(device), first, count, max_length)

    def __len__(self) -> int:
        return len(self.timeline)

    @property
    def csr(self) -> Csr:
        """The items of each user."""
        return self.part.csr

    @property
    def n_items(self) -> int:
        return self.part.n_items


def windows(timeline: Timeline, max_length: int, stride: int) -> tuple[Tensor, Tensor]:
    """Row of the first event, and number of places, of each window: int64 ``[W]`` twice; users in their order."""
    places = (timeline.indptr.diff() - 1).clamp(min=0)  # the last event has no next one
    number = torch.where(places > max_length, 1 - (max_length - places) // stride, (places > 0).long())
    user = torch.repeat_interleave(torch.arange(len(places)), number)
    within = torch.arange(len(user)) - (number.cumsum(0) - number)[user]
    start = torch.minimum(within * stride, (places[user] - max_length).clamp(min=0))
    return timeline.indptr[user] + start, (places[user] - start).clamp(max=max_length)
