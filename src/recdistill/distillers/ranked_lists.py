"""Ranked lists that are looked up at the start of some epochs and not at every step: the student's own above all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from recdistill.distillers.base import Moment, on_list
from recdistill.distillers.signals import chunks, portions

Lists = tuple[Tensor, Tensor]  # items int64 [Q, P], and which places hold an item


class RankedLists(nn.Module):
    """A list of each query, without the training items. Buffers, so that they are in checkpoints.

    Args:
        queries: how many there are.
        length: of a list.
        scored: whether scores of these items are kept, those that they are ranked by or another model's.
        compared: whether it is kept how another list ranks them.

    Attributes:
        items: int32 ``[queries, length]``, best first, -1 behind the end of a list.
        scores: float32 ``[queries, length]``, where they are kept.
        behind: int32 ``[queries, length]``, where it is kept (gloo shares no int16); see :func:`places_behind`.
    """

    items: Tensor
    scores: Tensor
    behind: Tensor

    def __init__(self, queries: int, length: int, scored: bool = False, compared: bool = False):
        super().__init__()
        self.register_buffer("items", torch.full((queries, length), -1, dtype=torch.int32))
        if scored:
            self.register_buffer("scores", torch.zeros(queries, length))
        if compared:
            self.register_buffer("behind", torch.zeros(queries, length, dtype=torch.int32))

    def refresh(
        self,
        rank: Callable[[Tensor], tuple[Tensor, Tensor]],
        n_items: int,
        other: Callable[[Tensor], Any] | None = None,
    ) -> None:
        """Writes what ``rank`` gives for queries int64 ``[Q]``: items and scores as of
        :meth:`~recdistill.distillers.base.ListView.top_items`, out of ``n_items``.

        Args:
            other: gives the view of the model whose scores are kept, for queries; None to keep those of ``rank``.
        """
        for part in portions(len(self.items), n_items, device=self.items.device.type):
            queries = part.to(self.items.device)
            items, scores = rank(queries)
            self.items[queries] = items.int().masked_fill(~on_list(scores), -1)
            if hasattr(self, "scores"):
                self.scores[queries] = scores if other is None else other(queries).scores(items)

    def compare(self, other: RankedLists) -> None:
        """Writes how the other lists of the same queries rank these items: once a look, since a query is asked for more
        often than that."""
        for part in chunks(len(self.items), 1024):
            queries = part.to(self.items.device)
            self.behind[queries] = places_behind(self.of(queries), other.of(queries)).int()

    @staticmethod
    def due(moment: Moment, every: int) -> bool:
        """Whether it is time for a look: every few epochs, or in each where the scores are of a teacher that learns."""
        return moment.teacher_changes or moment.epoch % every == 0

    def of(self, queries: Tensor) -> Lists:
        """The lists ``[Q, length]``, int64, and which of their places hold an item, bool."""
        items = self.items[queries].long()
        return items.clamp(min=0), items >= 0


def places_behind(mine: Lists, other: Lists) -> Tensor:
    """The rank in the other list less that in mine, of the places of mine: ``[Q, P]``. Ranks begin at 1; what is not on
    a list of length P has rank P + 1."""
    items, _ = mine
    return rank_in(items, *other) - torch.arange(1, items.shape[1] + 1, device=items.device)


def catalogue_size(view: Callable[[Tensor], Any], device: torch.device) -> int:
    """How many items a model's answers are about."""
    return int(view(torch.zeros(1, dtype=torch.int64, device=device)).n_items)


def rank_in(items: Tensor, lists: Tensor, listed: Tensor) -> Tensor:
    """The rank of each item ``[Q, K]`` in its row's list ``[Q, P]``, from 1; P + 1 where it is not on it.

    Args:
        listed: bool ``[Q, P]``, which places of the lists hold an item.
    """
    by_id, order = lists.masked_fill(~listed, -1).sort(-1)
    at = torch.searchsorted(by_id, items.contiguous()).clamp(max=lists.shape[1] - 1)
    return torch.where(by_id.gather(1, at) == items, order.gather(1, at) + 1, lists.shape[1] + 1)
