"""Less of what everybody has."""

from __future__ import annotations

from recdistill.rerank.base import Lists, Reranker, Shelf, by_value, relevance, share


class Popularity(Reranker):
    """Relevance − weight · log(1 + users of the item) / log(1 + those of the most popular one).

    Source: Abdollahpouri, Burke and Mobasher, FLAIRS 2019, for the trade; the logarithm as in the novelty of
    docs/evaluation.md.

    Args:
        weight: of the correction, between 0 and 10; relevance is between 0 and 1 over a user's candidates.
        candidates: how many of the best items are chosen from.
    """

    def __init__(self, weight: float = 0.2, candidates: int = 100):
        super().__init__()
        self.weight, self.candidates = share("weight", weight, "popularity", top=10), candidates

    def bind(self, shelf: Shelf, where: str) -> None:  # noqa: ARG002
        self.logs = shelf.popularity.log1p() / shelf.popularity.max().log1p().clamp(min=1e-12)

    def __call__(self, lists: Lists, k: int) -> Lists:  # noqa: ARG002
        return by_value(lists, relevance(lists) - self.weight * self.logs[lists.items.clamp(min=0)])
