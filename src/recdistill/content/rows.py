"""Items that the data lack, as a file tells of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recdistill.content.files import ids_of
from recdistill.data.sources.files import existing_file
from recdistill.data.sources.frames import Form, read_frame
from recdistill.data.sources.rows import Part
from recdistill.errors import InputError

NEW_ITEMS = "recommend.new_items"
VECTOR_FILES = (".npy", ".safetensors")


@dataclass(frozen=True)
class NewRows:
    """New items.

    Attributes:
        file: where they are from.
        ids: str ``[n]``, none twice.
        told: what the file tells of them, by column; "" where it is missing.
        vectors: whether the file holds vectors instead.
    """

    file: Path
    ids: np.ndarray[Any, Any]
    told: dict[str, pl.Series] = field(default_factory=dict)
    vectors: bool = False

    def column(self, name: str) -> pl.Series:
        """What is told by this name, "" where nothing is."""
        return self.told.get(name, pl.Series([""] * len(self.ids), dtype=pl.String))


def read_new(file: str, columns: Sequence[str], known: np.ndarray[Any, Any]) -> NewRows:
    """The items of a ``.csv`` (or TSV, JSON lines, Parquet) file with the column ``item`` and those that are asked for;
    or of a ``.npy`` or ``.safetensors`` file of vectors with their ids in a ``.ids`` file beside it.

    Args:
        columns: what must be told of each.
        known: ids of the catalogue, str.

    Raises:
        InputError: there is no such file, a column lacks, an id occurs twice or is of the catalogue.
    """
    path = existing_file(file, NEW_ITEMS)
    if path.suffix.lower() in VECTOR_FILES:
        rows = NewRows(path, ids_of(path, NEW_ITEMS), vectors=True)
    else:
        wanted = dict.fromkeys(columns)
        part = Part(path, keys=dict.fromkeys(("item", *wanted), NEW_ITEMS))
        frame = read_frame([path], {"item": "item", **{name: name for name in wanted}}, Form(), part)
        told = {name: frame[name].cast(pl.String).fill_null("") for name in wanted}
        rows = NewRows(path, np.asarray(frame["item"].fill_null("").to_list(), dtype=object), told)
    _require_new(rows, known)
    return rows


def _require_new(rows: NewRows, known: np.ndarray[Any, Any]) -> None:
    ids = pl.Series(rows.ids, dtype=pl.String)
    if (ids == "").any():
        raise InputError(f"a row of '{rows.file}' has no id", where=NEW_ITEMS, fix="give it one in the column item")
    if (twice := ids.filter(~ids.is_first_distinct())).len():
        raise InputError(f"item {twice[0]!r} is in '{rows.file}' twice", where=NEW_ITEMS, fix="leave one of its rows")
    if (old := ids.filter(ids.is_in(pl.Series(known.astype(str)).implode()))).len():
        raise InputError(
            f"{len(old)} of the {len(ids)} items of '{rows.file}' "
            f"{'is' if len(old) == 1 else 'are'} in the catalogue already: "
            + ", ".join(map(repr, old[:5].to_list())) + (", ..." if len(old) > 5 else ""),
            where=NEW_ITEMS, why="the model knows them from training", fix="leave their rows out, or give them new ids",
        )  # fmt: skip
