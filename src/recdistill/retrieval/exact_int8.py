"""The table in 8 bits a number, scanned in whole numbers; the short list is scored again in float32."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recdistill.errors import InputError
from recdistill.retrieval import scans
from recdistill.retrieval.base import PAD, Array, Index, Lists, Searcher, aligned, ordered, queries_of, table_of
from recdistill.retrieval.exact import compiles

TOP = 127


class ExactInt8(Index):
    """All dot products, of rows and queries in 8 bits, each with a scale of its own: a quarter of the bytes are read.

    Args:
        rescore: length of the short list that is scored again in float32, in lists asked for. 0: none, and the float32
            table is not kept.
    """

    def __init__(self, rescore: int = 4):
        if rescore < 0:
            raise InputError(f"rescore must be 0 or more, it is {rescore}", where="index.exact_int8.rescore")
        self.rescore = rescore

    def build(self, items: Array) -> Searcher:
        return Int8Searcher(table_of(items), self.rescore)


class Int8Searcher(Searcher):
    """Args:
    table: float32 ``[n, d]``.
    rescore: see :class:`ExactInt8`.
    """

    def __init__(self, table: Array, rescore: int):
        self.shape, self.rescore = table.shape, rescore
        codes, scale = quantised(table)
        self.table = table if rescore else None
        self.scan, held = scan_of(codes, scale)
        self.nbytes = held + scale.nbytes + (table.nbytes if rescore else 0)

    def search(self, queries: Array, k: int) -> Lists:
        queries = queries_of(queries, self.shape[1])
        codes, scale = quantised(queries)
        found = self.scan(codes, min(k * max(self.rescore, 1), max(self.shape[0], k)))
        if self.table is None:
            return Lists(found.items, found.scores * scale[:, None])
        rows = self.table[found.items.clip(min=0)]
        scores = np.matmul(rows, queries[:, :, None])[:, :, 0]
        return ordered(np.where(found.scores == -np.inf, PAD, found.items), scores, k)


def quantised(table: Array) -> tuple[Array, Array]:
    """int8 codes ``[n, d]`` and float32 scales ``[n]``, symmetric by row."""
    scale = np.abs(table).max(1) / np.float32(TOP)
    scale = np.where(scale > 0, scale, np.float32(1)).astype(np.float32)
    codes = aligned(table.shape, np.int8)
    for start in range(0, len(table), 65536):  # whole tables of float32 would be three times as large for a moment
        part = slice(start, start + 65536)
        np.clip(np.rint(table[part] / scale[part, None]), -TOP, TOP, out=codes[part], casting="unsafe")
    return codes, scale


def scan_of(codes: Array, scale: Array) -> tuple[Callable[[Array, int], Lists], int]:
    """From int8 queries and k to lists, in the fastest way that this machine has; and the bytes of its codes."""
    if not compiles():
        return lambda queries, k: scans.scan_codes(codes, scale, queries, k), codes.nbytes
    from recdistill.retrieval import kernels, vnni

    if not vnni.available():
        return lambda queries, k: kernels.scan_codes(codes, scale, queries, k), codes.nbytes
    table, n = vnni.packed(codes), len(codes)
    return lambda queries, k: vnni.scan_packed(table, n, scale, queries, k), table.nbytes
