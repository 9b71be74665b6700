"""Exact scans compiled by numba: one pass over the table, the k best kept at hand, no score written to memory.

A block of rows is scored into a buffer that stays in the cache, and looked through only where its largest score is
above the k-th best so far. Several queries share the pass. Importing this module imports numba.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numba
import numpy as np

from recdistill.retrieval.base import Array, Lists, empty_lists

BLOCK = 512
# All but "ninf": an empty place of a list is -inf. Tables and queries are finite (`table_of`, `queries_of`).
FAST = {"reassoc", "contract", "arcp", "nsz", "nnan"}
compiled = numba.njit(boundscheck=False, nogil=True, fastmath=FAST)


@compiled
def keep(scores: Array, count: int, start: int, best: Array, ids: Array) -> None:
    """Puts the scores of rows ``start``... among the best, where they belong; an equal score of a later row does not
    displace an earlier one."""
    largest = np.float32(-np.inf)
    for row in range(count):
        largest = max(largest, scores[row])
    last = len(best) - 1
    if largest <= best[last]:
        return
    for row in range(count):
        score = scores[row]
        if score > best[last]:
            place = last
            while place > 0 and best[place - 1] < score:
                best[place], ids[place] = best[place - 1], ids[place - 1]
                place -= 1
            best[place], ids[place] = score, start + row


@lru_cache(maxsize=16)
def _scan(dim: int) -> Callable[..., Any]:
    """A scan of vectors of one length: the compiler unrolls a dot product whose length it knows."""

    @compiled
    def scan_rows(table: Array, queries: Array, best: Array, ids: Array) -> None:
        scores = np.empty(BLOCK, np.float32)
        for start in range(0, len(table), BLOCK):
            count = min(BLOCK, len(table) - start)
            for query in range(len(queries)):
                for row in range(count):
                    total = np.float32(0)
                    for at in range(dim):
                        total += table[start + row, at] * queries[query, at]
                    scores[row] = total
                keep(scores, count, start, best[query], ids[query])

    return scan_rows


@lru_cache(maxsize=16)
def _scan_codes(dim: int) -> Callable[..., Any]:
    @compiled
    def scan_rows(codes: Array, scale: Array, queries: Array, best: Array, ids: Array) -> None:
        scores = np.empty(BLOCK, np.float32)
        for start in range(0, len(codes), BLOCK):
            count = min(BLOCK, len(codes) - start)
            for query in range(len(queries)):
                for row in range(count):
                    total = np.int32(0)
                    for at in range(dim):
                        total += np.int32(codes[start + row, at]) * np.int32(queries[query, at])
                    scores[row] = np.float32(total) * scale[start + row]
                keep(scores, count, start, best[query], ids[query])

    return scan_rows


def scan(table: Array, queries: Array, k: int) -> Lists:
    """See :func:`recdistill.retrieval.scans.scan`."""
    found = empty_lists(len(queries), k)
    _scan(table.shape[1])(table, queries, found.scores, found.items)
    return found


def scan_codes(codes: Array, scale: Array, queries: Array, k: int) -> Lists:
    """See :func:`recdistill.retrieval.scans.scan_codes`."""
    found = empty_lists(len(queries), k)
    _scan_codes(codes.shape[1])(codes, scale, queries, found.scores, found.items)
    return found
