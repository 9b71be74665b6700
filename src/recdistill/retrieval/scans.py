"""Exact scans with NumPy alone: what the compiled ones answer, item by item, some times slower."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recdistill.retrieval.base import Array, Lists, empty_lists, ordered

BLOCK = 16384
EXACT_IN_FLOAT32 = 1040  # 127 · 127 · d stays below 2^24


def scan(table: Array, queries: Array, k: int) -> Lists:
    """The best ``k`` rows of a float32 table ``[n, d]`` by their dot products with float32 ``[B, d]``."""
    return _scan(len(table), len(queries), k, lambda rows: np.matmul(queries, table[rows].T))


def scan_codes(codes: Array, scale: Array, queries: Array, k: int) -> Lists:
    """The same of int8 codes ``[n, d]``, each row with its scale, by int8 queries; the dot products are exact."""
    wide = np.float32 if codes.shape[1] <= EXACT_IN_FLOAT32 else np.float64
    wanted = queries.astype(wide)
    return _scan(len(codes), len(queries), k, lambda rows: np.matmul(wanted, codes[rows].astype(wide).T)
                 .astype(np.float32) * scale[rows])  # fmt: skip


def _scan(n: int, n_queries: int, k: int, scores_of: Callable[[slice], Array]) -> Lists:
    found = empty_lists(n_queries, k)
    for start in range(0, n, BLOCK):
        scores = scores_of(slice(start, start + BLOCK))
        better = scores > found.scores[:, -1:]  # an equal score of a later item changes nothing
        for row in np.flatnonzero(better.any(1)):
            at = np.flatnonzero(better[row])
            items = np.concatenate([found.items[row], at + start])[None]
            best = ordered(items, np.concatenate([found.scores[row], scores[row, at]])[None], k)
            found.items[row], found.scores[row] = best.items[0], best.scores[0]
    return found
