"""What a re-ranking is: a pass over the candidates of each user, which gives them another order.

A list is in order, and its scores fall: after a pass that chooses by more than scores, the first place has the largest
score of the list, the second the next one. So passes follow each other as compressions do, and each sees the order that
the one before it has made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.errors import InputError
from recdistill.evaluation.topk import PAD, Scorer, masked, raise_on_nan, top_k

By = Literal["content", "categories", "history"]
DIM = 512  # of the vectors that stand for who had an item
NUMBERS = 2**24  # held at a time


class Lists(NamedTuple):
    """Items int64 ``[B, N]``, the best first, padded with -1; scores float32 ``[B, N]``, falling, padded with -inf."""

    items: Tensor
    scores: Tensor


@dataclass(frozen=True)
class Shelf:
    """What is known of the items of the catalogue.

    Attributes:
        ids: str ``[I]``.
        train: items of each training user.
        categories: those of each item, or None.
        vectors: float ``[I, d]`` by what they are made of, or None; NaN where an item has none.
        age: days before the last event of training at which each item was first seen, float64 ``[I]``, or None.
    """

    ids: np.ndarray[Any, Any]
    train: Csr
    categories: Csr | None = None
    vectors: Tensor | None = None
    age: Tensor | None = None

    @property
    def n_items(self) -> int:
        return len(self.ids)

    @cached_property
    def popularity(self) -> Tensor:
        """float32 ``[I]``: training users of each item."""
        return torch.bincount(self.train.indices, minlength=self.n_items)[: self.n_items].float()

    @cached_property
    def members(self) -> Tensor:
        """bool ``[I, C]``: the categories of each item.

        Raises:
            InputError: the data have none.
        """
        if self.categories is None:
            raise InputError("the items have no categories", where="rerank",
                             fix="data whose items have a categorical or a set-valued feature")  # fmt: skip
        item, code = self.categories.rows(torch.arange(self.n_items))
        table = torch.zeros(self.n_items, int(code.max()) + 1 if len(code) else 1, dtype=torch.bool)
        table[item, code] = True
        return table

    def unit(self, by: By | None) -> Tensor:
        """float32 ``[I, d]``, of length 1, or 0 where nothing is known of an item: whose dot products say how alike two
        items are.

        Args:
            by: content, the items' first vector; categories; history, who had them in training, projected at random to
                512 numbers where there are more users; None: the first that there is.

        Raises:
            InputError: the data have no such thing.
        """
        if by is None:
            by = "content" if self.vectors is not None else "categories" if self.categories is not None else "history"
        if by == "content":
            if self.vectors is None:
                raise InputError(
                    "the items have no vectors", where="rerank", fix="by: categories or history; or encode=minilm"
                )
            rows = self.vectors[: self.n_items].float()
        else:
            rows = self.members.float() if by == "categories" else self._history()
        unit = torch.nn.functional.normalize(rows, dim=1)
        return unit.masked_fill(~unit.isfinite().all(1, keepdim=True), 0)

    def _history(self) -> Tensor:
        n_users = len(self.train.indptr) - 1
        rng = torch.Generator().manual_seed(0)
        of_users = torch.randn(n_users, DIM, generator=rng) if n_users > DIM else torch.eye(n_users)
        user, item = self.train.rows(torch.arange(n_users))
        inside = item < self.n_items
        rows = torch.zeros(self.n_items, of_users.shape[1])
        for part in torch.split(inside.nonzero().flatten(), NUMBERS // DIM):
            rows.index_add_(0, item[part], of_users[user[part]])
        return rows


class Reranker:
    """Base of all passes. Every argument of a subclass is a key of its YAML under ``conf/rerank``.

    Attributes:
        candidates: how many of the best items a pass needs to choose from.
        always: int64, items that are candidates whatever their scores; known after :meth:`bind`.
    """

    candidates: int = 100

    def __init__(self) -> None:
        self.always = torch.zeros(0, dtype=torch.int64)

    def bind(self, shelf: Shelf, where: str) -> None:
        """Takes what it needs of the items.

        Args:
            where: the pass's key in the config.

        Raises:
            InputError: the data lack it.
        """

    def __call__(self, lists: Lists, k: int) -> Lists:
        """Another order, of which the first ``k`` count; items may be left out."""
        raise NotImplementedError


def relevance(lists: Lists) -> Tensor:
    """The scores between 0, the last candidate of a user, and 1, the first; -inf where there is none."""
    there = lists.items != PAD
    low = lists.scores.masked_fill(~there, torch.inf).amin(1, keepdim=True)
    span = (lists.scores[:, :1] - low).nan_to_num(posinf=0.0, neginf=0.0)
    share = (lists.scores - low) / span.where(span > 0, 1.0)
    return share.masked_fill(~there, -torch.inf)


def by_value(lists: Lists, values: Tensor) -> Lists:
    """The candidates in the order of new scores; equal ones as they were."""
    values = values.masked_fill(lists.items == PAD, -torch.inf)
    scores, order = values.sort(dim=1, descending=True, stable=True)
    return Lists(lists.items.gather(1, order), scores)


def in_order(lists: Lists, chosen: Tensor) -> Lists:
    """The candidates at the places ``chosen``, int64 ``[B, m]``, first, and then the others as they were. A place keeps
    its score."""
    n = lists.items.shape[1]
    key = torch.arange(n, 2 * n).expand(len(chosen), -1).clone()
    key.scatter_(1, chosen, torch.arange(chosen.shape[1]).expand(len(chosen), -1))
    key += 4 * n * (lists.items == PAD)
    return Lists(lists.items.gather(1, key.argsort(dim=1)), lists.scores)


class Reranking:
    """Some passes, one after the other.

    Args:
        passes: that were bound.
        n_items: size of the catalogue.
    """

    def __init__(self, passes: Sequence[Reranker], n_items: int):
        self.passes, self.n_items = list(passes), n_items

    @torch.inference_mode()
    def lists(self, scores: Tensor, k: int) -> Lists:
        """The lists of ``k`` items from scores ``[B, I]``, -inf where an item must not be shown."""
        items, values = top_k(scores, min(max(k, *(one.candidates for one in self.passes)), self.n_items))
        raise_on_nan(values, items, torch.arange(len(items)), "the re-ranked model")
        lists = self._with_always(Lists(items, values), scores)
        for one in self.passes:
            lists = one(lists, k)
        short = k - lists.items.shape[1]
        if short > 0:
            pad = torch.nn.functional.pad
            lists = Lists(pad(lists.items, (0, short), value=PAD), pad(lists.scores, (0, short), value=-torch.inf))
        return Lists(lists.items[:, :k], lists.scores[:, :k])

    def _with_always(self, lists: Lists, scores: Tensor) -> Lists:
        wanted = torch.unique(torch.cat([one.always for one in self.passes]))
        if not len(wanted):
            return lists
        new = scores[:, wanted]
        there = (lists.items[:, :, None] == wanted).any(1) | (new == -torch.inf)
        items = wanted.expand(len(new), -1).masked_fill(there, PAD)
        together = Lists(
            torch.cat([lists.items, items], 1), torch.cat([lists.scores, new.masked_fill(there, -torch.inf)], 1)
        )
        return by_value(together, together.scores)

    def scorer(self, score: Scorer, seen: Csr, k: int) -> Scorer:
        """A function from users to scores whose best ``k`` are the lists, in their order; the others are at -inf."""

        def reranked(users: Tensor) -> Tensor:
            lists = self.lists(masked(score(users), users, seen), k)
            scores = torch.full((len(users), self.n_items + 1), -torch.inf)
            places = -torch.arange(k, dtype=torch.float32).expand(len(users), -1)
            scores.scatter_(1, lists.items.where(lists.items != PAD, self.n_items), places)
            return scores[:, : self.n_items]

        return reranked


def chunked(lists: Lists, width: int) -> list[Lists]:
    """The lists of so many users at a time that ``width`` numbers for each candidate can be held."""
    size = max(1, NUMBERS // max(1, lists.items.shape[1] * width))
    return [Lists(*part) for part in zip(torch.split(lists.items, size), torch.split(lists.scores, size), strict=True)]


def share(name: str, value: float, where: str, top: float = 1.0) -> float:
    """A setting between 0 and ``top``.

    Raises:
        InputError: it is not.
    """
    if not 0 <= value <= top:
        raise InputError(f"{name} must be between 0 and {top:g}, it is {value}", where=f"rerank.{where}.{name}")
    return float(value)
