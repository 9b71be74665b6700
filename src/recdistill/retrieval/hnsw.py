"""A graph of neighbours (faiss)."""

from __future__ import annotations

from recdistill.errors import InputError
from recdistill.retrieval.base import Array, Index, Searcher, table_of
from recdistill.retrieval.faiss_search import FaissSearcher, library


class Hnsw(Index):
    """Each item knows its neighbours; a search walks from item to item towards the query.

    Source: Malkov and Yashunin, TPAMI 2020.

    Args:
        neighbours: of an item: more find more, and take bytes.
        build_width: candidates that are looked at when an item is put in.
        width: candidates that are looked at for a query: more find more and take longer.
    """

    packages = ("faiss",)

    def __init__(self, neighbours: int = 32, build_width: int = 200, width: int = 128):
        for name, value in (("neighbours", neighbours), ("build_width", build_width), ("width", width)):
            if value < 1:
                raise InputError(f"{name} must be 1 or more, it is {value}", where=f"index.hnsw.{name}")
        self.neighbours, self.build_width, self.width = neighbours, build_width, width

    def build(self, items: Array) -> Searcher:
        faiss = library()
        table = table_of(items)
        index = faiss.IndexHNSWFlat(table.shape[1], self.neighbours, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = self.build_width, self.width
        index.add(table)
        return FaissSearcher(index)
