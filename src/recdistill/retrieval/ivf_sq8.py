"""Inverted lists of items in 8 bits (faiss)."""

from __future__ import annotations

from math import isqrt

from recdistill.errors import InputError
from recdistill.retrieval.base import Array, Index, Searcher, table_of
from recdistill.retrieval.faiss_search import FaissSearcher, library


class IvfSq8(Index):
    """The items by the nearest of some centres, in 8 bits; only the lists of the centres nearest to a query are read.

    Args:
        lists: how many centres; null: four times the root of the number of items.
        probe: lists that are read for a query: more find more and take longer.
    """

    packages = ("faiss",)

    def __init__(self, lists: int | None = None, probe: int = 32):
        for name, value in (("lists", lists), ("probe", probe)):
            if value is not None and value < 1:
                raise InputError(f"{name} must be 1 or more, it is {value}", where=f"index.ivf_sq8.{name}")
        self.lists, self.probe = lists, probe

    def build(self, items: Array) -> Searcher:
        faiss = library()
        table = table_of(items)
        n, dim = table.shape
        lists = min(self.lists or 4 * isqrt(n), n)
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(dim), dim, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        index.cp.min_points_per_centroid = 1  # small catalogues are a matter of taste, not of a warning
        index.cp.seed = 1
        index.train(table)
        index.add(table)
        index.nprobe = min(self.probe, lists)
        return FaissSearcher(index)
