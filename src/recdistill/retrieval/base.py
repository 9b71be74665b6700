"""What an index is: settings that are built over items' vectors, and then searched by vectors of queries.

The order of a list is that of the evaluation: by score, which is the dot product, equal scores by item.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recdistill.errors import InputError

Array = NDArray[Any]
LINE = 64  # bytes
PAD = -1
"""Fills the places of a list for which there is no item."""


class Lists(NamedTuple):
    """Items int64 ``[B, k]``, the best first, padded with -1; their scores float32 ``[B, k]``, padded with -inf."""

    items: Array
    scores: Array


class Searcher:
    """An index that was built.

    Attributes:
        shape: items and length of a vector.
        nbytes: what it holds in memory.
    """

    shape: tuple[int, int]
    nbytes: int

    def search(self, queries: Array, k: int) -> Lists:
        """The best ``k`` items of each query.

        Args:
            queries: float32 ``[B, d]``.
        """
        raise NotImplementedError


class Index:
    """Base of all indexes. Every argument of a subclass is a key of its YAML under ``conf/index``.

    Attributes:
        packages: that the extra ``index`` brings and the index can't do without.
    """

    packages: Sequence[str] = ()

    def require(self, where: str) -> None:
        """Raises InputError where a package is missing, before anything is trained.

        Args:
            where: the index's key in the config.
        """
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise InputError(
                f"{where} needs {' and '.join(missing)}", where=where, fix="pip install 'recdistill[index]'"
            )

    def build(self, items: Array) -> Searcher:
        """Takes in the items' vectors, float32 ``[n, d]``.

        Raises:
            InputError: there are none, or a number of them is not finite.
        """
        raise NotImplementedError


def aligned(shape: tuple[int, ...], dtype: Any) -> Array:
    """An empty array that begins at a cache line: a scan whose every vector lies across two takes a quarter longer."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = np.empty(size + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    table: Array = room[start : start + size].view(dtype).reshape(shape)
    return table


def table_of(items: Array) -> Array:
    """The vectors as a contiguous float32 table ``[n, d]``, checked."""
    if np.ndim(items) != 2 or not np.size(items):
        raise InputError(f"an index is built over vectors [n, d], these are {list(np.shape(items))}", where="index")
    table = aligned(items.shape, np.float32)
    table[...] = items
    if not np.isfinite(table).all():
        row = int((~np.isfinite(table).all(1)).argmax())
        raise InputError(f"the vector of item {row} is not finite, so that it has no place in an index", where="index")
    return table


def queries_of(queries: Array, dim: int) -> Array:
    """The queries as a contiguous float32 table ``[B, d]``, checked."""
    found = np.ascontiguousarray(queries, dtype=np.float32)
    if found.ndim != 2 or found.shape[1] != dim:
        raise InputError(f"queries are vectors [B, {dim}], these are {list(found.shape)}", where="index")
    if not np.isfinite(found).all():
        raise InputError("a query is not finite", where="index", why="the model that made it has diverged")
    return found


def empty_lists(n: int, k: int) -> Lists:
    return Lists(np.full((n, k), PAD, dtype=np.int64), np.full((n, k), -np.inf, dtype=np.float32))


def ordered(items: Array, scores: Array, k: int) -> Lists:
    """The first ``k`` of candidates ``[B, m]`` in the order of a list; those that are :data:`PAD` come last."""
    scores = np.where(items == PAD, -np.inf, scores).astype(np.float32)
    order = np.lexsort((items, -scores), axis=1)[:, :k]
    found = Lists(np.take_along_axis(items, order, 1).astype(np.int64), np.take_along_axis(scores, order, 1))
    if (short := k - found.items.shape[1]) <= 0:
        return found
    more = empty_lists(len(items), short)
    return Lists(np.concatenate([found.items, more.items], 1), np.concatenate([found.scores, more.scores], 1))


def unseen(searcher: Searcher, queries: Array, k: int, seen: Sequence[Array]) -> Lists:
    """The best ``k`` items of each query that are not among its own ``seen`` ones, int ``[S]`` each.

    An index finds the best of all items: it is asked for as many more as the longest of ``seen`` has, and these are
    taken out of the lists.
    """
    longest = max((len(own) for own in seen), default=0)
    items, scores = searcher.search(queries, min(k + longest, searcher.shape[0]))
    table = np.full((len(items), longest), PAD - 1, dtype=np.int64)
    for row, own in enumerate(seen):
        table[row, : len(own)] = own
    table.sort(axis=1)
    if longest:
        # Rows apart from each other, so that one search looks all of them up.
        step = searcher.shape[0] + 3
        base = np.arange(len(items))[:, None] * step + 2
        keys = (table + base).ravel()
        at = np.searchsorted(keys, (items + base).ravel()).clip(max=len(keys) - 1)
        had = (keys[at] == (items + base).ravel()).reshape(items.shape)
        items = np.where(had, PAD, items)
    return ordered(items, scores, k)
