"""Item tables that start from given vectors, such as those of a text encoder or of another model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recdistill.content.files import vectors_of
from recdistill.content.spaces import narrowed
from recdistill.data.features import Features
from recdistill.errors import InputError
from recdistill.models.base import Model

log = logging.getLogger(__name__)


def initialise_items(
    model: Model, start: str, items: np.ndarray[Any, Any], key: str, features: Features | None = None
) -> None:
    """Sets the rows of the model's item table that there is a vector for.

    Vectors that are longer than the table's are cut to where they differ most, see
    :func:`~recdistill.content.spaces.narrowed`; shorter ones fill its first columns. The rest keeps its random start.

    Args:
        model: just built.
        start: a file, see :mod:`recdistill.content.files`; or the name of a vector feature of the items, whose vectors
            are then centred, and scaled to the size of the table's random start.
        items: original ids of the catalogue, str ``[n_items]``.
        key: config key of the start, for messages.
        features: of the items.

    Raises:
        InputError: the model has no item table, or there are no vectors for its items.
    """
    table, n = model.item_table(), len(items)
    if table is None or len(table) != n:
        raise InputError(
            f"{type(model).__name__} has no table of {n} item vectors to start from", where=key,
            fix=f"{key}=null, or a model with one, such as mf, lightgcn or sasrec",
        )  # fmt: skip
    row, vectors = (
        vectors_of(start, items, key) if is_file(start) else of_feature(start, features or Features(), n, key)
    )
    length = vectors.shape[1]
    if length > table.shape[1]:
        vectors, kept = narrowed(vectors, table.shape[1])
        log.info("%s: vectors of %d numbers cut to %d, which keep %.1f %% of their squares", key, length,
                 table.shape[1], 100 * kept)  # fmt: skip
    if not is_file(start):
        vectors = vectors * (table.square().mean() / vectors.square().mean()).sqrt()
    with torch.no_grad():
        table[row, : vectors.shape[1]] = vectors.to(table.dtype)
    log.info("%s: %d of %d items start from a vector of '%s'", key, len(row), n, start)


def is_file(start: str) -> bool:
    """Whether a start names a file; else it names a feature."""
    return bool(Path(start).suffix)


def of_feature(name: str, features: Features, n_items: int, key: str) -> tuple[Tensor, Tensor]:
    """The items of the catalogue that have such a vector, int64 ``[m]``, and the vectors less their mean."""
    found = features.vector
    if name not in found:
        raise InputError(
            f"the items have no vectors '{name}'", where=key,
            why=f"they have: {', '.join(found)}" if found else "these data hold no vectors of items",
            fix=f"encode=minilm {key}=text, or {key}=FILE.npy",
        )  # fmt: skip
    vectors = found[name][:n_items]
    row = vectors.isfinite().all(1).nonzero().flatten()
    return row, vectors[row] - vectors[row].mean(0)
