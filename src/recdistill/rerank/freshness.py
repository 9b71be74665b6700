"""More of what is new."""

from __future__ import annotations

import torch

from recdistill.errors import InputError
from recdistill.rerank.base import Lists, Reranker, Shelf, by_value, relevance, share


class Freshness(Reranker):
    """Relevance + weight · 2^(−age / half_life); the age of an item counts from its first event in training to the last
    event of all.

    Source: Ding and Li, Time weight collaborative filtering, CIKM 2005, for the decay.

    Args:
        weight: of what is new, between 0 and 10; relevance is between 0 and 1 over a user's candidates.
        half_life: days after which half of it is left.
        candidates: how many of the best items are chosen from.
    """

    def __init__(self, weight: float = 0.2, half_life: float = 30.0, candidates: int = 100):
        super().__init__()
        if half_life <= 0:
            raise InputError(f"half_life must be above 0, it is {half_life}", where="rerank.freshness.half_life")
        self.weight, self.half_life = share("weight", weight, "freshness", top=10), half_life
        self.candidates = candidates

    def bind(self, shelf: Shelf, where: str) -> None:
        if shelf.age is None:
            raise InputError("the data have no times, so that no item is newer than another", where=where,
                             fix="leave freshness out")  # fmt: skip
        self.new = torch.exp2(-shelf.age / self.half_life).float()

    def __call__(self, lists: Lists, k: int) -> Lists:  # noqa: ARG002
        return by_value(lists, relevance(lists) + self.weight * self.new[lists.items.clamp(min=0)])
