"""Opening text tables: the file, its encoding, its separator and its header, before anything is parsed."""

from __future__ import annotations

import codecs
import csv
import gzip
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Literal, cast

import polars as pl

from recdistill.errors import InputError

Separator = Literal["comma", "tab", "semicolon", "pipe", "space", ",", "\t", ";", "|", " "]
_BY_NAME = {"comma": ",", "tab": "\t", "semicolon": ";", "pipe": "|", "space": " "}
_NAMES = {char: name for name, char in _BY_NAME.items()}
_BY_EXTENSION = {".csv": ",", ".tsv": "\t", ".inter": "\t", ".item": "\t"}
_COMPRESSED = {".gz", ".zst"}
_BLOCK = 1 << 20
# Share of letters in common from which a name may have been meant: `rating` for `ratings`, not `/opt` for `/nope`.
_SIMILAR = 0.78
# A separator that no text holds: it makes polars give whole lines.
_NO_SEPARATOR = "\x1f"


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
    escaped = str(value).replace('"', '\\"')
    return f"'{key}=\"{escaped}\"'"


def existing_file(path: str | Path, key: str = "data.path", or_folder: bool = False) -> Path:
    """The path, checked to be a file that is not empty.

    Args:
        or_folder: whether a folder may be meant, and offered, where there is nothing.

    Raises:
        InputError: naming the nearest file of that folder where there is none of that name.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        names = ", ".join(sorted(p.name for p in path.iterdir() if p.is_file())[:8]) or "none"
        raise InputError(
            f"'{path}' is a folder, and one file is needed",
            where=key,
            why=f"files there: {names}",
            fix=f"{key}={path}/FILE",
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
    why = f"in '{folder}': " + (", ".join(names[:8]) or "no file")
    return InputError(f"no file '{path}'", where=key, why=why, fix=f"{key}=FILE")


def check_encoding(path: Path) -> None:
    """Raise InputError for UTF-16 and UTF-32, which would read as one garbled column."""
    if path.suffix.lower() == ".zst":
        return
    with _open(path) as stream:
        try:
            head = stream.read(512)
        except (OSError, EOFError) as error:
            raise broken_archive(path, str(error)) from error
    marks = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
    if head.startswith(marks) or head.count(0) > len(head) // 4:
        raise InputError(
            f"'{path}' is UTF-16, not UTF-8",
            where=str(path),
            why="its first bytes say so",
            fix=f"iconv -f UTF-16 -t UTF-8 '{path}' > utf8.csv",
        )


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
        fix=f"iconv -f LATIN1 -t UTF-8 '{path}' > utf8.csv",
    )


def _row_of_bad_byte(path: Path) -> int | None:
    if path.suffix.lower() == ".zst":
        return None
    decoder, row = codecs.getincrementaldecoder("utf-8")(), 1
    with _open(path) as stream:
        while block := stream.read(_BLOCK):
            try:
                row += decoder.decode(block).count("\n")
            except UnicodeDecodeError as error:
                return row + error.object[: error.start].count(b"\n")
    return None


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def lines(path: Path, count: int | None = None) -> pl.Series:
    """The lines of a text file, compressed or not, without their ends.

    Args:
        count: how many, None for all.
    """
    try:
        frame = pl.read_csv(
            path,
            separator=_NO_SEPARATOR,
            quote_char=None,
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
    return frame["line"].fill_null("").str.strip_chars_end("\r")


def unreadable(path: Path, error: Exception) -> InputError:
    """The error for a file that the parser gave up on."""
    return InputError(
        f"'{path}' can't be parsed as a table",
        where=str(path),
        why=str(error).strip().split("\n")[0][:200],
        fix="look for a quote that is not closed, or read quotes as text: data.quote=null",
    )


def split_line(line: str, separator: str, quote: str | None) -> list[str]:
    """The cells of one line."""
    if quote is None:
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator, quotechar=quote), [""])


def guess_separator(path: Path, header: str, wanted: Sequence[str], quote: str | None) -> str:
    """The separator under which the header holds most of the wanted columns, then the most columns.

    The extension decides between equals.
    """
    usual = _BY_EXTENSION.get(suffix(path), ",")

    def merit(char: str) -> tuple[int, int, bool]:
        cells = split_line(header, char, quote)
        return sum(name in cells for name in wanted), len(cells), char == usual

    return max(_NAMES, key=merit)


def records(path: Path, separator: str, quote: str | None) -> Iterator[tuple[int, int]]:
    """Row number (the header is row 1) and number of cells of each record, for finding a bad one. Slow."""
    text = iter(lines(path))
    if quote is None:
        for row, line in enumerate(text, start=1):
            yield row, len(line.split(separator)) if line else 0
        return
    for row, cells in enumerate(csv.reader((f"{line}\n" for line in text), delimiter=separator, quotechar=quote), 1):
        yield row, len(cells)
