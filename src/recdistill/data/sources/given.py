"""A split that somebody else drew: one file for each part, in one folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import polars as pl

from recdistill.data.sources.base import PARTS, RawLog, Source, hash_arguments, hash_files
from recdistill.data.sources.feature_files import FeatureFiles
from recdistill.data.sources.files import Encoding, Quote, Separator, existing_file
from recdistill.data.sources.folders import data_files, offer_below
from recdistill.data.sources.frames import Form
from recdistill.data.sources.numbers import Decimal
from recdistill.data.sources.only import Only, as_texts
from recdistill.data.sources.reading import Reader
from recdistill.data.sources.rows import Columns, Name, OnBadRows
from recdistill.data.sources.spec import FeatureSpec
from recdistill.data.sources.titles import read_titles
from recdistill.errors import InputError


class Given(Source):
    """Train, validation and test files (CSV, TSV, JSON lines or Parquet) of a split drawn elsewhere.

    It goes with ``data/split=given``.

    Args:
        path: the folder.
        train, valid, test: file names in it, or names of folders of parts. ``valid`` and ``test`` may be None: that
            part is then empty.
        user, item: columns of the ids. Ids are labels: "01" is not "1".
        value: column of the rating or weight, None without.
        time: column of the time, None without.
        time_format, decimal, only: as those of a :class:`~recdistill.data.sources.table.Table`.
        separator: of text files, by name or as itself; None guesses from the first lines and the extension.
        quote: quote character of text files; None takes quotes as text.
        header: whether the first line of text files holds the names of the columns.
        columns: their names where it does not; None names them by their places, from 0.
        encoding: of text and JSON lines.
        titles: file name in the folder with a human name for each item, None without.
        title_item, title: its columns.
        features: of users, items and events: see :mod:`recdistill.data.sources.spec`; None without.
        on_bad_rows: ``error`` stops at the first bad row and says where, ``drop`` leaves bad rows out,
            counted.
    """

    def __init__(
        self,
        path: str,
        train: str = "train.csv",
        valid: str | None = "valid.csv",
        test: str | None = "test.csv",
        user: Name = "user",
        item: Name = "item",
        value: Name | None = None,
        time: Name | None = None,
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
        self.names = {"train": train, "valid": valid, "test": test}
        self.titles = self.path / titles if titles else None
        self.title_columns = (str(title_item), str(title))
        self.columns = Columns.of(user, item, value, time)
        names = [str(name) for name in columns] if columns else None
        self.form = Form(None, separator, quote, header, names, encoding, decimal, time_format)
        self.only = as_texts(only)
        self.features = FeatureFiles(features, self.path, self.columns)
        self.on_bad_rows = on_bad_rows

    def fingerprint(self) -> str:
        files = {part: hash_files(*data_files(path, f"data.{part}")) for part, path in self._files().items()}
        titles = hash_files(existing_file(self.titles, "data.titles")) if self.titles else None
        return hash_arguments(
            kind="given",
            files=files,
            titles=[titles, *self.title_columns],
            columns=asdict(self.columns),
            form=asdict(self.form),
            features=[hash_files(*self.features.paths()), self.features.settings()],
            on_bad_rows=self.on_bad_rows,
            only=self.only,
        )

    def read(self) -> RawLog:
        # Each part is read by itself, so that nothing in the test has a say in how training is read.
        frames, dropped, notes, warnings, units = [], dict[str, int](), list[str](), list[str](), {}
        scales = dict[str, str]()
        for number, name in enumerate(PARTS):
            if name not in self._files():
                continue
            reader = Reader(self.columns, self.form, self.on_bad_rows, self.features.context, f"data.{name}", self.only)
            part = reader.read(self._files()[name])
            frames.append(part.events.with_columns(pl.lit(number, pl.Int8).alias("part")))
            units[name] = part.time_unit
            scales[name] = part.time_unit + (" in millionths" if part.time_in_millionths else "")
            notes += part.notes
            warnings += part.warnings
            for reason, count in part.dropped.items():
                dropped[reason] = dropped.get(reason, 0) + count
        if self.columns.time and len(set(scales.values())) > 1:
            raise InputError(
                "the files hold times in different units",
                where=str(self.path),
                why=", ".join(f"{name}: {scale}" for name, scale in scales.items()),
                fix="bring them to one unit",
            )
        titles = read_titles(self.titles, *self.title_columns, self.form.quote) if self.titles else None
        log = RawLog(pl.concat(frames), titles, dropped, "; ".join(notes), units["train"], warnings=warnings)
        return self.features.add(log)

    def where(self) -> str:
        return str(self.path)

    def _files(self) -> dict[str, Path]:
        if not self.path.is_dir():
            # Raises with the nearest name, or says that a folder is needed.
            existing_file(self.path, or_folder=True)
            raise InputError(
                f"'{self.path}' is a file, and a folder is needed", where="data.path", fix="data.path=FOLDER"
            )
        offer_below(self.path, [name for name in self.names.values() if name])
        return {name: self.path / file for name, file in self.names.items() if file is not None}
