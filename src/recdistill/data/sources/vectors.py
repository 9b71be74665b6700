"""Vectors of users or items from a file of their own: NumPy's ``.npy``, or ``.safetensors``. Nothing is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors import safe_open

from recdistill.data.sources.encodings import has_mark
from recdistill.data.sources.files import check_encoding, existing_file, lines, nearest, printable
from recdistill.errors import InputError

Matrix = np.ndarray[Any, np.dtype[np.float32]]


def read_vectors(side: str, name: str, file: Path, tensor: str | None, ids: Path | None, key: str) -> pl.DataFrame:
    """One vector an id.

    Args:
        name: of the feature.
        file: ``.npy`` or ``.safetensors``, floats or integers ``[N, d]``. A row of NaN alone is missing.
        tensor: name of the tensor in a ``.safetensors`` file; None for the feature's name, or the only one.
        ids: text file of ``N`` ids, one a line; None where row n is of the id ``n``.
        key: config key of the feature, for messages.

    Returns:
        ``side`` (String) and ``name`` (Array(Float32, d)).

    Raises:
        InputError: for a file that holds no such matrix, or another number of ids, or an id twice.
    """
    matrix = _matrix(existing_file(file, f"{key}.file"), tensor, name, key)
    labels = _ids(existing_file(ids, f"{key}.ids")) if ids else pl.int_range(matrix.shape[0], eager=True)
    if len(labels) != matrix.shape[0]:
        raise InputError(
            f"'{ids}' has {len(labels)} ids for the {matrix.shape[0]} rows of '{file}'",
            where=f"{key}.ids",
            fix="one id a line, in the order of the rows",
        )
    missing = np.isnan(matrix).all(axis=1)
    odd = np.flatnonzero(~missing & ~np.isfinite(matrix).all(axis=1))
    if odd.size:
        raise InputError(
            f"row {odd[0]} of '{file}' has entries that are no finite numbers",
            where=f"{key}.file",
            why="a row of NaN alone is taken as missing; this one has both",
            fix="repair the row",
        )
    frame = pl.DataFrame({side: labels.cast(pl.String), name: pl.Series(name, matrix)})
    return frame.filter(~pl.Series(missing)) if missing.any() else frame


def _matrix(file: Path, tensor: str | None, name: str, key: str) -> Matrix:
    try:
        if file.suffix.lower() == ".safetensors":
            found = _tensor(file, tensor, name, key)
        else:
            # Mapped, so that a header that promises more than the file holds allocates nothing.
            found = np.lib.format.open_memmap(file, mode="r")
    except InputError:
        raise
    except Exception as error:  # NumPy reads a header as Python's text, so that a damaged one can raise anything
        raise InputError(
            f"'{file}' is no .npy or .safetensors file of numbers, or is damaged",
            where=f"{key}.file",
            why=printable(f"{type(error).__name__}: {error}".splitlines()[0])[:200],
            fix="write it with numpy.save(file, array) of numbers, or with safetensors",
        ) from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or 0 in found.shape or found.dtype.kind not in "fiu":
        form = f"{found.dtype} of shape {list(found.shape)}" if isinstance(found, np.ndarray) else "several arrays"
        raise InputError(
            f"'{file}' does not hold vectors",
            where=f"{key}.file",
            why=f"it holds {form}",
            fix="numbers of shape [N, d]",
        )
    return np.ascontiguousarray(found, dtype=np.float32)


def _tensor(file: Path, tensor: str | None, name: str, key: str) -> Any:
    with safe_open(file, framework="np") as content:
        names = list(content.keys())
        chosen = tensor or (names[0] if len(names) == 1 else name)
        if chosen in names:
            return content.get_tensor(chosen)
    near = nearest(chosen, names)
    raise InputError(
        f"'{file}' has no tensor '{chosen}'",
        where=f"{key}.column",
        why=f"it has {names[:20]}",
        fix=f"{key}.column={near[0] if near else 'NAME'}",
    )


def _ids(file: Path) -> pl.Series:
    check_encoding(file)
    ids = lines(file)
    if len(ids) and has_mark(file):
        ids = ids.set(pl.Series(np.arange(len(ids)) == 0), ids[0].lstrip("\ufeff"))
    for bad, what in ((ids == "", "an id is missing"), (~ids.is_first_distinct(), "an id occurs twice")):
        if bad.any():
            row = int(bad.arg_true()[0])
            raise InputError(f"{what}: {ids[row]!r}", where=f"{file}:{row + 1}", fix="one id a line, each once")
    return ids
