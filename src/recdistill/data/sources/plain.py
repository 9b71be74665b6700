"""Text tables of published data sets: no header or a fixed one, separators of any length, now and then latin-1.

The number of a line can be an id in such files, so no line is passed over: only blank lines at the end are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recdistill.data.sources.files import check_encoding, existing_file, lines, names_in, override
from recdistill.data.sources.folders import offer_below
from recdistill.errors import InputError


@dataclass(frozen=True)
class Cells:
    """How a text file holds cells.

    Args:
        name: of the file.
        separator: between cells, one character or more.
        columns: our name of each cell.
        header: the first line, cell by cell, where there is one.
        latin1: whether bytes that are no UTF-8 are taken as latin-1.
    """

    name: str
    separator: str
    columns: tuple[str, ...]
    header: tuple[str, ...] | None = None
    latin1: bool = False

    @property
    def first_row(self) -> int:
        """Number of the first row of cells, as the user counts."""
        return 2 if self.header else 1

    def read(self, folder: Path) -> pl.DataFrame:
        """All cells as text, one row a line.

        Raises:
            InputError: for a file that can't be read, another header, or a row with another number of cells.
        """
        file = file_in(folder, self.name)
        text = read_lines(file, self.latin1)
        if self.header:
            if text[0].split(self.separator) != list(self.header):
                need = repr(self.separator.join(self.header))
                raise InputError(
                    f"'{file}' has another header",
                    where=f"{file}:1",
                    why=f"it is {text[0]!r}, and {need} is needed",
                    fix="give the file as it was published, or data=tsv with the names of your columns",
                )
            text = text.slice(1)
            if not len(text):
                raise InputError(f"'{file}' has a header and no rows", where=str(file), fix="give another file")
        found = text.str.count_matches(self.separator, literal=True) + 1
        bad = (found != len(self.columns)).arg_true()
        if len(bad):
            raise InputError(
                f"a row of {len(self.columns)} cells is needed, and this one has {found[bad[0]]}" + and_more(len(bad)),
                where=f"{file}:{bad[0] + self.first_row}",
                why=f"{text[bad[0]][:80]!r}; the cells are {', '.join(self.columns)}, separated by {self.separator!r}",
                fix="repair the row",
            )
        return text.str.split_exact(self.separator, len(self.columns) - 1).struct.unnest().rename(
            {f"field_{at}": name for at, name in enumerate(self.columns)}
        )  # fmt: skip

    def read_events(self, folder: Path) -> pl.DataFrame:
        """Those of ``user``, ``item``, ``value`` and ``time`` that are columns, of the dtypes of a raw log.

        Raises:
            InputError: for a missing id, a value that is no finite number, a time that is no integer.
        """
        frame = self.read(folder)
        for name in ("user", "item"):
            self.refuse(folder, frame[name], frame[name].str.strip_chars() == "", "an id is missing")
        events = frame.select("user", "item")
        for name, dtype in (("value", pl.Float64()), ("time", pl.Int64())):
            if name in frame.columns:
                events = events.with_columns(self.numbers(folder, frame[name], dtype))
        return events

    def read_listed(self, folder: Path, side: str) -> pl.DataFrame:
        """All cells as text; the column ``side`` names each user or item once.

        Raises:
            InputError: for an id that is missing or occurs twice.
        """
        frame = self.read(folder)
        self.refuse(folder, frame[side], frame[side].str.strip_chars() == "", "an id is missing")
        self.refuse(folder, frame[side], ~frame[side].is_first_distinct(), "an id is listed twice")
        return frame

    def numbers(self, folder: Path, text: pl.Series, dtype: pl.DataType) -> pl.Series:
        """Finite numbers of a column of text, one for each cell."""
        cast = text.cast(dtype, strict=False)
        bad = cast.is_null() if dtype == pl.Int64() else ~cast.is_finite().fill_null(False)
        self.refuse(folder, text, bad, "no integer" if dtype == pl.Int64() else "no finite number")
        return cast

    def refuse(self, folder: Path, column: pl.Series, bad: pl.Series, what: str) -> None:
        """Raise InputError at the first row of ``bad``, bool ``[N]``."""
        rows = bad.arg_true()
        if len(rows):
            raise InputError(
                f"{what}: {column[rows[0]]!r}" + and_more(len(rows)),
                where=f"{folder / self.name}:{rows[0] + self.first_row}:{column.name}",
                fix="repair the row",
            )


def file_in(folder: Path, name: str, key: str | None = None) -> Path:
    """A file of a folder, checked to be there and not empty.

    Args:
        key: config key of its name; None where the format fixes the name.

    Raises:
        InputError: where the folder or the file is missing, with what is there instead.
    """
    if not folder.is_dir():
        # Raises with the nearest name, where there is nothing.
        existing_file(folder, or_folder=True)
        raise InputError(
            f"'{folder}' is a file, and its folder is needed",
            where="data.path",
            fix=override("data.path", folder.parent),
        )
    offer_below(folder, [name])
    if key is None and not (folder / name).is_file():
        raise InputError(
            f"no file '{name}' in '{folder}'",
            where="data.path",
            why=f"there is {names_in(folder)}",
            fix=f"data.path=FOLDER, the one with {name}",
        )
    return existing_file(folder / name, key or "data.path")


def read_lines(file: Path, latin1: bool = False) -> pl.Series:
    """The lines of a text file, without the blank ones at its end.

    Args:
        latin1: whether bytes that are no UTF-8 are taken as latin-1.

    Raises:
        InputError: for a file without text, or in another encoding.
    """
    check_encoding(file)
    try:
        text = lines(file)
    except InputError:
        if not latin1:
            raise
        text = pl.Series("line", file.read_bytes().decode("latin-1").split("\n")).str.strip_chars_end("\r")
    filled = (text.str.strip_chars() != "").arg_true()
    if not len(filled):
        raise InputError(f"'{file}' has blank lines only", where=str(file), fix="give another file")
    return text.head(filled[-1] + 1)


def and_more(count: int) -> str:
    """The end of a message on the first of ``count`` bad rows."""
    return f" (and {count - 1} more)" if count > 1 else ""
