"""One table of interactions: CSV, TSV or Parquet, with the columns named."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import polars as pl

from recdistill.data.sources.base import RawLog, Source, hash_arguments, hash_files
from recdistill.data.sources.files import Separator, existing_file
from recdistill.data.sources.reading import Reader
from recdistill.data.sources.rows import Columns, OnBadRows
from recdistill.data.sources.titles import read_titles


class Table(Source):
    """A CSV, TSV or Parquet file, one row an interaction. ``.gz`` and ``.zst`` are read as they are.

    Args:
        path: the file.
        user, item: columns of the ids. Ids are labels: "01" is not "1".
        value: column of the rating or weight, None without.
        time: column of the time, None without: integers, or ISO text, which becomes unix seconds.
        separator: of a text file, by name or as itself; None guesses from header and extension.
        quote: quote character of a text file; None takes quotes as text.
        titles: file with a human name for each item, None without.
        title_item, title: its columns.
        on_bad_rows: ``error`` stops at the first bad row and says where, ``drop`` leaves bad rows out,
            counted.
    """

    def __init__(
        self,
        path: str,
        user: str = "user",
        item: str = "item",
        value: str | None = None,
        time: str | None = None,
        separator: Separator | None = None,
        quote: str | None = '"',
        titles: str | None = None,
        title_item: str = "item",
        title: str = "title",
        on_bad_rows: OnBadRows = "error",
    ):
        self.path = Path(path).expanduser()
        self.titles = Path(titles).expanduser() if titles else None
        self.title_columns = (title_item, title)
        self.reader = Reader(Columns(user, item, value, time), separator, quote, on_bad_rows)

    def fingerprint(self) -> str:
        files = [existing_file(self.path)]
        if self.titles:
            files.append(existing_file(self.titles, "data.titles"))
        return hash_arguments(kind="table", files=hash_files(*files), titles=self.title_columns, **asdict(self.reader))

    def read(self) -> RawLog:
        part = self.reader.read(self.path)
        titles: pl.DataFrame | None = None
        if self.titles:
            item, title = self.title_columns
            titles = read_titles(self.titles, item, title, self.reader.quote)
        return RawLog(part.events, titles, part.dropped, "; ".join(part.notes), part.time_unit)

    def where(self) -> str:
        return str(self.path)
