"""A safetensors file that is written a few rows at a time, so that its tensors need not fit into memory."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

# The widest first, so that each stands aligned.
CODES = {
    torch.float64: "F64", torch.int64: "I64", torch.float32: "F32", torch.int32: "I32", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.bool: "BOOL",
}  # fmt: skip
ALIGNMENT = 8


class TensorFile:
    """A context in which the rows of tensors of known shapes are put into a file, in any order; rows that are never put
    are zeros.

    Args:
        path: of the file, which is made anew.
        shapes: by name the type, one of :data:`CODES`, and the shape of each tensor.
    """

    def __init__(self, path: Path, shapes: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]):
        self.path, self.shapes = path, dict(shapes)
        self.starts: dict[str, int] = {}
        entries: dict[str, Any] = {}
        end, order = 0, list(CODES)
        for name in sorted(self.shapes, key=lambda name: (order.index(self.shapes[name][0]), name)):
            dtype, shape = self.shapes[name]
            self.starts[name], end = end, end + dtype.itemsize * math.prod(shape)
            entries[name] = {"dtype": CODES[dtype], "shape": shape, "data_offsets": [self.starts[name], end]}
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % ALIGNMENT)
        self.header = len(text).to_bytes(8, "little") + text
        self.size = len(self.header) + end

    def __enter__(self) -> Self:
        self.file = self.path.open("wb")
        self.file.write(self.header)
        self.file.truncate(self.size)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def put(self, name: str, row: int, part: Tensor) -> None:
        """Writes rows in a row.

        Args:
            row: number of the first of them.
            part: ``[r, ...]``, of the type and the width of the tensor.
        """
        dtype, shape = self.shapes[name]
        assert part.dtype == dtype, (name, part.dtype)
        assert part.shape[1:] == shape[1:], (name, part.shape)
        assert row + len(part) <= shape[0], (name, row)
        self.file.seek(len(self.header) + self.starts[name] + row * dtype.itemsize * math.prod(shape[1:]))
        self.file.write(part.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)  # NumPy has no bfloat16
