"""The items' vectors with NumPy alone: what is like an item, and the list of a user whom training lacked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from recdistill.serving.catalogue import Rows
from recdistill.serving.ranker import List
from recdistill.serving.weights import Floats

LARGE = 2**20  # numbers in a table, or products in a history's equations, that are worth a thread
BLOCK = 2**16  # rows of the table that are squared at a time
LEAST, MOST = 1e-9, 1e9


@dataclass(frozen=True)
class FoldIn:
    """The constants of :func:`recdistill.models.fold_in.fold_in`, from a manifest.

    Raises:
        ValueError: they are no numbers, or none that equations can be solved with.
    """

    unobserved: float
    ridge: float

    def __post_init__(self) -> None:
        for name in ("unobserved", "ridge"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not LEAST <= value <= MOST:
                raise ValueError(f"fold_in.{name}: a number from {LEAST:g} to {MOST:g} expected, {value!r} found")


@dataclass
class Vectors:
    """float32 ``[n, d]`` of the items, finite.

    Args:
        table: the vectors.
        fold: how the vector of a user is made of a history; None where the model makes it otherwise.
    """

    table: Floats
    fold: FoldIn | None = None
    _length: Floats = field(init=False, repr=False)
    _gram: npt.NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        length = np.linalg.norm(self.table, axis=1)
        self._length = np.where(length > 0, length, 1).astype(np.float32)
        width = self.table.shape[1]
        self._gram = np.zeros((width, width))
        for start in range(0, len(self.table) if self.fold is not None else 0, BLOCK):
            block = self.table[start : start + BLOCK].astype(np.float64)
            self._gram += block.T @ block

    def takes_long(self, history: int = 0) -> bool:
        """Whether a search, after ``history`` items are folded in, is worth a thread of its own."""
        width = self.table.shape[1]
        return self.table.size >= LARGE or (history > 0 and (history + width) * width**2 >= LARGE)

    def like(self, row: int, left_out: Rows, k: int) -> List:
        """The items whose vectors have the largest cosine with that of one."""
        scores: Floats = (self.table @ (self.table[row] / self._length[row])) / self._length
        scores[left_out] = -np.inf
        return top(scores, k)

    def of_history(self, history: Rows, left_out: Rows, k: int) -> List:
        """The list of somebody who had these items, each once; see :func:`recdistill.models.fold_in.fold_in`."""
        assert self.fold is not None
        own = self.table[history].astype(np.float64)
        unobserved, mean_square = self.fold.unobserved, np.trace(self._gram) / self.table.size
        penalty = self.fold.ridge * mean_square * (len(own) + unobserved * len(self.table))
        penalty = penalty or 1.0  # of a table of zeros
        normal = own.T @ own + unobserved * self._gram + penalty * np.eye(own.shape[1])
        scores: Floats = self.table @ np.linalg.solve(normal, own.sum(0)).astype(np.float32)
        scores[left_out] = -np.inf
        return top(scores, k)


def fold_of(manifest: dict[str, Any]) -> FoldIn | None:
    """The constants in a manifest; nothing in it is trusted.

    Raises:
        ValueError: as of :class:`FoldIn`.
    """
    said = manifest.get("fold_in")
    if said is None:
        return None
    if not isinstance(said, dict):
        raise ValueError(f"fold_in: unobserved and ridge expected, {said!r} found")
    return FoldIn(said.get("unobserved", "nothing"), said.get("ridge", "nothing"))


def top(scores: npt.NDArray[np.float32], k: int) -> List:
    """The best of ``[n]``, equal scores by row; without those at -inf."""
    n = min(k, len(scores))
    best = np.argpartition(-scores, n - 1)[:n]
    tied = np.flatnonzero(scores >= scores[best].min())  # of equals at the end those that come first
    rows = tied[np.lexsort((tied, -scores[tied]))][:n]
    rows = rows[scores[rows] > -np.inf]
    return List(rows, scores[rows])
