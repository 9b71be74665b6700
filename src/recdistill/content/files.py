"""Vectors of items or users from a file that another program wrote.

The file is ``.npy`` or ``.safetensors``, ``[N, d]``, with the original id of each row in a text file beside it, one a
line (``vectors.npy`` and ``vectors.ids``; without it row n is of the id ``n``), or ``.parquet`` with the columns
``item`` or ``user`` and ``vector``. Nothing is unpickled.
"""

from __future__ import annotations

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
from recdistill.runs.atomic import file_digest

VECTOR = "vector"


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
            fix=f"the {side}s' ids in its column {side}" if Path(file).suffix.lower() == ".parquet" else
            f"list the rows' {side} ids, one a line, in {Path(file).with_suffix('.ids')}",
        )  # fmt: skip
    row = torch.from_numpy(found["row"].to_numpy().astype(np.int64))
    return row, torch.from_numpy(np.array(found[VECTOR].to_numpy(), dtype=np.float32))


def ids_of(file: Path, key: str) -> np.ndarray[Any, Any]:
    """The items of a file of vectors, str ``[N]``."""
    return _read(file, key, "item")["item"].to_numpy()


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


def _about(error: InputError, file: Path, key: str) -> InputError:
    """An error of a feature's reader, whose keys are not those of an encoder: it has one key, of the file."""
    places = {".file": key, ".ids": str(file.with_suffix(".ids")), ".column": key}
    where = places.get(error.where or "", error.where)
    fix = "a file with one tensor" if error.where == ".column" else error.fix
    return InputError(error.what, where=where, why=error.why, fix=fix)


def _read(file: Path, key: str, side: str) -> pl.DataFrame:
    """Columns ``side`` (String) and ``vector`` (Array(Float32, d))."""
    if file.suffix.lower() != ".parquet":
        try:
            return read_vectors(side, VECTOR, file, None, next(iter(_ids_beside(file)), None), "")
        except InputError as error:
            raise _about(error, file, key) from error.__cause__
    try:
        frame = read_parquet(file, {side: side, VECTOR: VECTOR}).select(side, VECTOR).drop_nulls()
    except InputError as error:
        fix = f"a file with the columns {side} and {VECTOR}"
        raise InputError(error.what, where=key, why=error.why, fix=fix) from error.__cause__
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
