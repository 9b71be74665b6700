"""Generic tables: CSV, TSV, JSON lines and Parquet, a row an interaction."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import polars as pl

from recdistill.data.sources.base import RawLog, Source, hash_arguments, hash_files
from recdistill.data.sources.feature_files import FeatureFiles
from recdistill.data.sources.files import Encoding, Quote, Separator, existing_file
from recdistill.data.sources.folders import data_files
from recdistill.data.sources.frames import Form, Format
from recdistill.data.sources.numbers import Decimal
from recdistill.data.sources.only import Only, as_texts
from recdistill.data.sources.reading import Reader
from recdistill.data.sources.rows import Columns, Name, OnBadRows
from recdistill.data.sources.spec import FeatureSpec
from recdistill.data.sources.titles import read_titles


class Table(Source):
    """A CSV, TSV, JSON lines or Parquet file, one row an interaction, or a folder of such files that are its parts.

    ``.gz`` and ``.zst`` are read as they are. In JSON lines and Parquet ``who.id`` is the field ``id`` of the
    objects in the column ``who``.

    Args:
        path: the file; a folder, of which all files are read in the order of their names; or a pattern such as
            ``logs/*.csv``.
        user, item: columns of the ids. Ids are labels: "01" is not "1". They are kept as written, blanks too; a cell
            of blanks alone is a missing id.
        value: column of the rating or weight, None without.
        time: column of the time, None without: integers, or dates as text, which become unix seconds.
        time_format: of the dates, such as ``%d.%m.%Y %H:%M``; None for ISO text.
        decimal: ``point`` or ``comma``, in values and numeric features of the log that are text.
        only: texts to keep rows by, such as ``{"event": ["buy", "cart"]}``; None keeps all.
        format: ``text``, ``jsonl`` or ``parquet``; None goes by the extension.
        separator: of a text file, by name or as itself; None guesses from the first lines and the extension.
        quote: quote character of a text file; None takes quotes as text.
        header: whether the first line of a text file holds the names of the columns.
        columns: their names where it does not; None names them by their places, from 0.
        encoding: of text and JSON lines.
        titles: file with a human name for each item, None without.
        title_item, title: its columns.
        features: of users, items and events: see :mod:`recdistill.data.sources.spec`; None without.
        on_bad_rows: ``error`` stops at the first bad row and says where, ``drop`` leaves bad rows out,
            counted.
    """

    def __init__(
        self,
        path: str,
        user: Name = "user",
        item: Name = "item",
        value: Name | None = None,
        time: Name | None = None,
        format: Format | None = None,
        separator: Separator | None = None,
        quote: Quote | None = '"',
        header: bool = True,
        columns: list[Name] | None = None,
        encoding: Encoding = "utf-8",
        titles: str | None = None,
        title_item: Name = "item",
        title: Name = "title",
        features: FeatureSpec | None = None,
        on_bad_rows: OnBadRows = "error",
        time_format: str | None = None,
        decimal: Decimal = "point",
        only: Only | None = None,
    ):
        self.path = Path(path).expanduser()
        self.titles = Path(titles).expanduser() if titles else None
        self.title_columns = (str(title_item), str(title))
        self.columns = Columns.of(user, item, value, time)
        names = [str(name) for name in columns] if columns else None
        form = Form(format, separator, quote, header, names, encoding, decimal, time_format)
        folder = self.path if self.path.is_dir() else self.path.parent
        self.features = FeatureFiles(features, folder, self.columns)
        self.reader = Reader(self.columns, form, on_bad_rows, self.features.context, only=as_texts(only))

    def fingerprint(self) -> str:
        files = [*data_files(self.path), *self.features.paths()]
        if self.titles:
            files.append(existing_file(self.titles, "data.titles"))
        return hash_arguments(
            kind="table",
            files=hash_files(*files),
            titles=self.title_columns,
            features=self.features.settings(),
            columns=asdict(self.columns),
            form=asdict(self.reader.form),
            on_bad_rows=self.reader.on_bad_rows,
            only=self.reader.only,
        )

    def read(self) -> RawLog:
        part = self.reader.read(self.path)
        titles: pl.DataFrame | None = None
        if self.titles:
            titles = read_titles(self.titles, *self.title_columns, self.reader.form.quote)
        log = RawLog(part.events, titles, part.dropped, "; ".join(part.notes), part.time_unit, warnings=part.warnings)
        return self.features.add(log)

    def where(self) -> str:
        return str(self.path)
