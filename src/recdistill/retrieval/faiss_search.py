"""What the indexes of faiss share. Importing this module imports nothing of it."""

from __future__ import annotations

import logging
from typing import Any

from recdistill.retrieval.base import Array, Lists, Searcher, ordered, queries_of


def library() -> Any:
    """faiss, which tells at import which of its builds it tries, and is asked not to."""
    logging.getLogger("faiss").setLevel(logging.WARNING)
    import faiss

    return faiss


class FaissSearcher(Searcher):
    """Args:
    index: of faiss, by inner product, filled.
    """

    def __init__(self, index: Any):
        self.index = index
        self.shape, self.nbytes = (index.ntotal, index.d), len(library().serialize_index(index))

    def search(self, queries: Array, k: int) -> Lists:
        scores, items = self.index.search(queries_of(queries, self.shape[1]), min(k, self.shape[0]))
        return ordered(items, scores, k)
