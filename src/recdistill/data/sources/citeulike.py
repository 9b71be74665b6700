"""CiteULike-a: the articles in the libraries of users, with tags and citations."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from recdistill.data.sources.base import RawLog, Source, hash_arguments, hash_files
from recdistill.data.sources.id_rows import read_counted_rows, unroll
from recdistill.data.sources.plain import file_in, read_lines
from recdistill.errors import InputError

_FILES = ("users.dat", "item-tag.dat", "tags.dat", "citations.dat")


class CiteULikeA(Source):
    """``users.dat``, ``item-tag.dat`` and ``citations.dat`` with lines ``count id id ...``; ``tags.dat`` with names.

    The number of a line, from 0, is the id of the user, the item or the tag. There are no times, and the order within a
    line says nothing.

    Source: Wang, Chen and Li, 2013, "Collaborative Topic Regression with Social Regularization" (IJCAI).

    Features of items: ``tags`` (names) and ``citations`` (ids of the items that it cites or that cite it).

    Args:
        path: the folder.
    """

    def __init__(self, path: str):
        self.path = Path(path).expanduser()

    def fingerprint(self) -> str:
        return hash_arguments(kind="citeulike-a", files=hash_files(*(file_in(self.path, name) for name in _FILES)))

    def read(self) -> RawLog:
        libraries, tagged, cited = (
            read_counted_rows(file_in(self.path, name)) for name in ("users.dat", "item-tag.dat", "citations.dat")
        )
        tags = read_lines(file_in(self.path, "tags.dat"))
        if len(tagged) != len(cited):
            raise InputError(
                f"item-tag.dat lists {len(tagged)} items and citations.dat {len(cited)}",
                where=str(self.path),
                why="a line of each is one item",
                fix="copy the files of one release again",
            )
        for name, rows, known in (
            ("users.dat", libraries, len(tagged)),
            ("item-tag.dat", tagged, len(tags)),
            ("citations.dat", cited, len(tagged)),
        ):
            self._check(name, rows, known)
        user, _, item = unroll(libraries)
        events = pl.DataFrame({"user": pl.Series(user).cast(pl.String), "item": item})
        items = pl.DataFrame(
            {
                "item": pl.int_range(len(tagged), eager=True).cast(pl.String),
                "tags": _named(tagged, tags),
                "citations": cited,
            }
        )
        return RawLog(
            events,
            items,
            kinds={"item": {"tags": "multi", "citations": "multi"}},
            dropped={"user without items": int((libraries.list.len() == 0).sum())},
            facts=_facts(tagged, cited, tags),
        )

    def where(self) -> str:
        return str(self.path)

    def _check(self, name: str, rows: pl.Series, known: int) -> None:
        """Raise InputError for an id that is the number of no line."""
        row, _, ids = unroll(rows)
        beyond = (~(ids.cast(pl.Int64, strict=False) < known).fill_null(False)).arg_true()
        if len(beyond):
            raise InputError(
                f"id {ids[beyond[0]]} is beyond the last line, {known - 1}",
                where=f"{self.path / name}:{row[beyond[0]] + 1}",
                why="ids are numbers of lines, from 0",
                fix="copy the files of one release again",
            )


def _named(rows: pl.Series, names: pl.Series) -> pl.Series:
    """Lists of line numbers as lists of what stands there; null for an empty list."""
    row, _, at = unroll(rows)
    pairs = pl.DataFrame({"row": row, "name": names[at.cast(pl.Int64).to_numpy()]})
    lists = pairs.group_by("row", maintain_order=True).agg("name")
    every = pl.DataFrame({"row": pl.int_range(len(rows), eager=True)})
    return every.join(lists, on="row", how="left", maintain_order="left")["name"]


def _facts(tagged: pl.Series, cited: pl.Series, tags: pl.Series) -> dict[str, int | str]:
    return {
        "items listed": len(tagged),
        "tags": len(tags),
        "item-tag links": int(tagged.list.len().sum()),
        "citation links": int(cited.list.len().sum()),
        "items without": f"tags {int((tagged.list.len() == 0).sum()):,}, "
        f"citations {int((cited.list.len() == 0).sum()):,}",
    }
