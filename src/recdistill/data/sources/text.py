"""Parsing a text table, every cell as text, and finding the rows of another length than the header."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import polars as pl

from recdistill.data.sources.encodings import rewritten
from recdistill.data.sources.files import (
    HEAD,
    NO_SEPARATOR,
    Encoding,
    Separator,
    broken_archive,
    check_encoding,
    guess_separator,
    lines,
    not_utf8,
    records,
    separator_char,
    separator_name,
    split_line,
    unreadable,
)
from recdistill.data.sources.rows import ROW, Part, missing_columns
from recdistill.errors import InputError

_LAST = "__last__"  # the last column, which tells short rows


@dataclass(frozen=True)
class _Table:
    """An opened text table.

    Attributes:
        names: of its columns.
        separator: between cells, of any length.
        header: whether the first line holds the names.
        content: what to parse in place of the file, where its encoding or separator had to be changed.
    """

    path: Path
    names: list[str]
    separator: str
    quote: str | None
    header: bool
    content: bytes | None

    @property
    def char(self) -> str:
        """The separator in what is parsed."""
        return self.separator if len(self.separator.encode()) == 1 else NO_SEPARATOR

    def lines(self) -> pl.Series:
        return lines(self.path, content=self.content)


def read_text(
    path: Path,
    wanted: dict[str, str],
    separator: Separator | None,
    quote: str | None,
    part: Part,
    *,
    header: bool = True,
    columns: Sequence[str] | None = None,
    encoding: Encoding = "utf-8",
) -> pl.DataFrame:
    """The wanted columns of a text file under our names, every cell as text, with its row number.

    Args:
        wanted: our name of a column to the file's.
        part: counts blank lines and, where they may be dropped, ragged rows.
        header: whether the first line holds the names of the columns.
        columns: names for a file without a header; None names them by their places, from 0.

    Raises:
        InputError: for a file that is no text table with these columns and rows of one length.
    """
    table = _open(path, list(wanted.values()), separator, quote, header, columns, encoding, part.key)
    _check_columns(table, wanted, separator, part)
    part.first_row = 2 if header else 1
    frame = _parse(table, wanted, table.content)
    if frame is None or frame[_LAST].null_count():
        frame = _whole(table, wanted, frame, part)
    return _restored(table, frame.drop(_LAST))


def read_header(
    path: Path, wanted: Sequence[str], separator: Separator | None, quote: str | None
) -> tuple[list[str], str]:
    """Names of the columns of a text file, and its separator.

    Raises:
        InputError: for a file without a first line.
    """
    table = _open(path, wanted, separator, quote, True, None, "utf-8")
    return table.names, table.separator


def _open(
    path: Path,
    wanted: Sequence[str],
    separator: Separator | None,
    quote: str | None,
    header: bool,
    columns: Sequence[str] | None,
    encoding: Encoding,
    key: str = "data.path",
) -> _Table:
    if header and columns:
        raise InputError(
            "data.columns names the columns of a file without a header, and this one is said to have one",
            where="data.columns",
            fix="data.header=false, or data.columns=null",
        )
    if encoding == "utf-8":
        check_encoding(path)
    content = rewritten(path, encoding, ",") if encoding != "utf-8" else None
    first = lines(path, HEAD, content)
    if not len(first) or not first[0].strip():
        what = "begins with a blank line" if (first.str.strip_chars() != "").any() else "is empty"
        need = "a header line is needed" if header else "a row is needed"
        raise InputError(f"'{path}' {what}", where=f"{path}:1", why=need, fix=f"give another file: {key}=FILE")
    char = separator_char(separator) if separator else guess_separator(path, first.to_list(), wanted, quote)
    if len(char.encode()) > 1:
        content = rewritten(path, encoding, char)
    cells = split_line(first[0], char, quote)
    names = cells if header else _names(path, cells, columns, char)
    return _Table(path, names, char, quote, header, content)


def _names(path: Path, cells: list[str], columns: Sequence[str] | None, separator: str) -> list[str]:
    """The columns of a file without a header."""
    if not columns:
        return [str(at) for at in range(len(cells))]
    if len(columns) != len(cells):
        raise InputError(
            f"data.columns names {len(columns)} columns, and '{path}' has {len(cells)}",
            where=f"{path}:1",
            why=f"its first line, separated by {separator_name(separator)}, is {cells[:20]}",
            fix="name each column in its order, those that are not used too",
        )
    return list(columns)


def _check_columns(table: _Table, wanted: dict[str, str], given: Separator | None, part: Part) -> None:
    path, names = table.path, table.names
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        fix = "rename one of them in the file" if table.header else "data.columns with a name for each column"
        raise InputError(f"column {twice[0]!r} occurs twice", where=f"{path}:1", fix=fix)
    if set(wanted.values()) <= set(names):
        return
    line = table.separator.join(names)
    better = guess_separator(path, [line], list(wanted.values()), table.quote)
    if given and better != table.separator and set(wanted.values()) <= set(split_line(line, better, table.quote)):
        raise InputError(
            f"'{path}' is not separated by {separator_name(table.separator)}",
            where=f"{path}:1",
            why=f"that gives the columns {names}; it looks separated by {separator_name(better)}",
            fix=f"data.separator={separator_name(better)}",
        )
    if line.startswith(("{", "[")):
        raise InputError(f"'{path}' looks like JSON", where=f"{path}:1", fix="data=jsonl, one object a line")
    raise missing_columns(path, wanted, names, f"{path}:1", header=table.header, keys=part.keys)


def _parse(table: _Table, wanted: dict[str, str], content: bytes | None) -> pl.DataFrame | None:
    """The wanted columns and the last, as text, with row numbers from 0; None if a row is too long."""
    places = {ours: table.names.index(theirs) for ours, theirs in wanted.items()} | {_LAST: len(table.names) - 1}
    schema = {str(at): pl.String() for at in range(len(table.names))}
    try:
        frame = pl.read_csv(
            table.path if content is None else content,
            has_header=False,
            skip_lines=int(table.header),
            separator=table.char,
            quote_char=table.quote,
            schema=schema,
            missing_columns="insert",
            glob=False,
            row_index_name=ROW,
            columns=sorted(set(places.values())),
        )
    except pl.exceptions.NoDataError:
        return pl.DataFrame(schema={ROW: pl.UInt32, **dict.fromkeys(places, pl.String)})
    except pl.exceptions.PolarsError as error:
        text = str(error).lower()
        if "more fields" in text or "n_extra" in text:
            return None
        raise (not_utf8(table.path) if "utf-8" in text else unreadable(table.path, error)) from error
    except OSError as error:
        raise broken_archive(table.path, str(error)) from error
    return frame.select(ROW, **{ours: pl.col(str(at)) for ours, at in places.items()})


def _restored(table: _Table, frame: pl.DataFrame) -> pl.DataFrame:
    """Quoted cells may hold the separator, which was replaced in them too."""
    if table.char == table.separator or table.quote is None:
        return frame
    return frame.with_columns(pl.col(pl.String).str.replace_all(NO_SEPARATOR, table.separator, literal=True))


def _whole(table: _Table, wanted: dict[str, str], frame: pl.DataFrame | None, part: Part) -> pl.DataFrame:
    """The frame without blank lines and, where they may be dropped, without ragged rows.

    Polars refuses rows that are too long; those that are too short it fills with nulls, and says nothing.

    Args:
        frame: None where a row is too long.
    """
    text = table.lines()
    odd = _odd_rows(table, text)
    blank = [row for row, cells in odd if not cells]
    part.count("blank line", len(blank))
    if len(blank) < len(odd):
        return _without(table, wanted, text, odd, part)
    if frame is None:
        raise unreadable(table.path, ValueError("the parser found a row that is too long"))
    rows = pl.Series([row - 1 - int(table.header) for row in blank], dtype=frame[ROW].dtype)
    return frame.filter(~pl.col(ROW).is_in(rows.implode())) if blank else frame


def _odd_rows(table: _Table, text: pl.Series) -> list[tuple[int, int]]:
    """Row and number of cells of the rows of another number than the header, 0 for a blank line."""
    bare = text
    if table.quote is not None:
        if _spans_lines(text, table.quote):
            return [found for found in records(text, table.char, table.quote) if found[1] != len(table.names)]
        quote = f"\\x{{{ord(table.quote):x}}}"
        bare = text.str.replace_all(f"{quote}[^{quote}]*{quote}", "")
    counts = bare.str.count_matches(table.char, literal=True) + 1
    counts = pl.select(pl.when(text.str.len_bytes() == 0).then(0).otherwise(counts)).to_series()
    rows = (counts != len(table.names)).arg_true()
    return list(zip((rows + 1).to_list(), counts.gather(rows).to_list(), strict=True))


def _spans_lines(text: pl.Series, quote: str) -> bool:
    """Whether a quoted cell goes over several lines."""
    return bool((text.str.count_matches(quote, literal=True) % 2 != 0).any())


def _without(
    table: _Table, wanted: dict[str, str], text: pl.Series, odd: list[tuple[int, int]], part: Part
) -> pl.DataFrame:
    """The table without its odd rows, where they may be dropped.

    Raises:
        InputError: at the first ragged row, with what was expected and found.
    """
    ragged, n_cells = [found for found in odd if found[1]], len(table.names)
    by_line = table.quote is None or not _spans_lines(text, table.quote)
    if part.on_bad_rows == "error" or not by_line:
        row, cells = ragged[0]
        raise InputError(
            f"a row has {cells} cells where the {'header' if table.header else 'first row'} has {n_cells}"
            + (f" (and {len(ragged) - 1} more such rows)" if len(ragged) > 1 else ""),
            where=f"{table.path}:{row}",
            why=f"expected {n_cells}, got {cells}",
            fix="repair the row" + (", or leave such rows out: data.on_bad_rows=drop" if by_line else ""),
        )
    part.count("ragged row", len(ragged))
    keep = pl.Series([True]).new_from_index(0, len(text)).scatter([row - 1 for row, _ in odd], False)
    out = BytesIO()
    text.filter(keep).to_frame().write_csv(out, include_header=False, quote_style="never")
    frame = _parse(table, wanted, out.getvalue())
    assert frame is not None
    kept = keep.arg_true().slice(int(table.header)) - int(table.header)
    return frame.with_columns(kept.cast(frame[ROW].dtype).alias(ROW))
