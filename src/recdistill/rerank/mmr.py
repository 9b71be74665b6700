"""Maximal marginal relevance: relevant, and unlike what is in the list already."""

from __future__ import annotations

import torch
from torch import Tensor

from recdistill.evaluation.topk import PAD
from recdistill.rerank.base import By, Lists, Reranker, Shelf, chunked, in_order, relevance, share

LAST = -1e30  # below every value, above what was chosen


class MMR(Reranker):
    """The next item has the largest λ · relevance − (1 − λ) · likeness to the most alike one in the list.

    Relevance is between 0 and 1 over a user's candidates, likeness a cosine.

    Source: Carbonell and Goldstein, SIGIR 1998.

    Args:
        weight: λ; 1 leaves the order as it is.
        by: what items are alike by, see :meth:`~recdistill.rerank.base.Shelf.unit`.
        candidates: how many of the best items are chosen from.
    """

    def __init__(self, weight: float = 0.8, by: By | None = None, candidates: int = 100):
        super().__init__()
        self.weight, self.by, self.candidates = share("weight", weight, "mmr"), by, candidates

    def bind(self, shelf: Shelf, where: str) -> None:  # noqa: ARG002
        self.unit = shelf.unit(self.by)

    def __call__(self, lists: Lists, k: int) -> Lists:
        parts = [in_order(part, self._choose(part, k)) for part in chunked(lists, self.unit.shape[1])]
        return Lists(*(torch.cat(side) for side in zip(*parts, strict=True))) if parts else lists

    def _choose(self, lists: Lists, k: int) -> Tensor:
        there, value = lists.items != PAD, self.weight * relevance(lists)
        vectors = self.unit[lists.items.clamp(min=0)]  # [B, N, d]
        taken = torch.zeros_like(there)
        alike = torch.full_like(value, -torch.inf)
        chosen = []
        for place in range(min(k, there.shape[1])):
            marginal = value - (1 - self.weight) * alike if place else value
            pick = marginal.masked_fill(~there, LAST).masked_fill(taken, -torch.inf).argmax(1, keepdim=True)
            taken.scatter_(1, pick, True)
            chosen.append(pick)
            last = vectors.gather(1, pick[:, :, None].expand(-1, -1, vectors.shape[2]))  # [B, 1, d]
            alike = torch.maximum(alike, (vectors * last).sum(2))
        return torch.cat(chosen, 1)
