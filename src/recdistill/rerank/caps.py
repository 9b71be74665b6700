"""At most so many items of a category."""

from __future__ import annotations

import torch

from recdistill.errors import InputError
from recdistill.evaluation.topk import PAD
from recdistill.rerank.base import Lists, Reranker, Shelf, in_order


class Caps(Reranker):
    """In the first ``length`` places at most ``most`` items of each category, as far as the candidates go. What is over
    comes after them, in its order. An item of several categories counts in each.

    Args:
        most: items of a category.
        length: of the list that the cap holds for.
        candidates: how many of the best items are chosen from.
    """

    def __init__(self, most: int = 3, length: int = 10, candidates: int = 100):
        super().__init__()
        for name, value in (("most", most), ("length", length)):
            if value < 1:
                raise InputError(f"{name} must be 1 or more, it is {value}", where=f"rerank.caps.{name}")
        self.most, self.length, self.candidates = most, length, candidates

    def bind(self, shelf: Shelf, where: str) -> None:  # noqa: ARG002
        self.members = shelf.members

    def __call__(self, lists: Lists, k: int) -> Lists:  # noqa: ARG002
        n_lists, n = lists.items.shape
        there = lists.items != PAD
        counts = torch.zeros(n_lists, self.members.shape[1], dtype=torch.int32)
        filled = torch.zeros(n_lists, dtype=torch.int64)
        kept = torch.zeros_like(there)
        for place in range(n):
            if bool((filled >= self.length).all()):
                break
            own = self.members[lists.items[:, place].clamp(min=0)]  # [B, C]
            fits = there[:, place] & (filled < self.length) & ~(own & (counts >= self.most)).any(1)
            kept[:, place] = fits
            counts += own & fits[:, None]
            filled += fits
        first = (~kept).to(torch.int8).argsort(dim=1, stable=True)
        return in_order(lists, first)
