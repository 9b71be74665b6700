"""Item tables that start from given vectors, such as those of a text encoder or of another model.

The file is ``.npy`` or ``.safetensors``, ``[N, d]``, with the original item id of each row in a text file beside it,
one a line (``vectors.npy`` and ``vectors.ids``; without it row n is of the id ``n``), or ``.parquet`` with the columns
``item`` and ``vector``. Nothing is unpickled.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recdistill.data.sources.files import existing_file
from recdistill.data.sources.parquet import read_parquet
from recdistill.data.sources.vectors import read_vectors
from recdistill.errors import InputError
from recdistill.models.base import Model
from recdistill.runs.atomic import file_digest

log = logging.getLogger(__name__)
VECTOR = "vector"


def initialise_items(model: Model, file: str, items: np.ndarray[Any, Any], key: str) -> None:
    """Sets the rows of the model's item table that the file has a vector for.

    Vectors that are longer than the table's are cut to where they differ most, see :func:`narrowed`; shorter ones fill
    its first columns. The rest keeps its random start.

    Args:
        model: just built.
        file: see above.
        items: original ids of the catalogue, str ``[n_items]``.
        key: config key of the file, for messages.

    Raises:
        InputError: the model has no item table, or the file no vectors for its items.
    """
    table = model.item_table()
    if table is None or len(table) != len(items):
        raise InputError(
            f"{type(model).__name__} has no table of {len(items)} item vectors to start from", where=key,
            fix=f"{key}=null, or a model with one, such as mf, lightgcn or sasrec",
        )  # fmt: skip
    row, vectors = vectors_of(file, items, key)
    length = vectors.shape[1]
    if length > table.shape[1]:
        vectors, kept = narrowed(vectors, table.shape[1])
        log.info("%s: vectors of %d numbers cut to %d, which keep %.1f %% of their squares", key, length,
                 table.shape[1], 100 * kept)  # fmt: skip
    with torch.no_grad():
        table[row, : vectors.shape[1]] = vectors.to(table.dtype)
    log.info("%s: %d of %d items start from a vector of '%s'", key, len(row), len(items), file)


def vectors_of(
    file: str, ids: np.ndarray[Any, Any], key: str, side: Literal["user", "item"] = "item"
) -> tuple[Tensor, Tensor]:
    """The items, or users, that have a vector, int64 ``[m]``, and their vectors, float32 ``[m, d]``."""
    frame = _read(existing_file(file, key), key, side)
    catalogue = pl.DataFrame({side: pl.Series(ids.astype(str))}).with_row_index("row")
    found = catalogue.join(frame, on=side, how="inner", maintain_order="left")
    if not len(found):
        examples = [", ".join(map(repr, column[:3].to_list())) for column in (frame[side], catalogue[side])]
        a = "an item" if side == "item" else "a user"
        raise InputError(
            f"'{file}' has {len(frame)} vectors, and none is of {a} of the training part", where=key,
            why=f"its ids are {examples[0]}, ...; those of the {side}s are {examples[1]}, ...",
            fix=f"list the rows' {side} ids, one a line, in {Path(file).with_suffix('.ids')}",
        )  # fmt: skip
    row = torch.from_numpy(found["row"].to_numpy().astype(np.int64))
    return row, torch.from_numpy(np.array(found[VECTOR].to_numpy(), dtype=np.float32))


def content_of(file: str, key: str) -> list[str]:
    """Hashes of the file and of the ids beside it, where it has any.

    Raises:
        InputError: there is no such file.
    """
    path = existing_file(file, key)
    return [file_digest(part) for part in (path, *_ids_beside(path))]


def _ids_beside(file: Path) -> list[Path]:
    ids = file.with_suffix(".ids")
    return [ids] if file.suffix.lower() != ".parquet" and ids.exists() else []


def _read(file: Path, key: str, side: str) -> pl.DataFrame:
    """Columns ``side`` (String) and ``vector`` (Array(Float32, d))."""
    if file.suffix.lower() != ".parquet":
        return read_vectors(side, VECTOR, file, None, next(iter(_ids_beside(file)), None), key)
    frame = read_parquet(file, {side: side, VECTOR: VECTOR}).select(side, VECTOR).drop_nulls()
    try:
        length = int(frame[VECTOR].list.len()[0] if frame[VECTOR].dtype == pl.List else frame[VECTOR].dtype.shape[0])  # type: ignore[attr-defined]
        frame = frame.with_columns(pl.col(VECTOR).cast(pl.Array(pl.Float32, length)))
    except (pl.exceptions.PolarsError, AttributeError, IndexError) as error:
        raise InputError(
            f"column '{VECTOR}' of '{file}' does not hold vectors of one length", where=key,
            why=f"it is {frame[VECTOR].dtype}, {len(frame)} rows", fix="write lists of numbers, all of one length",
        ) from error  # fmt: skip
    wrong = ~frame[side].is_first_distinct()
    if wrong.any():
        raise InputError(f"{side} {frame[side].filter(wrong)[0]!r} has two vectors in '{file}'", where=key,
                         fix="leave one")  # fmt: skip
    if not np.isfinite(frame[VECTOR].to_numpy()).all():
        raise InputError(f"a vector of '{file}' is not finite", where=key, fix="leave out its row")
    return frame


def narrowed(vectors: Tensor, length: int) -> tuple[Tensor, float]:
    """The vectors ``[m, d]`` in the ``length`` orthogonal directions that keep most of them: ``[m, length]``, and the
    share of their squares that is kept.

    An orthogonal projection onto the first right singular vectors (Eckart and Young, Psychometrika 1936), without
    centring, so that dot products are kept as well as so few numbers can. The sign of a direction is that of its
    largest entry, so that it does not depend on the library.
    """
    gram = vectors.double().T @ vectors.double()  # [d, d]
    size, direction = torch.linalg.eigh(gram)  # ascending
    size, direction = size.flip(0).clamp(min=0), direction.flip(1)[:, :length]
    largest = direction.gather(0, direction.abs().argmax(0, keepdim=True))
    kept = float(size[:length].sum() / size.sum().clamp(min=torch.finfo(size.dtype).tiny))
    return (vectors.double() @ (direction * largest.sign())).float(), kept
