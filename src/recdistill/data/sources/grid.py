"""All cells of a table with the place of each row, for sources whose columns are features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recdistill.data.sources.files import Separator, printable, suffix
from recdistill.data.sources.parquet import read_parquet
from recdistill.data.sources.rows import ROW, Part
from recdistill.data.sources.text import read_header, read_text
from recdistill.errors import InputError


@dataclass(frozen=True)
class Grid:
    """A table that was read.

    Attributes:
        cells: one column a column of the file, in its order; text, or what Parquet holds.
        rows: number of each row, as the user counts.
        dropped: rows left out, by reason.
    """

    path: Path
    cells: pl.DataFrame
    rows: pl.Series
    dropped: dict[str, int]

    def text(self, name: str) -> pl.Series:
        """A column as text without blanks around it; null for an empty cell."""
        column = self.cells[name]
        if column.dtype.is_nested() or column.dtype == pl.Binary:
            raise InputError(
                f"column '{printable(name)}' is {column.dtype}",
                where=f"{self.path}:{printable(name)}",
                fix="write it as text or numbers, or leave it out with data.ignore",
            )
        if column.dtype == pl.Boolean:
            column = column.cast(pl.Int8)
        return column.cast(pl.String).str.strip_chars().replace("", None)

    def numbers(self, name: str) -> pl.Series:
        """A column as finite Float64; null for an empty cell.

        Raises:
            InputError: for a cell that is no finite number.
        """
        column = self.cells[name]
        text = column.fill_nan(None) if column.dtype.is_numeric() else self.text(name)
        numbers = text.cast(pl.Float64, strict=False)
        bad = text.is_not_null() & ~numbers.is_finite().fill_null(False)
        why = "the column is numeric; an empty cell would be taken as missing"
        self.refuse(name, bad, "no finite number", why, f"repair it, or take {name!r} out of data.numeric")
        return numbers

    def refuse(self, name: str, bad: pl.Series, what: str, why: str, fix: str) -> None:
        """Raise InputError at the first cell of a column that is ``bad``, bool ``[N]``."""
        if not bad.any():
            return
        at = bad.arg_max() or 0
        cell = self.cells[name][at]
        more = int(bad.sum()) - 1
        raise InputError(
            f"{what}: {'an empty cell' if cell is None else repr(cell)}" + (f" (and {more} more rows)" if more else ""),
            where=f"{self.path}:{self.rows[at]}:{printable(name)}",
            why=why,
            fix=fix,
        )


def is_parquet(path: Path) -> bool:
    """Whether a file is Parquet, by its name."""
    return suffix(path) in {".parquet", ".pq"}


def read_grid(path: Path, names: Sequence[str] | None, separator: Separator | None, quote: str | None) -> Grid:
    """All cells of a CSV, TSV or Parquet file.

    Args:
        names: of the columns of a text file without a header; None where the first line holds them.

    Raises:
        InputError: for a file that can't be read, or has no rows.
    """
    part = Part(path)
    if is_parquet(path):
        part.first_row = 1
        read_parquet(path, {})  # says what is wrong with a damaged file
        frame = read_parquet(path, {name: name for name in pl.read_parquet_schema(path)})
    else:
        columns = names or read_header(path, [], separator, quote)[0]
        frame = read_text(
            path, {name: name for name in columns}, separator, quote, part, header=names is None, columns=names
        )
    if not frame.height:
        raise InputError(f"'{path}' has no rows", where=str(path), fix="give another file")
    return Grid(path, frame.drop(ROW), frame[ROW].cast(pl.Int64) + part.first_row, part.dropped)
