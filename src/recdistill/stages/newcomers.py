"""Items that came after training: from what is told of them to vectors that compete with those of the catalogue."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recdistill.content.base import ContentEncoder, stored_space
from recdistill.content.rows import NEW_ITEMS, NewRows, read_new
from recdistill.content.template import TITLE
from recdistill.data.csr import Csr
from recdistill.data.features import UNKNOWN, Features, take
from recdistill.data.interactions import Dataset
from recdistill.errors import InputError
from recdistill.models.base import Model

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Newcomers:
    """New items that can be recommended.

    Attributes:
        ids, titles: str ``[n]``; an item without a title is called by its id.
        vectors: ``[n, d]``, to stand behind those of the catalogue.
    """

    ids: np.ndarray[Any, Any]
    titles: np.ndarray[Any, Any]
    vectors: Tensor


def newcomers_of(
    model: Model, file: str, data: Dataset, encoders: Mapping[str, ContentEncoder], cache: Path
) -> Newcomers:
    """The items of a file, see :func:`~recdistill.content.rows.read_new`, as a model sees them: by the run's encoders,
    in the spaces that were fitted to the catalogue. Items of which no vector can be made are told of, and left out.

    Args:
        model: whose item vectors they get.
        data: that it was trained on.
        encoders: by the name of the feature.
        cache: folder in which the spaces are.

    Raises:
        InputError: the model knows items by their ids, the data have no encoder, the file tells of an item of the
            catalogue, of one twice or not what the encoders read, or of no item anything.
    """
    require_content(model, data, encoders)
    columns = dict.fromkeys(name for encoder in encoders.values() for name in encoder.columns())
    rows = read_new(file, list(columns), data.items[: data.train.n_items])
    vectors = {name: encoded(encoder, rows, data, name, cache) for name, encoder in encoders.items()}
    there = torch.stack([found.isfinite().all(1) for found in vectors.values()]).any(0)
    if not there.any():
        raise InputError(f"nothing is told of the items of '{file}' that a vector could be made of", where=NEW_ITEMS,
                         fix=f"fill in {', '.join(columns) or 'their vectors'}")  # fmt: skip
    if lacking := int((~there).sum()):
        log.warning("%s: %d of %d items have no text or vector, and are not recommended", file, lacking, len(there))
    kept = there.nonzero().flatten()
    at = kept.numpy()
    told = take(blank(data.item_features, vectors, len(there)), kept)
    with torch.inference_mode():
        found = model.new_item_vectors(told, len(kept))
    assert found is not None
    titles = rows.column(TITLE).to_numpy()
    return Newcomers(rows.ids[at], np.where(titles == "", rows.ids, titles)[at], found)


def require_content(model: Model, data: Dataset, encoders: Mapping[str, ContentEncoder]) -> None:
    """Raises InputError for a model that knows items by their ids, and for data without an encoder."""
    with torch.inference_mode():
        known = encoders and model.new_item_vectors(take(data.item_features, torch.zeros(1, dtype=torch.int64)), 1)
    if not encoders or known is None:
        raise InputError(
            f"{type(model).__name__} can't recommend items that training lacked", where=NEW_ITEMS,
            why="it knows items by their ids" if encoders else "no encoder makes vectors of what is told of items",
            fix="train one that knows them by their content: task=sequence student=content_metric encode=minilm, or "
            "student=mf student.net.fusion=features (docs/content.md)",
        )  # fmt: skip


def encoded(encoder: ContentEncoder, rows: NewRows, data: Dataset, name: str, cache: Path) -> Tensor:
    """The vectors of new items as models get them, float32 ``[n, d]``; NaN where there is none.

    Raises:
        InputError: they are of another length than those of the catalogue.
    """
    key = f"data.encode.{name}"
    found, space = encoder.of_new(rows, key), stored_space(encoder, data, key, cache)
    length = len(space.mean) if space else data.item_features.vector[name].shape[1]
    if found.shape[1] != length:
        raise InputError(
            f"the vectors of '{rows.file}' have {found.shape[1]} numbers, those of the catalogue {length}",
            where=NEW_ITEMS, fix="vectors of the same encoder",
        )  # fmt: skip
    return space.of(found) if space else found


def blank(like: Features, vectors: dict[str, Tensor], n: int) -> Features:
    """The features of ``n`` items of which these vectors are known, and nothing else."""
    missing, none = float("nan"), Csr(torch.zeros(n + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    return replace(
        like,
        categorical={name: torch.full((n,), UNKNOWN) for name in like.categorical},
        numeric={name: torch.full((n,), missing) for name in like.numeric},
        multi=dict.fromkeys(like.multi, none),
        text={name: np.full(n, "", dtype=object) for name in like.text},
        vector={name: torch.full((n, of.shape[1]), missing) for name, of in like.vector.items()} | vectors,
    )
