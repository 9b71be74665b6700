"""A table of any format, and of one file or several, as a frame under our names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from recdistill.data.sources.files import Encoding, Separator, suffix
from recdistill.data.sources.jsonlines import read_json_lines
from recdistill.data.sources.numbers import Decimal
from recdistill.data.sources.parquet import read_parquet
from recdistill.data.sources.rows import ROW, Part
from recdistill.data.sources.text import read_text
from recdistill.errors import InputError

Format = Literal["text", "jsonl", "parquet"]
_FORMATS: dict[str, Format] = {".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}


@dataclass(frozen=True)
class Form:
    """How a table is written down.

    Args:
        format: None goes by the extension: Parquet, JSON lines, and text for any other.
        separator: of a text file, None to guess.
        quote: quote character of a text file; None takes quotes as text.
        header: whether the first line of a text file holds the names of its columns.
        columns: their names where it does not; None names them by their places, from 0.
        encoding: of text and JSON lines.
        decimal: what stands before the decimals of a number that is text.
        time_format: of its times, such as ``%d.%m.%Y %H:%M``; None for integers and ISO text.
    """

    format: Format | None = None
    separator: Separator | None = None
    quote: str | None = '"'
    header: bool = True
    columns: Sequence[str] | None = None
    encoding: Encoding = "utf-8"
    decimal: Decimal = "point"
    time_format: str | None = None


def read_frame(files: Sequence[Path], wanted: dict[str, str], form: Form, part: Part) -> pl.DataFrame:
    """The wanted columns of the files under our names, one on top of the other, with their row numbers.

    Args:
        wanted: our name of a column to the files'. Those that hold ids are called ``user``, ``item`` or
            ``title_item`` and come as text.
        part: takes the account of what is dropped and where each file begins.

    Raises:
        InputError: for a file that can't be read, lacks a column, or has it in another type than the first.
    """
    frames: list[pl.DataFrame] = []
    start = 0
    for file in files:
        frame = _read_one(file, wanted, form, part)
        if frame.height:
            part.starts[start] = file
            frames.append(frame.with_columns(pl.col(ROW) + start))
            start = int(frames[-1][ROW][-1]) + 1
    if not frames:
        empty = f"'{files[0]}'" if len(files) == 1 else f"none of the {len(files)} files of '{part.path}'"
        raise InputError(
            f"{empty} has a header and no rows" if len(files) == 1 else f"{empty} has rows",
            where=str(part.path),
            fix=f"give another file: {part.key}=FILE",
        )
    return _stacked(frames, list(part.starts.values()), wanted)


def _read_one(file: Path, wanted: dict[str, str], form: Form, part: Part) -> pl.DataFrame:
    kind = form.format or _FORMATS.get(suffix(file), "text")
    if kind == "parquet":
        return read_parquet(file, wanted, part)
    if kind == "jsonl":
        return read_json_lines(file, wanted, part, encoding=form.encoding)
    return read_text(
        file,
        wanted,
        form.separator,
        form.quote,
        part,
        header=form.header,
        columns=form.columns,
        encoding=form.encoding,
    )


def _stacked(frames: list[pl.DataFrame], files: list[Path], wanted: dict[str, str]) -> pl.DataFrame:
    if len(frames) == 1:
        return frames[0]
    first = frames[0].schema
    for frame, file in zip(frames, files, strict=True):
        for name, dtype in frame.schema.items():
            if dtype != first[name] and not _alike(dtype, first[name], name):
                raise InputError(
                    f"column '{wanted[name]}' is {dtype} in '{file.name}' and {first[name]} in '{files[0].name}'",
                    where=f"{file}:{wanted[name]}",
                    why="the files are the parts of one table",
                    fix="write them alike",
                )
    return pl.concat(frames, how="vertical_relaxed")


def _alike(dtype: pl.DataType, other: pl.DataType, name: str) -> bool:
    """Whether two types can be one without loss; times of many digits would lose some as floats."""
    mixed = dtype.is_float() != other.is_float()
    return dtype.is_numeric() and other.is_numeric() and not (mixed and name == "time")
