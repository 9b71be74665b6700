"""Determinantal point process: the list whose items span most, weighed by their relevance."""

from __future__ import annotations

import torch
from torch import Tensor

from recdistill.evaluation.topk import PAD
from recdistill.rerank.base import By, Lists, Reranker, Shelf, chunked, in_order, relevance, share

LAST, NOTHING = -1e30, 1e-9


class DPP(Reranker):
    """Greedy MAP of a determinantal point process: the next item makes the determinant of the list's kernel largest.
    The kernel of two items is q_i · cosine · q_j, with q = exp(α · relevance), α = θ / (2 (1 − θ)). An item that adds
    nothing to what is in the list comes after those that do.

    Source: Chen, Zhang and Zhou, Fast greedy MAP inference for determinantal point process, NeurIPS 2018.

    Args:
        weight: θ, below 1; 0 is for variety alone.
        by: what items are alike by, see :meth:`~recdistill.rerank.base.Shelf.unit`.
        candidates: how many of the best items are chosen from.
    """

    def __init__(self, weight: float = 0.8, by: By | None = None, candidates: int = 100):
        super().__init__()
        self.weight, self.by, self.candidates = share("weight", weight, "dpp", top=0.999), by, candidates

    def bind(self, shelf: Shelf, where: str) -> None:  # noqa: ARG002
        self.unit = shelf.unit(self.by)

    def __call__(self, lists: Lists, k: int) -> Lists:
        parts = [in_order(part, self._choose(part, k)) for part in chunked(lists, 2 * self.unit.shape[1] + 2 * k)]
        return Lists(*(torch.cat(side) for side in zip(*parts, strict=True))) if parts else lists

    def _choose(self, lists: Lists, k: int) -> Tensor:
        there = lists.items != PAD
        quality = torch.exp(self.weight / (2 * (1 - self.weight)) * relevance(lists).double())
        vectors = self.unit[lists.items.clamp(min=0)].double()  # [B, N, d]
        n_lists, n = there.shape
        left = quality.square()  # what each would add: the square of its distance from what the list spans
        least = NOTHING * left
        known = torch.zeros(n_lists, n, 0, dtype=torch.float64)  # Cholesky rows, one number a chosen item
        taken = torch.zeros_like(there)
        by_place = LAST / 2 - torch.arange(n, dtype=torch.float64) * 1e20  # of those that add nothing, as they were
        chosen = []
        for _ in range(min(k, n)):
            value = left.where(left > least, by_place)
            pick = value.masked_fill(~there, 2 * LAST).masked_fill(taken, -torch.inf).argmax(1, keepdim=True)
            taken.scatter_(1, pick, True)
            chosen.append(pick)
            at = pick[:, :, None]
            last = vectors.gather(1, at.expand(-1, -1, vectors.shape[2]))
            kernel = (vectors * last).sum(2) * quality * quality.gather(1, pick)
            own = known.gather(1, at.expand(-1, -1, known.shape[2]))
            added = left.gather(1, pick)
            scale = added.clamp(min=1e-300).rsqrt().where(added > least.gather(1, pick), 0.0)
            row = (kernel - (known * own).sum(2)) * scale
            known = torch.cat([known, row[:, :, None]], 2)
            left = (left - row.square()).where(~taken, 0.0)
        return torch.cat(chosen, 1)
