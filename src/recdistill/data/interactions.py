"""The contract between data and everything above it: encoded interactions, and the three parts of a data set."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Schema:
    """What a model must know of the data before it is built.

    Attributes:
        n_users: rows of a user table. Users are numbered from 0 in the training part.
        n_items: rows of an item table: the catalogue, the items of the training part.
        fields: size of each categorical field, for models on feature tables.
        n_outputs: classes of a classification task, 1 otherwise.
        max_length: longest history, for sequence models.
    """

    n_users: int = 0
    n_items: int = 0
    fields: dict[str, int] = field(default_factory=dict)
    n_outputs: int = 1
    max_length: int = 0


@dataclass(frozen=True)
class Interactions:
    """Encoded user-item events.

    Attributes:
        user: int64 ``[N]``, in ``[0, n_users)``.
        item: int64 ``[N]``; ids ``>= n_items`` are cold: they occur outside the training part only,
            so they count as relevant and can't be recommended.
        value: float32 ``[N]`` rating or weight, or None.
        time: int64 ``[N]``, or None.
        n_users, n_items: sizes of the training vocabulary.
    """

    user: Tensor
    item: Tensor
    n_users: int
    n_items: int
    value: Tensor | None = None
    time: Tensor | None = None

    def __len__(self) -> int:
        return self.user.numel()

    @cached_property
    def csr(self) -> Csr:
        """The items of each user, ascending and without duplicates."""
        return Csr.from_pairs(self.user, self.item, self.n_users)


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
        indptr = torch.zeros(n_users + 1, dtype=torch.int64)
        torch.cumsum(counts, 0, out=indptr[1:])
        return cls(indptr, key % width)

    def counts(self) -> Tensor:
        """int64 ``[n_users]``: how many items each user has."""
        return self.indptr.diff()

    def rows(self, users: Tensor) -> tuple[Tensor, Tensor]:
        """The pairs of the given users: ``(position in users [n], item [n])``, both int64, in order."""
        start, count = self.indptr[users], self.indptr[users + 1] - self.indptr[users]
        position = torch.repeat_interleave(torch.arange(users.numel(), device=users.device), count)
        within = torch.arange(position.numel(), device=users.device) - (count.cumsum(0) - count)[position]
        return position, self.indices[start[position] + within]

    def union(self, other: Csr) -> Csr:
        """The sets of both, by user."""
        n_users = self.indptr.numel() - 1
        users = torch.arange(n_users)
        user = torch.cat(
            [torch.repeat_interleave(users, self.counts()), torch.repeat_interleave(users, other.counts())]
        )
        return Csr.from_pairs(user, torch.cat([self.indices, other.indices]), n_users)

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


@dataclass(frozen=True)
class Dataset:
    """A prepared data set: three parts over one training vocabulary.

    Attributes:
        train, valid, test: the parts. Users of valid and test are all in train; those that are not were
            dropped and counted in ``report``.
        users: original id of each user, str ``[n_users]``.
        items: original id of each item, str ``[n_items + n_cold]``: the catalogue, then the cold items.
        report: plain containers: counts before and after each filter, dropped rows by reason, sizes, warnings.
        manifest: plain containers: hash of each part, cut times, split method, whether the split leaks time.
        fingerprint: hash of content and config.
        titles: a human name for each of ``items``, or None.
    """

    train: Interactions
    valid: Interactions
    test: Interactions
    users: np.ndarray[Any, Any]
    items: np.ndarray[Any, Any]
    report: dict[str, Any]
    manifest: dict[str, Any]
    fingerprint: str
    titles: np.ndarray[Any, Any] | None = None

    @property
    def schema(self) -> Schema:
        return Schema(n_users=self.train.n_users, n_items=self.train.n_items)
