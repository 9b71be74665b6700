"""One tensor of a bundle, decoded with NumPy alone: the items' vectors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recdistill.errors import InputError
from recdistill.export.names import INFO, SCALES, VECTORS, WEIGHTS
from recdistill.runs.atomic import read_json
from recdistill.serving.catalogue import unreadable

TABLE = "item.weight"  # of every model that has a table of items; others are served with their factors under this name
MAX_INFO_BYTES = 2**20
MAX_WIDTH = 2**16
Floats = npt.NDArray[np.float32]
_STORED: dict[Any, str] = {32: "float32", 16: "float16", "bf16": "int16", 8: "int8", 4: "uint8"}


def read_info(folder: Path) -> dict[str, Any]:
    """``model.json``; nothing in it is trusted.

    Raises:
        InputError: it is missing, too large, or says something else.
    """
    file = folder / INFO
    if not file.is_file():
        raise InputError(f"there is no {INFO}", where=str(folder), why="the service needs the bundle's files too",
                         fix="export=[bundle,onnx]")  # fmt: skip
    try:
        if file.stat().st_size > MAX_INFO_BYTES:
            raise ValueError(f"it has more than {MAX_INFO_BYTES:,} bytes")
        info = read_json(file)
        if not isinstance(info, dict) or not all(isinstance(info[key], dict) for key in ("schema", "shapes", "codecs")):
            raise TypeError("it is not what a bundle has")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise unreadable(file, error) from error
    return info


def item_vectors(folder: Path, info: dict[str, Any], n_items: int) -> Floats | None:
    """float32 ``[n_items, d]``; None where the model has no such table.

    Raises:
        InputError: the file is damaged, of other shapes than it says, or has a NaN.
    """
    try:
        vectors: Floats | None = _apart(folder) if (folder / VECTORS).is_file() else _of_bundle(folder, info, n_items)
        if vectors is None:
            return None
        if vectors.ndim != 2 or len(vectors) < n_items:
            raise ValueError(f"{TABLE}: {n_items} rows expected, {list(vectors.shape)} found")
        if not np.isfinite(vectors).all():
            raise ValueError(f"{TABLE} is NaN or infinite")
    except (OSError, ValueError, TypeError, KeyError, IndexError, EOFError) as error:
        raise unreadable(folder, error) from error
    return vectors[:n_items].astype(np.float32, copy=False)


def _apart(folder: Path) -> Floats:
    vectors: Floats = np.load(folder / VECTORS, allow_pickle=False).astype(np.float32)
    if (folder / SCALES).is_file():
        vectors = vectors * np.load(folder / SCALES, allow_pickle=False).astype(np.float32)[:, None]
    return vectors


def _of_bundle(folder: Path, info: dict[str, Any], n_items: int) -> Floats | None:
    from safetensors import SafetensorError, safe_open

    shape = info["shapes"].get(TABLE)
    if shape is None:
        return None
    shape = tuple(int(size) for size in shape)
    if len(shape) != 2 or not n_items <= shape[0] <= n_items + 2 or not 0 < shape[1] <= MAX_WIDTH:
        raise ValueError(f"{TABLE}: {n_items} rows expected, {list(shape)} found")
    try:
        with safe_open(folder / WEIGHTS, framework="numpy") as opened:
            names = [name for name in opened.keys() if name == TABLE or name.startswith(f"{TABLE}:")]  # noqa: SIM118
            parts = {name.removeprefix(TABLE).removeprefix(":"): opened.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    return decode(parts, info["codecs"].get(TABLE, {}), shape)


def decode(parts: dict[str, npt.NDArray[Any]], codec: dict[str, Any], shape: tuple[int, ...]) -> Floats:
    """What :func:`recdistill.export.packing.pack` stored, as float32 of ``shape``.

    Raises:
        ValueError: it does not have the size that the shape asks for.
    """
    if not codec:
        _expect(parts.get(""), "float32", math.prod(shape), TABLE)
        return parts[""].reshape(shape)
    bits, sparse, count = codec.get("bits", 32), codec.get("sparse", False), math.prod(shape)
    if not isinstance(bits, int | str) or bits not in _STORED or len(shape) != 2:
        raise ValueError(f"there is no way to read {bits!r} bits of {list(shape)}")
    kept = _places(parts, (shape[0], shape[1])) if sparse else None
    n = count if kept is None else int(kept.sum())
    _expect(parts.get("values"), _STORED[bits], -(-n // 2) if bits == 4 else n, "values")
    values = _nibbles(parts["values"], n) if bits == 4 else parts["values"].ravel()
    if bits == "bf16":
        values = _upper_halves(values)
    full = np.zeros(count, np.float32)
    full[slice(None) if kept is None else kept] = values
    full = full.reshape(shape)
    if bits in (32, 16, "bf16"):
        return full
    rows = 1 if shape[1] == 1 and shape[0] else shape[0]
    _expect(parts.get("scale"), "int16", rows, "scale")
    return np.multiply(full, _upper_halves(parts["scale"]).reshape(-1, 1), out=full)


def _upper_halves(bits: npt.NDArray[Any]) -> Floats:
    """The bfloat16 that stand as int16."""
    return (bits.astype(np.int32) << 16).view(np.float32)


def _places(parts: dict[str, npt.NDArray[Any]], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """bool of all positions: which are not zero."""
    count = math.prod(shape)
    if "columns" not in parts:
        _expect(parts.get("kept"), "uint8", -(-count // 8), "kept")
        return np.unpackbits(parts["kept"], bitorder="little")[:count].astype(bool)
    columns, ends = (parts[name].astype(np.int64) for name in ("columns", "indptr"))
    lengths = np.diff(ends)
    sound = len(ends) == shape[0] + 1 and ends[0] == 0 and ends[-1] == len(columns) and (lengths >= 0).all()
    if not sound or not ((columns >= 0) & (columns < shape[1])).all():
        raise ValueError(f"columns: not those of {shape[0]} rows of {shape[1]}")
    kept = np.zeros(count, bool)
    kept[np.repeat(np.arange(shape[0]), lengths) * shape[1] + columns] = True
    return kept


def _nibbles(packed: npt.NDArray[Any], n: int) -> npt.NDArray[np.int8]:
    pairs = packed.ravel()
    return (np.stack([pairs & 15, pairs >> 4], 1).reshape(-1)[:n].astype(np.int8) - 8).astype(np.int8)


def _expect(part: npt.NDArray[Any] | None, dtype: str, count: int, name: str) -> None:
    if part is None or part.dtype != np.dtype(dtype) or part.size != count:
        seen = "nothing" if part is None else f"{part.size} × {part.dtype}"
        raise ValueError(f"{name}: {count} × {dtype} expected, {seen} found")
