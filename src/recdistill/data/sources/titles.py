"""Human names of items, from a file of their own."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from recdistill.data.sources.folders import data_files
from recdistill.data.sources.frames import Form, read_frame
from recdistill.data.sources.rows import Part


def read_titles(path: Path, item: str, title: str, quote: str | None, key: str = "data.titles") -> pl.DataFrame:
    """The titles of a CSV, TSV, JSON lines or Parquet file.

    Returns:
        Columns ``item`` and ``title``; one row an item, the first where it occurs twice.

    Raises:
        InputError: for a file that can't be read or lacks a column.
    """
    files = data_files(path, key)
    frame = read_frame(files, {"title_item": item, "title": title}, Form(quote=quote), Part(files[0]))
    frame = frame.rename({"title_item": "item"})
    named = frame.drop_nulls(["item", "title"]).unique("item", keep="first", maintain_order=True)
    return named.select(pl.col(name).cast(pl.String) for name in ("item", "title"))
