"""Vectors of items that another program made, such as those of a language model behind an API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from recdistill.content.base import ContentEncoder
from recdistill.content.files import content_of, vectors_of
from recdistill.content.rows import NEW_ITEMS, NewRows
from recdistill.data.hashing import hash_ids
from recdistill.data.interactions import Dataset


class GivenVectors(ContentEncoder):
    """Vectors from a file, see :mod:`recdistill.content.files`, by original item id, in any order.

    Args:
        file: ``.npy``, ``.safetensors`` or ``.parquet``.
        dim, whiten: see :class:`~recdistill.content.base.ContentEncoder`.

    Raises:
        InputError: there is no such file, it holds no vectors of one length, or none for these items.
    """

    def __init__(self, file: str, dim: Annotated[int, Ge(1)] | None = None, whiten: bool = False):
        super().__init__(dim, whiten)
        self.file = file

    def content(self, key: str) -> Any:
        return content_of(self.file, f"{key}.file")

    def depends_on(self, data: Dataset, key: str) -> dict[str, Any]:
        return {"file": self.content(key), "items": hash_ids(data.items)}

    def compute(self, data: Dataset, folder: Path, key: str) -> Tensor:  # noqa: ARG002
        row, found = vectors_of(self.file, data.items, f"{key}.file")
        return _spread(row, found, len(data.items))

    def of_new(self, rows: NewRows, key: str) -> Tensor:
        """From the file of the new items where that holds vectors, else from the file of all others."""
        file, key = (str(rows.file), NEW_ITEMS) if rows.vectors else (self.file, f"{key}.file")
        return _spread(*vectors_of(file, rows.ids, key), len(rows.ids))


def _spread(row: Tensor, found: Tensor, n: int) -> Tensor:
    vectors = torch.full((n, found.shape[1]), float("nan"))
    vectors[row] = found
    return vectors
