"""Sets of integers by row: the items of each user, the tags of each item."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Csr:
    """Sets of items by user: those of user ``u`` are ``indices[indptr[u]:indptr[u + 1]]``, ascending.

    Attributes:
        indptr: int64 ``[n_users + 1]``.
        indices: int64 ``[nnz]``.
    """

    indptr: Tensor
    indices: Tensor

    @classmethod
    def from_pairs(cls, user: Tensor, item: Tensor, n_users: int) -> Csr:
        """Args: ``user`` and ``item`` int64 ``[N]``, in any order, duplicates allowed."""
        width = int(item.max()) + 1 if item.numel() else 1
        key = torch.unique(user * width + item)
        counts = torch.bincount(key // width, minlength=n_users)
        indptr = counts.new_zeros(n_users + 1)
        torch.cumsum(counts, 0, out=indptr[1:])
        return cls(indptr, key % width)

    def transposed(self, n_items: int) -> Csr:
        """The users of each item; computed once."""
        if "_transposed" not in self.__dict__:
            user = torch.repeat_interleave(torch.arange(len(self.indptr) - 1, device=self.indptr.device), self.counts())
            self.__dict__["_transposed"] = Csr.from_pairs(self.indices, user, n_items)
        flipped: Csr = self.__dict__["_transposed"]
        return flipped

    def counts(self) -> Tensor:
        """int64 ``[n_users]``: how many items each user has."""
        return self.indptr.diff()

    def owners(self) -> Tensor:
        """int64 ``[nnz]``: whose each index is; in operators that a graph of tensors can hold."""
        starts = torch.zeros(self.indices.shape[0] + 1, dtype=torch.int64, device=self.indptr.device)
        one = torch.ones_like(self.indptr[1:-1])
        return starts.scatter_add(0, self.indptr[1:-1], one)[:-1].cumsum(0)

    def rows(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """The pairs of the given users: ``(position in users [n], item [n])``, both int64, in order."""
        start, count = self.indptr[users], self.indptr[users + 1] - self.indptr[users]
        position = torch.repeat_interleave(torch.arange(users.numel(), device=users.device), count)
        within = torch.arange(position.numel(), device=users.device) - (count.cumsum(0) - count)[position]
        return position, self.indices[start[position] + within]

    def union(self, other: Csr) -> Csr:
        """The sets of both, by user; users that only one of them has come last."""
        counts = self.counts(), other.counts()
        user = torch.cat([torch.repeat_interleave(torch.arange(len(count)), count) for count in counts])
        return Csr.from_pairs(user, torch.cat([self.indices, other.indices]), max(map(len, counts)))

    def take(self, users: Tensor) -> Csr:
        """The sets of some users, int64 ``[B]``, in their order."""
        count = self.counts()[users]
        indptr = torch.cat([count.new_zeros(1), count.cumsum(0)])
        return Csr(indptr, self.rows(users)[1])

    def contains(self, users: Tensor, items: Tensor) -> Tensor:
        """bool, shape of ``users``: whether ``items[k]`` is in the set of ``users[k]``."""
        if not self.indices.numel():
            return torch.zeros_like(users, dtype=torch.bool)
        at = torch.searchsorted(self._keys, users * self._width + items).clamp_(max=self._keys.numel() - 1)
        # An item beyond the width would alias the next user's first items.
        return (self._keys[at] == users * self._width + items) & (items < self._width)

    @cached_property
    def _width(self) -> int:
        return int(self.indices.max()) + 1

    @cached_property
    def _keys(self) -> Tensor:
        user = torch.repeat_interleave(torch.arange(self.indptr.numel() - 1, device=self.indptr.device), self.counts())
        return user * self._width + self.indices


def smallest_integer(largest: int) -> torch.dtype:
    """The smallest type for numbers from 0 to ``largest``, to store them in."""
    kinds = (torch.uint8, torch.int16, torch.int32, torch.int64)
    return next(kind for kind in kinds if largest <= torch.iinfo(kind).max)
