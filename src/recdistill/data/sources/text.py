"""Parsing a text table, every cell as text, and finding the rows of another length than the header."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import polars as pl

from recdistill.data.sources.files import (
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


def read_text(
    path: Path, wanted: dict[str, str], separator: Separator | None, quote: str | None, part: Part
) -> pl.DataFrame:
    """The wanted columns of a text file under our names, every cell as text, with its row number.

    Args:
        wanted: our name of a column to the file's.
        part: counts blank lines and, where they may be dropped, ragged rows.

    Raises:
        InputError: for a file that is no UTF-8 table with these columns and rows of one length.
    """
    check_encoding(path)
    header, char = read_header(path, list(wanted.values()), separator, quote)
    _check_columns(path, wanted, header, char, separator, quote)
    frame = _parse(path, path, header, list(wanted.values()), char, quote)
    if frame is None or _may_be_short(path, frame, header[-1], char, len(header), quote):
        buffer = _without_ragged(path, char, len(header), quote, part)
        frame = _parse(path, buffer, header, list(wanted.values()), char, quote)
        assert frame is not None
    blank = pl.all_horizontal(pl.exclude(ROW).is_null())
    kept = frame.filter(~blank)
    part.count("blank line", frame.height - kept.height)
    return kept.select(ROW, **{ours: pl.col(theirs) for ours, theirs in wanted.items()})


def read_header(
    path: Path, wanted: Sequence[str], separator: Separator | None, quote: str | None
) -> tuple[list[str], str]:
    """Names of the columns of a text file, and its separator character.

    Raises:
        InputError: for a file without a first line.
    """
    first = lines(path, 1)
    if not len(first) or not first[0].strip():
        raise InputError(f"'{path}' is empty", where=f"{path}:1", why="a header line is needed", fix="add one")
    char = separator_char(separator) if separator else guess_separator(path, first[0], wanted, quote)
    return split_line(first[0], char, quote), char


def _check_columns(
    path: Path,
    wanted: dict[str, str],
    header: list[str],
    char: str,
    given: Separator | None,
    quote: str | None,
) -> None:
    if len(set(header)) < len(header):
        twice = sorted({name for name in header if header.count(name) > 1})
        raise InputError(f"column {twice[0]!r} occurs twice", where=f"{path}:1", fix="rename one of them in the file")
    if set(wanted.values()) <= set(header):
        return
    line = char.join(header)
    better = guess_separator(path, line, list(wanted.values()), quote)
    if given and better != char and set(wanted.values()) <= set(split_line(line, better, quote)):
        raise InputError(
            f"'{path}' is not separated by {separator_name(char)}",
            where=f"{path}:1",
            why=f"that gives the columns {header}; it looks separated by {separator_name(better)}",
            fix=f"data.separator={separator_name(better)}",
        )
    if len(header) == 1 and "::" in line:
        fix = f"rewrite it with tabs and a header: sed 's/::/\\t/g' '{path}'"
        raise InputError(f"'{path}' is separated by '::'", where=f"{path}:1", why="one character is needed", fix=fix)
    raise missing_columns(path, wanted, header, f"{path}:1")


def _parse(
    path: Path, data: Path | BytesIO, header: list[str], wanted: list[str], char: str, quote: str | None
) -> pl.DataFrame | None:
    """The wanted columns and the last, as text, with row numbers from 0; None if a row is too long."""
    try:
        frame = pl.read_csv(
            data,
            separator=char,
            quote_char=quote,
            infer_schema=False,
            glob=False,
            row_index_name=ROW,
            columns=sorted({header.index(name) for name in [*wanted, header[-1]]}),
        )
    except pl.exceptions.NoDataError:
        return pl.DataFrame(schema={ROW: pl.UInt32, **dict.fromkeys(header, pl.String)})
    except pl.exceptions.ComputeError as error:
        text = str(error).lower()
        if "more fields" in text:
            return None
        raise (not_utf8(path) if "utf-8" in text else unreadable(path, error)) from error
    except OSError as error:
        raise broken_archive(path, str(error)) from error
    return frame


def _may_be_short(path: Path, frame: pl.DataFrame, last: str, char: str, n_cells: int, quote: str | None) -> bool:
    """Whether a row has fewer cells than the header: polars fills such rows with nulls and says nothing."""
    suspects = frame.filter(pl.col(last).is_null()).height
    if not suspects:
        return False
    return any(cells not in (0, n_cells) for _, cells in _cells(path, char, n_cells, quote))


def _cells(path: Path, char: str, n_cells: int, quote: str | None) -> list[tuple[int, int]]:
    """Row and number of cells of the rows without ``n_cells``, 0 for a blank line. Slow with quotes."""
    text = lines(path)
    if quote is not None and text.str.contains(quote, literal=True).any():
        return [(row, cells) for row, cells in records(path, char, quote) if cells != n_cells]
    counts = text.str.count_matches(char, literal=True) + 1
    counts = pl.select(pl.when(text.str.len_bytes() == 0).then(0).otherwise(counts)).to_series()
    rows = (counts != n_cells).arg_true()
    return list(zip((rows + 1).to_list(), counts.gather(rows).to_list(), strict=True))


def _without_ragged(path: Path, char: str, n_cells: int, quote: str | None, part: Part) -> BytesIO:
    """The file's text without its ragged rows, where they may be dropped.

    Raises:
        InputError: at the first ragged row, with what was expected and found.
    """
    ragged = [(row, cells) for row, cells in _cells(path, char, n_cells, quote) if cells]
    if not ragged:
        raise unreadable(path, ValueError("the parser found a row that is too long"))
    text = lines(path)
    quoted = quote is not None and text.str.contains(quote, literal=True).any()
    if part.on_bad_rows == "error" or quoted:
        row, cells = ragged[0]
        raise InputError(
            f"a row has {cells} cells where the header has {n_cells}"
            + (f" (and {len(ragged) - 1} more such rows)" if len(ragged) > 1 else ""),
            where=f"{path}:{row}",
            why=f"expected {n_cells}, got {cells}",
            fix="repair the row" + ("" if quoted else ", or leave such rows out: data.on_bad_rows=drop"),
        )
    part.count("ragged row", len(ragged))
    keep = pl.Series([True]).new_from_index(0, len(text)).scatter([row - 1 for row, _ in ragged], False)
    return BytesIO("\n".join(text.filter(keep).to_list()).encode())
