"""LightGCN's folders: one file a part, one line a user with all its items."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from recdistill.data.sources.base import PARTS, TRAIN, RawLog, Source, hash_arguments, hash_files
from recdistill.data.sources.counts import not_listed
from recdistill.data.sources.files import names_in
from recdistill.data.sources.id_rows import read_id_rows, unroll
from recdistill.data.sources.plain import Cells, file_in, read_lines
from recdistill.errors import InputError


class Adjacency(Source):
    """Files with lines ``user item item ...`` of integers, one for each part of a split drawn elsewhere.

    It goes with ``data/split=given``. There are no times and no values. Lines of a user without items are passed over
    and counted.

    Source: He et al., 2020, "LightGCN" (arXiv:2002.02126), and the repositories that took over its files.

    Args:
        path: the folder.
        train, valid, test: file names in it. ``valid`` and ``test`` may be None: that part is then empty.
        users, items: file names of the lists that give each number its original id (``org_id remap_id``, with this
            header), None to keep the numbers.
    """

    def __init__(
        self,
        path: str,
        train: str = "train.txt",
        valid: str | None = None,
        test: str | None = "test.txt",
        users: str | None = None,
        items: str | None = None,
    ):
        self.path = Path(path).expanduser()
        self.parts = {"train": train, "valid": valid, "test": test}
        self.lists = {"users": users, "items": items}

    def fingerprint(self) -> str:
        names = {**self.parts, **self.lists}
        files = {key: hash_files(self._file(key, name)) for key, name in names.items() if name}
        return hash_arguments(kind="adjacency", files=files)

    def read(self) -> RawLog:
        frames, dropped = [], {}
        for number, part in enumerate(PARTS):
            name = self.parts[part]
            if name:
                pairs, empty = _pairs(self._file(part, name))
                frames.append(pairs.with_columns(pl.lit(number, pl.Int8).alias("part")))
                dropped[f"user without items in {name}"] = empty
        events = pl.concat(frames)
        facts = _facts(events)
        for key, column in (("users", "user"), ("items", "item")):
            name = self.lists[key]
            if name:
                events = self._original(events, column, self._file(key, name))
        return RawLog(events, dropped=dropped, facts=facts)

    def where(self) -> str:
        return str(self.path)

    def _file(self, key: str, name: str) -> Path:
        if key != "train" and self.path.is_dir() and not (self.path / name).is_file():
            raise InputError(
                f"no file '{name}' in '{self.path}'",
                where=f"data.{key}",
                why=f"there is {names_in(self.path)}",
                fix=f"data.{key}=null to go without, or data.{key}=FILE",
            )
        return file_in(self.path, name, f"data.{key}")

    def _original(self, events: pl.DataFrame, column: str, file: Path) -> pl.DataFrame:
        """The events with the original ids of a column in place of its numbers."""
        header = tuple(read_lines(file)[0].split(" "))
        names = {"org_id": "original", "remap_id": "number"}
        cells = Cells(file.name, " ", tuple(names.get(name, name) for name in header), header)
        if not set(names) <= set(header) or len(set(header)) < len(header):
            cells = Cells(file.name, " ", tuple(names.values()), tuple(names))  # its reading says what is wrong
        pairs = cells.read(file.parent).select(names.values())
        for name in names.values():
            cells.refuse(file.parent, pairs[name], ~pairs[name].is_first_distinct(), "an id is listed twice")
        named = events.join(pairs, left_on=column, right_on="number", how="left", maintain_order="left")
        lost = named["original"].is_null()
        if lost.any():
            raise InputError(
                f"'{file}' does not list {column} {events[column].filter(lost)[0]}",
                where=str(file),
                why=f"{not_listed(events[column], pairs['number'])} of the {column}s are not in it",
                fix=f"give the list of these files, or go without: data.{column}s=null",
            )
        return named.with_columns(pl.col("original").alias(column)).select(events.columns)


def _pairs(file: Path) -> tuple[pl.DataFrame, int]:
    """Users and items of a file, and the number of its users without items."""
    rows = read_id_rows(file)
    items = rows.list.slice(1)
    row, _, item = unroll(items)
    pairs = pl.DataFrame({"user": rows.list.first()[row], "item": item})
    return pairs, int((items.list.len() == 0).sum())


def _facts(events: pl.DataFrame) -> dict[str, int | str]:
    """Rows of the parts, and who is absent from the training part."""
    train = events.filter(pl.col("part") == TRAIN)
    absent = {name: not_listed(events[name], train[name].unique()) for name in ("user", "item")}
    return {
        "absent from train": f"{absent['user']:,} users, {absent['item']:,} items",
    }
