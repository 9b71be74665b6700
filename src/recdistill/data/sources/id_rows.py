"""Text whose lines are lists of integer ids: adjacency lists, sequences, lists that begin with their length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recdistill.data.sources.plain import and_more, read_lines
from recdistill.errors import InputError

Counts = np.ndarray[Any, np.dtype[np.int64]]


def read_id_rows(file: Path) -> pl.Series:
    """The ids of each line of a file of integers with blanks between them: List(String), one or more each.

    Raises:
        InputError: for a line that holds anything but integers, or nothing.
    """
    text = read_lines(file)
    bad = (~text.str.contains(r"^\s*[0-9]+(\s+[0-9]+)*\s*$")).arg_true()
    if len(bad):
        odd = [word for word in text[bad[0]].split() if not (word.isascii() and word.isdigit())]
        raise InputError(
            (f"{odd[0][:60]!r} is no integer id" if odd else "a blank line") + and_more(len(bad)),
            where=f"{file}:{bad[0] + 1}",
            why="each line holds integers with blanks between them",
            fix="repair the line; tables are read by data=csv and data=tsv",
        )
    return text.str.extract_all(r"[0-9]+")


def read_counted_rows(file: Path) -> pl.Series:
    """The ids of each line of a file whose lines begin with their number: List(String).

    Raises:
        InputError: for a line with another number of ids.
    """
    rows = read_id_rows(file)
    said, found = rows.list.first().cast(pl.Int64, strict=False), rows.list.len().cast(pl.Int64) - 1
    bad = (~(said == found).fill_null(False)).arg_true()
    if len(bad):
        raise InputError(
            f"the line says {rows[bad[0]][0]} ids and has {found[bad[0]]}" + and_more(len(bad)),
            where=f"{file}:{bad[0] + 1}",
            why="the first number of a line is how many follow",
            fix="repair the line, or copy the file again",
        )
    return rows.list.slice(1)


def unroll(rows: pl.Series) -> tuple[Counts, Counts, pl.Series]:
    """Lists as pairs.

    Returns:
        The row of each element, its position in it (both int64 ``[n]``), and the elements.
    """
    counts = rows.list.len().to_numpy().astype(np.int64)
    row = np.repeat(np.arange(counts.size), counts)
    position = np.arange(row.size) - np.repeat(counts.cumsum() - counts, counts)
    return row, position, rows.filter(rows.list.len() > 0).explode()
