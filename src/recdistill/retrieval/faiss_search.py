"""What the indexes of faiss share. Importing this module imports nothing of it."""

from __future__ import annotations

from typing import Any

from recdistill.retrieval.base import Array, Lists, Searcher, ordered, queries_of


class FaissSearcher(Searcher):
    """Args:
    index: of faiss, by inner product, filled.
    """

    def __init__(self, index: Any):
        import faiss

        self.index = index
        self.shape, self.nbytes = (index.ntotal, index.d), len(faiss.serialize_index(index))

    def search(self, queries: Array, k: int) -> Lists:
        scores, items = self.index.search(queries_of(queries, self.shape[1]), min(k, self.shape[0]))
        return ordered(items, scores, k)
