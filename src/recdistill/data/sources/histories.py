"""Rows of a history and the item that followed it, the form in which language models learn to recommend."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from recdistill.data.sources.base import PARTS, POSITION, TRAIN, Kind, RawLog, Source, hash_arguments, hash_files
from recdistill.data.sources.files import existing_file
from recdistill.data.sources.plain import Cells
from recdistill.data.sources.rows import ROW, Part
from recdistill.data.sources.text import read_header, read_text
from recdistill.errors import InputError

_COLUMNS = {"user": "user_id", "item": "item_id", "history": "history_item_id"}
_CODES, _TEXTS = "info.txt", "*.item.json"


class Histories(Source):
    """A folder of ``train.csv``, ``valid.csv`` and ``test.csv``, a row a history and its target, with the texts of the
    items in ``*.item.json`` and their codes in ``info.txt``.

    Source: the files of Kong et al., 2025, "MiniOneRec" (arXiv:2510.24431); a history is a list of numbers as Python
    writes it, cut to the latest 10 items. The training file, and the files of the items, may be absent.

    The log is put together from all rows of a user. A target is an event of its row's part. What stands in a history
    and is no target of this user was bought before, and is trained on. So a later row that repeats a target of
    validation or test in its history gives nothing away; and an item that was bought before and is a target again
    counts as the target alone. Times are steps of each user's own sequence, as the files hold none.

    Args:
        path: the folder.
        train, valid, test: file names in it; None for no such part.
    """

    def __init__(
        self,
        path: str,
        train: str | None = "train.csv",
        valid: str | None = "valid.csv",
        test: str | None = "test.csv",
    ):
        self.path = Path(path).expanduser()
        self.names = {"train": train, "valid": valid, "test": test}

    def fingerprint(self) -> str:
        files = {part: hash_files(file) for part, file in self._files().items()}
        beside = [file for file in (self._texts(), self._codes()) if file]
        return hash_arguments(kind="histories", files=files, items=hash_files(*beside))

    def read(self) -> RawLog:
        rows = pl.concat(
            _read(file).with_columns(pl.lit(PARTS.index(part), pl.Int8).alias("part"))
            for part, file in self._files().items()
        )
        events, again = _events(rows)
        items = self._items()
        listed = {} if items is None else {"items listed": items.height}
        warnings = []
        if self.names["train"] and not (rows["part"] == TRAIN).any():
            lost = "trained on is what the histories of the other parts still show"
            warnings.append(f"{self.names['train']} is not there: {lost}")
        if again:
            warnings.append(f"{again} pairs of a user and an item bought before are targets again: they count as such")
        kinds: dict[str, Kind] = {"description": "text", "code": "categorical"}
        return RawLog(
            events,
            items,
            note="the files hold no times: those here are steps of each user's own sequence",
            time_unit=POSITION,
            kinds={"item": {name: kind for name, kind in kinds.items() if items is not None and name in items.columns}},
            facts={**_facts(rows), **listed},
            warnings=warnings,
        )

    def where(self) -> str:
        return str(self.path)

    def _files(self) -> dict[str, Path]:
        """The file of each part, without a training file that is not there."""
        if not self.path.is_dir():
            existing_file(self.path, or_folder=True)
            raise InputError(
                f"'{self.path}' is a file, and a folder is needed", where="data.path", fix="data.path=FOLDER"
            )
        files = {part: self.path / name for part, name in self.names.items() if name}
        if len(files) > 1 and "train" in files and not files["train"].is_file():
            del files["train"]
        return {part: existing_file(file, f"data.{part}") for part, file in files.items()}

    def _texts(self) -> Path | None:
        return next(iter(sorted(self.path.glob(_TEXTS))), None)

    def _codes(self) -> Path | None:
        return self.path / _CODES if (self.path / _CODES).is_file() else None

    def _items(self) -> pl.DataFrame | None:
        """Title, description and code of each item that is listed."""
        texts, codes = self._texts(), self._codes()
        if texts is None:
            return _read_codes(codes) if codes else None
        items = _read_texts(texts)
        if codes:
            items = items.join(_read_codes(codes).drop("title"), on="item", how="left", maintain_order="left")
        return items


def _read(file: Path) -> pl.DataFrame:
    """``user``, ``item`` and ``history`` (List(String)) of a file."""
    found = read_header(file, [], "comma", '"')[0]
    lacking = [name for name in _COLUMNS.values() if name not in found]
    if lacking:
        raise InputError(
            f"'{file}' has no column '{lacking[0]}'",
            where=f"{file}:1",
            why=f"its columns are {found[:20]}; needed: {list(_COLUMNS.values())}",
            fix="give the files as they were published, or data=files for a table of user and item",
        )
    frame = read_text(file, _COLUMNS, "comma", '"', Part(file))
    if not frame.height:
        raise InputError(f"'{file}' has a header and no rows", where=str(file), fix="give another file")
    history = frame["history"].str.strip_chars()
    for name, good, what in (
        ("user", frame["user"].str.strip_chars() != "", "an id"),
        ("item", frame["item"].str.strip_chars() != "", "an id"),
        ("history", history.str.contains(r"^\[(\d+(, *\d+)*)?\]$"), "a list of numbers such as [12, 7]"),
    ):
        bad = ~good.fill_null(False)
        if bad.any():
            at = bad.arg_max() or 0
            raise InputError(
                f"{frame[name][at]!r} in column '{_COLUMNS[name]}' is not {what}",
                where=f"{file}:{frame[ROW][at] + 2}:{_COLUMNS[name]}",
                fix="repair the row, or take it out",
            )
    return frame.with_columns(history.str.extract_all(r"\d+").alias("history"))


def _events(rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The log that the rows were cut from, and how many of a user's first history are targets again.

    The latest row of a user within a part is the one with the longest history, then the lower one: histories grow
    until they are cut.
    """
    length = pl.col("history").list.len().cast(pl.Int64)
    rows = rows.with_columns(length=length).sort("user", "part", "length", ROW)
    step = pl.int_range(pl.len()).over("user")
    rows = rows.with_columns(time=pl.col("length").first().over("user") + step, first=step == 0)
    targets = rows.select("user", "item", "time", "part")
    before = (
        rows.select("user", "first", item="history", time=pl.int_ranges(pl.col("time") - length, pl.col("time")))
        .explode("item", "time", empty_as_null=False)
        .sort("user", "time", pl.col("first").not_(), "item")
        .unique(["user", "item"], keep="first", maintain_order=True)
    )
    bought = before.join(targets, on=["user", "item"], how="anti", maintain_order="left")
    again = before.filter("first").join(targets, on=["user", "item"], how="semi").height
    bought = bought.select("user", "item", "time", pl.lit(TRAIN, pl.Int8).alias("part"))
    return pl.concat([bought, targets]), again


def _facts(rows: pl.DataFrame) -> dict[str, int | str]:
    facts: dict[str, int | str] = {}
    for number in sorted(rows["part"].unique()):
        users = rows.filter(pl.col("part") == number)["user"]
        facts[f"{PARTS[number]} targets"] = f"{len(users):,} of {users.n_unique():,} users"
    facts["longest history"] = rows.select(pl.col("history").list.len().max()).item()
    return facts


def _read_texts(file: Path) -> pl.DataFrame:
    """``item``, ``title`` and ``description`` of a JSON object of objects; empty texts are missing."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        columns = {"title": pl.String, "description": pl.String}
        texts = pl.DataFrame(list(content.values()), schema=columns, strict=True)
    except (ValueError, AttributeError, TypeError, pl.exceptions.PolarsError) as error:
        raise InputError(
            f"'{file}' is not an object of items with a title and a description",
            where=str(file),
            why=str(error).split("\n")[0][:200],
            fix="take the file away, and the items go without texts",
        ) from error
    # Descriptions are lists as Python writes them, and "['', '']" says no more than "".
    nothing = pl.col(pl.String).str.contains(r"^[\[\]'\", ]*$")
    texts = texts.with_columns(pl.when(~nothing).then(pl.col(pl.String).str.strip_chars()))
    return texts.select(pl.Series("item", list(content), dtype=pl.String), *columns)


def _read_codes(file: Path) -> pl.DataFrame:
    """``code``, ``title`` and ``item`` of each listed item."""
    return Cells(file.name, "\t", ("code", "title", "item")).read_listed(file.parent, "item")
