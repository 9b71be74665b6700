"""One line a user with the items in the order of time, as the literature on sequence models publishes its data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from recdistill.data.sources.base import POSITION, RawLog, Source, hash_arguments, hash_files
from recdistill.data.sources.files import lines
from recdistill.data.sources.id_rows import read_id_rows, unroll
from recdistill.data.sources.plain import file_in
from recdistill.errors import InputError


class Sequences(Source):
    """A file with lines ``user item item ...`` of integers, the items in the order of time.

    The time of an event is its position in the line, from 0. It orders the events of one user and says nothing of two,
    so ``data/split=leave_one_out`` fits, and a split at one moment for all does not.

    Source: Zhou et al., 2020, "S3-Rec" (arXiv:2008.07873), and the repositories that took over its files.

    Args:
        path: the folder.
        sequences: file name of the lines.
        attributes: file name of a JSON object from items to lists of attributes, which become the feature
            ``attributes``; None goes without.
    """

    def __init__(self, path: str, sequences: str, attributes: str | None = None):
        self.path = Path(path).expanduser()
        self.sequences, self.attributes = sequences, attributes

    def fingerprint(self) -> str:
        names = {"data.sequences": self.sequences, "data.attributes": self.attributes}
        files = {key: hash_files(file_in(self.path, name, key)) for key, name in names.items() if name}
        return hash_arguments(kind="sequences", files=files)

    def read(self) -> RawLog:
        file = file_in(self.path, self.sequences, "data.sequences")
        rows = read_id_rows(file)
        users, lists = rows.list.first(), rows.list.slice(1)
        twice = (~users.is_first_distinct()).arg_true()
        if len(twice):
            raise InputError(
                f"user {users[twice[0]]} has a second line",
                where=f"{file}:{twice[0] + 1}",
                why="which of the two came first is not known",
                fix="join the lines of a user in the order of time",
            )
        row, position, item = unroll(lists)
        events = pl.DataFrame({"user": users[row], "item": item, "time": pl.Series(position, dtype=pl.Int64)})
        items = self._items() if self.attributes else None
        lengths = lists.list.len().to_numpy()
        facts: dict[str, int | str] = {
            "sequence length": f"{lengths.min()} to {lengths.max()} items, {len(item) / len(rows):.1f} on average"
        }
        if items is not None:
            facts["attributes"] = items["attributes"].explode().drop_nulls().n_unique()
            facts["items with attributes"] = int((items["attributes"].list.len() > 0).sum())
        return RawLog(
            events,
            items,
            dropped={"user without items": int((lengths == 0).sum())},
            note="times are positions in the sequence of a user",
            time_unit=POSITION,
            kinds={} if items is None else {"item": {"attributes": "multi"}},
            facts=facts,
        )

    def where(self) -> str:
        return str(self.path)

    def _items(self) -> pl.DataFrame:
        file = file_in(self.path, self.attributes or "", "data.attributes")
        found = read_object(file)
        odd = next((key for key, value in found.items() if not isinstance(value, list)), None)
        if odd is not None:
            raise InputError(f"item {odd!r} has no list of attributes", where=str(file), fix="make it a list")
        try:
            attributes = pl.Series("attributes", list(found.values()), dtype=pl.List(pl.Int64))
        except (TypeError, pl.exceptions.PolarsError):
            attributes = pl.Series("attributes", [[str(word) for word in words] for words in found.values()])
        return pl.DataFrame({"item": list(found), "attributes": attributes.cast(pl.List(pl.String))})


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object of a file.

    Raises:
        InputError: with the line and column of what is no JSON.
    """
    try:
        found = json.loads("\n".join(lines(file)))
    except json.JSONDecodeError as error:
        place = f"{file}:{error.lineno}:{error.colno}"
        raise InputError(f"'{file}' is no JSON", where=place, why=error.msg, fix="copy the file again") from error
    if not isinstance(found, dict):
        raise InputError(f"'{file}' holds no JSON object", where=str(file), fix='give a file such as {{"item": [1]}}')
    return found
