"""Tables of labelled examples, as for click prediction: Criteo, Avazu, and logs of one's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import polars as pl

from recdistill.data.sources.base import PARTS, RESERVED, Kind, RawLog, Source, hash_arguments, hash_files
from recdistill.data.sources.clock import Clock
from recdistill.data.sources.files import Separator, nearest, override, printable
from recdistill.data.sources.grid import Grid, is_parquet, read_grid
from recdistill.data.sources.labelled import WHOLE, binary, part_files, stack, table
from recdistill.data.sources.text import read_header
from recdistill.errors import InputError

Header = Literal["every", "first"]
MANY = 50  # rows from which on a category of its own for each is no chance
_LABELS = ("click", "clicked", "is_click", "target", "y")  # what a label is often called


class ClickTable(Source):
    """Rows of a label and features: CSV, TSV or Parquet, ``.gz`` and ``.zst`` as they are. There are no users and no
    items; a column of users is a categorical feature like any other.

    Args:
        path: one file, or a folder with a file a part.
        train, valid, test: file names in the folder; None for no such part.
        label: column of the label: 1 for positive, 0 or -1 for negative.
        numeric: columns of numbers, kept as they are; empty cells are missing.
        categorical: columns of categories; None takes all that nothing else names.
        ignore: columns that are left out.
        time: column of the time, None without.
        time_format: of its text, such as ``%y%m%d%H``: hour of the day and weekday are then categorical features,
            too. None takes integers, and ISO text.
        group: categorical feature that tells whose row it is, for AUC by user; None without.
        part: column that says ``train``, ``valid`` or ``test``, None without.
        columns: names of the columns, where text files have no header; None takes the header.
        header: whether every text file has one, or the first only.
        separator: of text files, by name or as itself; None guesses from the first line and the extension.
        quote: quote character of text files with a header; None takes quotes as text.
    """

    def __init__(
        self,
        path: str,
        train: str | None = None,
        valid: str | None = None,
        test: str | None = None,
        label: str = "label",
        numeric: Sequence[str] = (),
        categorical: Sequence[str] | None = None,
        ignore: Sequence[str] = (),
        time: str | None = None,
        time_format: str | None = None,
        group: str | None = None,
        part: str | None = None,
        columns: Sequence[str] | None = None,
        header: Header = "every",
        separator: Separator | None = None,
        quote: str | None = '"',
    ):
        self.path = Path(path).expanduser()
        self.names = {"train": train, "valid": valid, "test": test}
        self.label, self.time, self.group, self.part = label, time, group, part
        self.numeric, self.ignore = list(numeric), list(ignore)
        self.categorical = None if categorical is None else list(categorical)
        self.time_format = time_format
        self.columns = None if columns is None else list(columns)
        self.header, self.separator, self.quote = header, separator, quote

    def fingerprint(self) -> str:
        files = {part: hash_files(file) for part, file in part_files(self.path, self.names).items()}
        arguments = {name: value for name, value in vars(self).items() if name not in ("path", "names")}
        return hash_arguments(kind="clicks", files=files, **arguments)

    def read(self) -> RawLog:
        grids = self._grids()
        columns = self._features(next(iter(grids.values())))
        clock = Clock(self.time, self.time_format, {name for name, _ in columns.values()})
        frames = {part: self._events(grid, columns, clock) for part, grid in grids.items()}
        kinds = {**dict(columns.values()), **clock.kinds}
        events = stack(frames)
        facts: dict[str, int | str] = {"empty cells": sum(events.select(list(kinds)).null_count().row(0))}
        if self.ignore:
            facts["columns left out"] = ", ".join(self.ignore)
        renamed = [
            f"column '{column}' is the feature '{name}'" for column, (name, _) in columns.items() if column != name
        ]
        return table(
            events,
            kinds,
            facts,
            group=self.group,
            dropped=dict(sum((Counter(grid.dropped) for grid in grids.values()), Counter())),
            note="; ".join([*renamed, *([clock.note] if clock.note else [])]),
            warnings=_warnings(events, kinds) + self._ids(events, kinds),
            time_unit=clock.unit,
        )

    def _ids(self, events: pl.DataFrame, kinds: dict[str, Kind]) -> list[str]:
        """The warning of a column that only numbers the rows."""
        rows = events.height
        ids = [name for name, kind in kinds.items()
               if kind == "categorical" and rows >= MANY and events[name].n_unique() == rows]  # fmt: skip
        if not ids:
            return []
        left_out = f"'data.ignore=[{printable(','.join([*self.ignore, *ids]))}]'"
        if self.categorical is not None:
            left_out = f"data.categorical without {printable(', '.join(ids))}"
        return [f"another category in each row, of which nothing can be learnt: {printable(', '.join(ids))}; {left_out}"
                " leaves it out, unless teacher=rows knows the rows by it"]  # fmt: skip

    def where(self) -> str:
        return str(self.path)

    def _grids(self) -> dict[str, Grid]:
        """The cells of each file."""
        files = part_files(self.path, self.names)
        if self.part and WHOLE not in files:
            raise InputError(
                "the parts are given twice",
                where="data.part",
                why=f"'{self.path}' is a folder, with a file a part",
                fix="data.part=null, or data.path=FILE",
            )
        grids: dict[str, Grid] = {}
        names = self.columns
        for part, file in files.items():
            if grids and names is None and not is_parquet(file):
                self._check_header(file)
            grids[part] = read_grid(file, names, self.separator, self.quote)
            if self.header == "first":
                names = names or grids[part].cells.columns
        return grids

    def _check_header(self, file: Path) -> None:
        """Raises InputError for a file whose first line is no header, where the first file has one."""
        found = read_header(file, [self.label], self.separator, self.quote)[0]
        if self.label not in found:
            raise InputError(
                f"'{file}' has no header line with the column '{self.label}'",
                where=f"{file}:1",
                why=f"its first line is {found[:8]}",
                fix="data.header=first where the training file alone has a header, or data.columns=[...] for none",
            )

    def _roles(self) -> dict[str, list[str]]:
        """The columns that each key of the config names."""
        own = {"label": self.label, "time": self.time, "part": self.part}
        features = {"numeric": self.numeric, "categorical": self.categorical or [], "ignore": self.ignore}
        return {key: [name] for key, name in own.items() if name} | features

    def _features(self, grid: Grid) -> dict[str, tuple[str, Kind]]:
        """The columns that are features, in the order of the file: the name that each gets, and its kind."""
        for key, names in self._roles().items():
            _check_names(grid, key, names)
        taken = Counter(name for names in self._roles().values() for name in set(names))
        twice = [name for name, count in taken.items() if count > 1]
        if twice:
            keys = [f"data.{key}" for key, names in self._roles().items() if twice[0] in names]
            raise InputError(f"column {twice[0]!r} is named twice", where=" and ".join(keys), fix="name it once")
        columns = grid.cells.columns
        free = [name for name in columns if name not in taken]
        categorical = set(free if self.categorical is None else self.categorical)
        found: dict[str, tuple[str, Kind]] = {}
        for column in columns:
            if column in self.numeric or column in categorical:
                found[column] = (_name(column, columns), "numeric" if column in self.numeric else "categorical")
        if not found:
            raise InputError("no column is a feature", where="data.categorical", fix="data.categorical=null")
        return found

    def _events(self, grid: Grid, columns: dict[str, tuple[str, Kind]], clock: Clock) -> pl.DataFrame:
        """Label, time, part and features of a file."""
        for key, names in {"categorical": list(columns), **self._roles()}.items():
            _check_names(grid, key, names)
        fix = f"repair it, or choose another column: {override('data.label', 'COLUMN')}"
        label = binary(grid.text(self.label), grid.rows, grid.path, self.label, fix)
        features = [
            (grid.numbers(column) if kind == "numeric" else grid.text(column)).alias(name)
            for column, (name, kind) in columns.items()
        ]
        frame = pl.DataFrame([label.alias("value"), *features])
        if self.part:
            frame = frame.with_columns(_parts(grid, self.part).alias("part"))
        return frame.with_columns(clock.read(grid)) if self.time else frame


def _name(column: str, columns: Sequence[str]) -> str:
    """The column's name, or one like it where the log has a column of that name: ``user_id`` for ``user``."""
    name = f"{column}_id" if column in ("user", "item") else f"{column}_"
    while column in RESERVED and name in columns:
        name += "_"
    return name if column in RESERVED else column


def _check_names(grid: Grid, key: str, names: Iterable[str]) -> None:
    """Raises InputError for a name that is no column of the file."""
    columns = grid.cells.columns
    for name in names:
        if name not in columns:
            usual = [column for column in columns if column.lower() in _LABELS] if key == "label" else []
            close = [*nearest(name, columns), *usual, None][0]
            many = key in ("numeric", "categorical", "ignore")
            raise InputError(
                f"'{grid.path}' has no column {name!r}",
                where=f"data.{key}",
                why=f"its columns are {columns[:50]}",
                fix=f"did you mean {close!r}?" if close and many else override(f"data.{key}", close or "COLUMN"),
            )


def _parts(grid: Grid, name: str) -> pl.Series:
    """Numbers of the parts that a column names."""
    text = grid.text(name)
    grid.refuse(
        name,
        ~text.is_in(list(PARTS)).fill_null(False),
        "no name of a part",
        f"the parts are {', '.join(PARTS)}",
        "repair it, or data.part=null",
    )
    return text.replace_strict(list(PARTS), list(range(len(PARTS))), return_dtype=pl.Int8)


def _warnings(events: pl.DataFrame, kinds: dict[str, Kind]) -> list[str]:
    """That of a column nothing can be learnt, or no split by time made."""
    found = []
    if "time" in events.columns and events["time"].n_unique() == 1:
        found.append(f"all {events.height:,} times are equal: no split by time is possible")
    values = {name: events[name].n_unique() for name in kinds}
    if same := [name for name, count in values.items() if count == 1]:
        found.append(f"one value in all rows: {', '.join(same)}")
    return found
