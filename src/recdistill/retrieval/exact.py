"""The table itself, scanned in float32."""

from __future__ import annotations

import importlib.util

from recdistill.retrieval import scans
from recdistill.retrieval.base import Array, Index, Lists, Searcher, queries_of, table_of


def compiles() -> bool:
    """Whether numba is there to compile the scans."""
    return importlib.util.find_spec("numba") is not None


class Exact(Index):
    """All dot products, in float32. Compiled where numba is installed (extra ``index``), else by NumPy."""

    def build(self, items: Array) -> Searcher:
        return ExactSearcher(table_of(items))


class ExactSearcher(Searcher):
    """Args:
    table: float32 ``[n, d]``.
    """

    def __init__(self, table: Array):
        self.table = table
        self.shape, self.nbytes = table.shape, table.nbytes

    def search(self, queries: Array, k: int) -> Lists:
        queries = queries_of(queries, self.shape[1])
        if not compiles():
            return scans.scan(self.table, queries, k)
        from recdistill.retrieval import kernels

        return kernels.scan(self.table, queries, k)
