"""The items' vectors with NumPy alone: what is like an item, and the list of a user whom training lacked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from recdistill.serving.catalogue import Rows
from recdistill.serving.ranker import List
from recdistill.serving.weights import Floats

LARGE = 2**20  # numbers in a table that is searched in a thread


@dataclass(frozen=True)
class FoldIn:
    """The constants of :func:`recdistill.models.fold_in.fold_in`, from a manifest.

    Raises:
        ValueError: they are no numbers above 0.
    """

    unobserved: float
    ridge: float

    def __post_init__(self) -> None:
        sound = all(isinstance(one, float) and 0 < one < 1e6 for one in (self.unobserved, self.ridge))
        if not sound:
            raise ValueError(f"fold_in: two numbers above 0 expected, {self.unobserved!r} and {self.ridge!r} found")


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
    _mean_square: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        length = np.linalg.norm(self.table, axis=1)
        self._length = np.where(length > 0, length, 1).astype(np.float32)
        if self.fold is not None:
            exact = self.table.astype(np.float64)
            self._gram, self._mean_square = exact.T @ exact, float(np.square(exact).mean())

    @property
    def large(self) -> bool:
        """Whether a search takes long enough for a thread of its own."""
        return self.table.size >= LARGE

    def like(self, row: int, left_out: Rows, k: int) -> List:
        """The items whose vectors have the largest cosine with that of one."""
        scores: Floats = (self.table @ (self.table[row] / self._length[row])) / self._length
        scores[left_out] = -np.inf
        return top(scores, k)

    def of_history(self, history: Rows, left_out: Rows, k: int) -> List:
        """The list of somebody who had these items, each once; see :func:`recdistill.models.fold_in.fold_in`."""
        assert self.fold is not None
        own = self.table[history].astype(np.float64)
        unobserved, n_items = self.fold.unobserved, len(self.table)
        penalty = self.fold.ridge * self._mean_square * (len(own) + unobserved * n_items)
        normal = own.T @ own + unobserved * self._gram + penalty * np.eye(own.shape[1])
        scores: Floats = self.table @ np.linalg.solve(normal, own.sum(0)).astype(np.float32)
        scores[left_out] = -np.inf
        return top(scores, k)


def fold_of(manifest: dict[str, Any]) -> FoldIn | None:
    """The constants in a manifest; nothing in it is trusted.

    Raises:
        ValueError: they are no numbers above 0.
    """
    said = manifest.get("fold_in")
    if said is None:
        return None
    if not isinstance(said, dict):
        raise ValueError(f"fold_in: {said!r}")
    return FoldIn(said.get("unobserved", 0.0), said.get("ridge", 0.0))


def top(scores: npt.NDArray[np.float32], k: int) -> List:
    """The best of ``[n]``, equal scores by row; without those at -inf."""
    n = min(k, len(scores))
    best = np.argpartition(-scores, n - 1)[:n]
    tied = np.flatnonzero(scores >= scores[best].min())  # of equals at the end those that come first
    rows = tied[np.lexsort((tied, -scores[tied]))][:n]
    rows = rows[scores[rows] > -np.inf]
    return List(rows, scores[rows])
