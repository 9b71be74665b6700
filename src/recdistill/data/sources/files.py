"""Opening text tables: the file, its encoding, its separator and its header, before anything is parsed."""

from __future__ import annotations

import codecs
import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Annotated, Literal, cast

import polars as pl
from annotated_types import Len

from recdistill.errors import InputError

Separator = Literal["comma", "tab", "semicolon", "pipe", "space", "double_colon", "::"] | Annotated[str, Len(1, 1)]
"""By name, or as itself: any one character, or the ``::`` of MovieLens."""
Encoding = Literal["utf-8", "latin-1", "windows-1252", "utf-16"]
Quote = Literal['"', "'", "`"]
_BY_NAME = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|", "space": " ", "double_colon": "::"}
_NAMES = {char: name for name, char in _BY_NAME.items()}
_BY_EXTENSION = {".csv": ",", ".tsv": "\t", ".inter": "\t", ".item": "\t"}
_COMPRESSED = {".gz", ".zst"}
GZIP = b"\x1f\x8b"
BLOCK = 1 << 20
# Share of letters in common from which a name may have been meant: `rating` for `ratings`, not `/opt` for `/nope`.
_SIMILAR = 0.78
NO_SEPARATOR = "\x1f"  # stands for a separator of several bytes: the unit separator of ASCII, which no text holds
_NO_END = "\x1e"  # the record separator, likewise
# Lines that the separator is guessed from, and rows that the types in JSON are.
HEAD = 20


def separator_char(separator: Separator) -> str:
    """The character of a separator given by its name or as itself."""
    return _BY_NAME.get(separator, separator)


def separator_name(char: str) -> str:
    """The name to type for a separator: shells and Hydra make ``;`` and tabs hard to type."""
    return _NAMES.get(char, char)


def suffix(path: Path) -> str:
    """The extension below a compression's: ``.csv`` of ``a.csv.gz``."""
    parts = [part.lower() for part in path.suffixes]
    while parts and parts[-1] in _COMPRESSED:
        parts.pop()
    return parts[-1] if parts else ""


def nearest(name: str, names: Sequence[str], count: int = 1) -> list[str]:
    """The closest of ``names``, ignoring case, best first; empty where none is close."""
    by_lower = {other.lower(): other for other in names}
    found = get_close_matches(name.lower(), list(by_lower), n=count, cutoff=_SIMILAR)
    return [by_lower[other] for other in found]


def override(key: str, value: str | Path) -> str:
    """What to type for a config key, quoted for the shell and for Hydra where the value needs it."""
    if re.fullmatch(r"[\w./:+@%-]+", str(value)):
        return f"{key}={value}"
    escaped = printable(str(value)).replace('"', '\\"')
    return f"'{key}=\"{escaped}\"'"


def printable(text: str) -> str:
    """``text`` with control characters escaped: the name of a file or a column must not steer the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def existing_file(path: str | Path, key: str = "data.path", or_folder: bool = False) -> Path:
    """The path, checked to be a file that is not empty.

    Args:
        or_folder: whether a folder may be meant, and offered, where there is nothing.

    Raises:
        InputError: naming the nearest file of that folder where there is none of that name.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        files = [file for file in path.iterdir() if file.is_file()]
        raise InputError(
            f"'{path}' is a folder, and one file is needed",
            where=key,
            why=f"in it: {names_in(path)}",
            fix=override(key, files[0] if len(files) == 1 else path / "FILE"),
        )
    if not path.is_file():
        raise _missing(path, key, or_folder)
    try:
        empty = path.stat().st_size == 0
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"can't read '{path}'", where=key, why=str(error), fix="check its permissions") from error
    if empty:
        raise InputError(f"'{path}' is empty", where=str(path), why="0 bytes", fix=f"give another file: {key}=FILE")
    return path


def _missing(path: Path, key: str, or_folder: bool) -> InputError:
    folder = path.parent
    if not folder.is_dir():
        while not folder.is_dir() and folder != folder.parent:
            folder = folder.parent
        return InputError(
            f"no file '{path}'",
            where=key,
            why=f"the last folder of that path that exists is '{folder}'",
            fix=f"{key}=FILE",
        )
    names = sorted(other.name for other in folder.iterdir() if or_folder or other.is_file())
    close = nearest(path.name, names)
    if close:
        return InputError(f"no file '{path}'", where=key, fix="did you mean " + override(key, folder / close[0]))
    return InputError(f"no file '{path}'", where=key, why=f"in '{folder}': {names_in(folder)}", fix=f"{key}=FILE")


def names_in(folder: Path) -> str:
    """The first names in a folder, for messages; folders end in ``/``."""
    names = sorted(printable(path.name) + "/" * path.is_dir() for path in folder.iterdir())
    return (", ".join(names[:10]) or "nothing") + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def check_encoding(path: Path) -> None:
    """Raise InputError for what is no UTF-8 text by its first bytes: UTF-16 would read as one garbled column."""
    if path.suffix.lower() == ".zst":
        return
    head = first_bytes(path)
    marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
    if head.startswith(b"PAR1"):
        raise InputError(
            f"'{path}' is a Parquet file, not text",
            where=str(path),
            why="its first bytes say so",
            fix="data=parquet",
        )
    if head.startswith(marks) or head.count(0) > len(head) // 4:
        raise InputError(
            f"'{path}' is UTF-16, not UTF-8",
            where=str(path),
            why="its first bytes say so",
            fix=f"data.encoding=utf-16, or iconv -f UTF-16 -t UTF-8 '{path}' > utf8.csv",
        )


def first_bytes(path: Path, count: int = 512) -> bytes:
    """The first bytes of a file, of a gzip file decompressed."""
    try:
        with open_bytes(path) as stream:
            return stream.read(count)
    except (OSError, EOFError, zlib.error) as error:
        raise broken_archive(path, str(error)) from error


def broken_archive(path: Path, reason: str) -> InputError:
    """The error for a compressed file that ends too early or is damaged."""
    return InputError(
        f"'{path}' can't be decompressed: it is truncated or damaged",
        where=str(path),
        why=reason,
        fix="download or copy the file again",
    )


def not_utf8(path: Path) -> InputError:
    """The error for bytes that are not UTF-8, with the row of the first."""
    row = _row_of_bad_byte(path)
    return InputError(
        f"'{path}' is not UTF-8: it looks like latin-1 (or Windows-1252)",
        where=f"{path}:{row}" if row else str(path),
        fix=f"data.encoding=latin-1, or iconv -f LATIN1 -t UTF-8 '{path}' > utf8.csv",
    )


def _row_of_bad_byte(path: Path) -> int | None:
    if path.suffix.lower() == ".zst":
        return None
    decoder, row = codecs.getincrementaldecoder("utf-8")(), 1
    with open_bytes(path) as stream:
        while block := stream.read(BLOCK):
            try:
                row += decoder.decode(block).count("\n")
            except UnicodeDecodeError as error:
                return row + error.object[: error.start].count(b"\n")
    return None


def open_bytes(path: Path) -> IO[bytes]:
    """The bytes of a file, of a gzip file decompressed, whatever its name."""
    stream = path.open("rb")
    zipped = stream.read(2) == GZIP
    stream.seek(0)
    return cast(IO[bytes], gzip.open(stream)) if zipped else stream


def lines(path: Path, count: int | None = None, content: bytes | None = None) -> pl.Series:
    """The lines of a text file, compressed or not, without their ends.

    Args:
        count: how many, None for all.
        content: to be read in place of the file, which is then named in messages only.
    """
    return _cut(path, "\n", count, content).str.strip_chars_end("\r")


def whole_text(path: Path) -> Iterator[str]:
    """The text of a file, whose compression need not be one that Python knows."""
    for at, text in enumerate(_cut(path, _NO_END)):
        yield (_NO_END if at else "") + text


def _cut(path: Path, end: str, count: int | None = None, content: bytes | None = None) -> pl.Series:
    try:
        frame = pl.read_csv(
            path if content is None else content,
            separator=end,  # the end of a line cuts first, so that nothing cuts within lines
            quote_char=None,
            eol_char=end,
            has_header=False,
            infer_schema=False,
            n_rows=count,
            glob=False,
            new_columns=["line"],
        )
    except pl.exceptions.NoDataError:
        return pl.Series("line", [], dtype=pl.String)
    except pl.exceptions.ComputeError as error:
        raise (not_utf8(path) if "utf-8" in str(error).lower() else unreadable(path, error)) from error
    except OSError as error:
        raise broken_archive(path, str(error)) from error
    return frame["line"].fill_null("")


def unreadable(path: Path, error: Exception) -> InputError:
    """The error for a file that the parser gave up on."""
    return InputError(
        f"'{path}' can't be parsed as a table",
        where=str(path),
        why=printable(str(error).strip().split("\n")[0])[:200],
        fix="look for a quote that is not closed, or read quotes as text: data.quote=null",
    )


def split_line(line: str, separator: str, quote: str | None) -> list[str]:
    """The cells of one line."""
    if quote is None or quote not in line:
        return line.split(separator)
    # The csv module knows separators of one character.
    single = line.replace(separator, NO_SEPARATOR) if len(separator) > 1 else line
    char = NO_SEPARATOR if len(separator) > 1 else separator
    return next(csv.reader([single], delimiter=char, quotechar=quote), [""])


def guess_separator(path: Path, first: Sequence[str], wanted: Sequence[str], quote: str | None) -> str:
    """The separator under which the first line holds most of the wanted columns, then the one that cuts the first
    lines into cells of one number, then the most cells. The extension decides between equals.

    Args:
        first: the first lines, one or more.
    """
    usual = _BY_EXTENSION.get(suffix(path), ",")

    def merit(char: str) -> tuple[int, bool, int, bool]:
        cells = split_line(first[0], char, quote)
        same = all(len(split_line(line, char, quote)) == len(cells) for line in first if line)
        return sum(name in cells for name in wanted), len(cells) > 1 and same, len(cells), char == usual

    return max(_NAMES, key=merit)


def records(text: pl.Series, separator: str, quote: str) -> Iterator[tuple[int, int]]:
    """Row number (the first is 1) and number of cells of each record of quoted lines, for finding a bad one. Slow."""
    rows = csv.reader((f"{line}\n" for line in text), delimiter=separator, quotechar=quote)
    for row, cells in enumerate(rows, start=1):
        yield row, len(cells)
