"""What each user did, in the order of time: what histories are cut from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.interactions import Interactions
from recdistill.errors import InputError

TIE_SEED = 0x71E


@dataclass(frozen=True)
class Timeline:
    """The events of each user, the oldest first; those of user ``u`` are ``item[indptr[u]:indptr[u + 1]]``.

    An event is named by its place in ``item``, its *row*. Items that training lacks are left out.

    Events of one user at one time are in a random order that is always the same. The prepared data have them by item
    id, and ids often tell of age or genre: "the next one has a larger id" would be a pattern to learn, in no way how
    the user went about it.

    Attributes:
        indptr: int64 ``[n_users + n_cold_users + 1]``.
        item: int64 ``[N]``.
        n_items: size of the catalogue, and what stands behind the end of a history.
        labelled: bool ``[N]``, the events that a student may learn to foresee; None for all. All are read.
    """

    indptr: Tensor
    item: Tensor
    n_items: int
    labelled: Tensor | None = None

    @classmethod
    def of(cls, *parts: Interactions) -> Timeline:
        """The events of some parts of a data set. Of equal times, those of an earlier argument come first.

        Raises:
            InputError: there are no times, or all are the same.
        """
        rng = torch.Generator().manual_seed(TIE_SEED)
        drawn = [(part, torch.randperm(len(part), generator=rng)) for part in parts]
        user, item = (torch.cat([getattr(part, side)[order] for part, order in drawn]) for side in ("user", "item"))
        time = torch.cat([_times(part)[order] for part, order in drawn])
        if len(time) > 1 and bool((time == time[0]).all()):
            raise _no_order("all times are the same")
        n_items = parts[0].n_items
        order = time.argsort(stable=True)
        order = order[user[order].argsort(stable=True)]
        order = order[item[order] < n_items]
        n_users = max(part.n_users + part.n_cold_users for part in parts)
        counts = torch.bincount(user[order], minlength=n_users)
        first, labelled = parts[0].labelled, None
        if first is not None and len(parts) == 1:
            labelled = first[drawn[0][1]][order]
        return cls(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), item[order], n_items, labelled)

    def to(self, device: torch.device) -> Timeline:
        labelled = None if self.labelled is None else self.labelled.to(device)
        return Timeline(self.indptr.to(device), self.item.to(device), self.n_items, labelled)

    def __len__(self) -> int:
        return self.item.numel()

    def next_item(self, rows: Tensor) -> Tensor:
        """What a student may know to come after each event, which must not be the last of all: -1 for an event without
        a label. Whether it is of the same user is not looked at."""
        item = self.item[rows + 1]
        return item if self.labelled is None else torch.where(self.labelled[rows + 1], item, -1)

    def users(self, rows: Tensor) -> Tensor:
        """Whose events these are, int64 in the shape of ``rows``."""
        return torch.searchsorted(self.indptr, rows, right=True) - 1

    def upto(self, rows: Tensor, length: int) -> Tensor:
        """The history that ends with each event, that event included.

        Args:
            rows: int64 ``[Q]``, rows of events.
            length: of the longest history; older items are left out.

        Returns:
            int64 ``[Q, L]``, ``n_items`` behind the end; ``L`` is that of the longest.
        """
        return self.between(self.indptr[self.users(rows)], rows + 1, length)

    def had(self, rows: Tensor) -> Csr:
        """All items that the user of each event had by then, that event included, in the order of time."""
        first = self.indptr[self.users(rows)]
        count = rows + 1 - first
        indptr = torch.cat([count.new_zeros(1), count.cumsum(0)])
        row = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), count)
        return Csr(indptr, self.item[first[row] + torch.arange(len(row), device=rows.device) - indptr[row]])

    def last(self, users: Tensor, length: int) -> Tensor:
        """The whole history of each user, int64 ``[B, L]``, as :meth:`upto`; of one without events, padding alone."""
        return self.between(self.indptr[users], self.indptr[users + 1], length)

    def between(self, first: Tensor, stop: Tensor, length: int) -> Tensor:
        """The items of the events from ``first`` up to, without, ``stop``: int64 ``[B, L]`` of rows ``[B]`` of one user
        each, as :meth:`upto`."""
        first = torch.maximum(first, stop - length)
        count = stop - first
        width = max(int(count.max()), 1) if len(count) else 1
        place = torch.arange(width, device=first.device)
        inside = place < count.unsqueeze(1)
        at = torch.where(inside, first.unsqueeze(1) + place, 0)
        return torch.where(inside, self.item[at], self.n_items) if len(self) else torch.full_like(at, self.n_items)


def _times(part: Interactions) -> Tensor:
    if part.time is None:
        raise _no_order("there are none")
    return part.time


def _no_order(why: str) -> InputError:
    return InputError(
        "the sequence task needs times",
        where="data.time",
        why=why,
        fix="name a column of times where the config has a key for it: data.time=COLUMN; or task=ranking",
    )
