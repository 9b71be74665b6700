"""Text in another encoding, or with a separator that the parser does not know, made into what it does."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from recdistill.data.sources.files import (
    BLOCK,
    NO_SEPARATOR,
    Encoding,
    broken_archive,
    first_bytes,
    not_utf8,
    open_bytes,
    whole_text,
)
from recdistill.errors import InputError


def has_mark(path: Path) -> bool:
    """Whether the text begins with a byte order mark of UTF-8."""
    return path.suffix.lower() != ".zst" and first_bytes(path, 3) == codecs.BOM_UTF8


def rewritten(path: Path, encoding: Encoding, separator: str) -> bytes:
    """The text of a file in UTF-8, without a byte order mark and with a separator of one byte.

    Args:
        separator: of any length; one of several bytes becomes :data:`NO_SEPARATOR`.

    Raises:
        InputError: for bytes that are not of the encoding, or a separator that can't be replaced.
    """
    out = BytesIO()
    for text in _replaced(path, _texts(path, encoding), separator):
        out.write(text.encode())
    return out.getvalue()


def _texts(path: Path, encoding: Encoding) -> Iterator[str]:
    """The text, block by block."""
    if path.suffix.lower() == ".zst":
        if encoding != "utf-8":
            fix = f"zstd -d '{path}', and give the file that it writes"
            raise InputError(f"'{path}' is compressed and {encoding} at once", where=str(path), fix=fix)
        yield from whole_text(path)
        return
    decoder = codecs.getincrementaldecoder(_codec(path, encoding))()
    try:
        with open_bytes(path) as stream:
            while block := stream.read(BLOCK):
                yield decoder.decode(block)
            yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise (not_utf8(path) if encoding == "utf-8" else _undecodable(path, encoding, error)) from error
    except (OSError, EOFError, zlib.error) as error:
        raise broken_archive(path, str(error)) from error


def _codec(path: Path, encoding: Encoding) -> str:
    """Python's name of an encoding; without its mark, the order of bytes in UTF-16 is told by the first character."""
    if encoding != "utf-16":
        return "utf-8-sig" if encoding == "utf-8" else encoding
    head = first_bytes(path, 2)
    if head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    return "utf-16-be" if head.startswith(b"\0") else "utf-16-le"


def _replaced(path: Path, texts: Iterator[str], separator: str) -> Iterator[str]:
    if len(separator.encode()) == 1:
        yield from texts
        return
    held = ""
    for text in texts:
        if NO_SEPARATOR in text:
            raise InputError(
                f"'{path}' holds the character {NO_SEPARATOR!r}",
                where=str(path),
                why=f"it stands for {separator!r} while the file is read",
                fix="take it out, or write the file with another separator",
            )
        # A separator may lie across the end of a block: the run that it may begin with waits for the next.
        whole = held + text
        ready = whole.rstrip(separator[0])
        held = whole[len(ready) :]
        yield ready.replace(separator, NO_SEPARATOR)
    yield held.replace(separator, NO_SEPARATOR)


def _undecodable(path: Path, encoding: Encoding, error: UnicodeDecodeError) -> InputError:
    return InputError(
        f"'{path}' is not {encoding}",
        where=str(path),
        why=f"{error.reason}: {error.object[error.start : error.start + 4]!r}",
        fix="data.encoding=utf-8, latin-1, windows-1252 or utf-16",
    )
