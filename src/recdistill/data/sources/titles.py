"""Human names of items, from a file of their own."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from recdistill.data.sources.files import existing_file, suffix
from recdistill.data.sources.parquet import read_parquet
from recdistill.data.sources.rows import Part
from recdistill.data.sources.text import read_text


def read_titles(path: Path, item: str, title: str, quote: str | None, key: str = "data.titles") -> pl.DataFrame:
    """The titles of a CSV, TSV or Parquet file.

    Returns:
        Columns ``item`` and ``title``; one row an item, the first where it occurs twice.

    Raises:
        InputError: for a file that can't be read or lacks a column.
    """
    file = existing_file(path, key)
    wanted = {"title_item": item, "title": title}
    if suffix(file) in {".parquet", ".pq"}:
        frame = read_parquet(file, wanted)
    else:
        frame = read_text(file, wanted, None, quote, Part(file))
    frame = frame.rename({"title_item": "item"})
    named = frame.drop_nulls(["item", "title"]).unique("item", keep="first", maintain_order=True)
    return named.select(pl.col(name).cast(pl.String) for name in ("item", "title"))
