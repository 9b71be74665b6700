"""What the metrics of rows of predictions share: refusing NaN, and a word about a model that always says the same."""

from __future__ import annotations

import torch
from torch import Tensor

from recdistill.errors import InputError

CONSTANT = "constant_predictions"
"""The warning for a model that predicts the same for every row."""


def refuse_nan(prediction: Tensor, name: str, first: int = 0) -> None:
    """Refuse predictions that are not a number.

    Args:
        prediction: ``[B, ...]``, a row each.
        name: of the model.
        first: rows before this batch.

    Raises:
        InputError: names the model and the first such row, counted from 0.
    """
    bad = prediction.isnan()
    if bool(bad.any()):
        rows = bad.reshape(len(bad), -1).any(1)
        raise InputError(
            f"model {name!r} predicted NaN for row {first + int(rows.nonzero()[0])}",
            where=f"predictions of {name}",
            why=f"{int(rows.sum())} of the {len(rows)} rows of this batch have NaN predictions",
            fix="train the model again with a lower learning rate or clipped gradients",
        )


def widened(ends: Tensor, prediction: Tensor) -> Tensor:
    """The lowest and, negated, the highest prediction so far, float64 ``[2, C]``, with a batch ``[B, C]`` counted in.

    Both are minima, so that processes are joined by the minimum too. Both start at infinity.
    """
    if not len(prediction):
        return ends
    both = torch.stack([prediction.amin(0), -prediction.amax(0)]).double().reshape(2, -1)
    return torch.minimum(ends, both)


def warnings(ends: Tensor, rows: int) -> list[str]:
    """Names of what is wrong with ``rows`` predictions of which :func:`widened` gave the ``ends``."""
    return [CONSTANT] if rows > 1 and bool((ends[0] == -ends[1]).all()) else []


def mean_by(values: Tensor, group: Tensor) -> Tensor:
    """Average of ``values`` ``[N]`` within each group (ids int64 ``[N]``), float64 ``[G]``, groups ascending."""
    _, at, size = torch.unique(group, return_inverse=True, return_counts=True)
    means: Tensor = torch.bincount(at, values.double()) / size
    return means
