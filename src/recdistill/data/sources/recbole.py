"""RecBole's atomic files: tab-separated, with types in the header."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from recdistill.data.sources.base import RawLog, Source, hash_arguments, hash_files
from recdistill.data.sources.files import existing_file, override
from recdistill.data.sources.reading import Reader
from recdistill.data.sources.rows import Columns, OnBadRows, likely_column
from recdistill.data.sources.text import read_header
from recdistill.data.sources.titles import read_titles
from recdistill.errors import InputError


class RecBole(Source):
    """A ``.inter`` file with a header such as ``user_id:token<tab>item_id:token<tab>rating:float``, and the
    titles of the ``.item`` file beside it, where there is one.

    Source: RecBole's documentation, "Atomic Files" (Zhao et al., 2021, arXiv:2011.01731).

    Args:
        path: the ``.inter`` file, or a folder that holds exactly one.
        user, item: fields of the ids, without their types.
        value: field of the rating; None, or a field that the file does not have, goes without.
        time: field of the time; the same.
        title: field of the ``.item`` file with the human name; None goes without titles.
        genres: field of the ``.item`` file with the genres; the same.
        on_bad_rows: ``error`` stops at the first bad row and says where, ``drop`` leaves bad rows out,
            counted.
    """

    def __init__(
        self,
        path: str,
        user: str = "user_id",
        item: str = "item_id",
        value: str | None = "rating",
        time: str | None = "timestamp",
        title: str | None = "movie_title",
        genres: str | None = "class",
        on_bad_rows: OnBadRows = "error",
    ):
        self.path = Path(path).expanduser()
        self.fields = {"user": user, "item": item, "value": value, "time": time}
        self.title, self.genres = title, genres
        self.on_bad_rows = on_bad_rows

    def fingerprint(self) -> str:
        files = [self._inter(), *([self._item()] if self._item().is_file() else [])]
        return hash_arguments(
            kind="recbole",
            files=hash_files(*files),
            fields=self.fields,
            title=[self.title, self.genres],
            on_bad_rows=self.on_bad_rows,
        )

    def read(self) -> RawLog:
        file = self._inter()
        types = _typed(read_header(file, [], "tab", None)[0])
        user, item = (self._needed(file, types, key) for key in ("user", "item"))
        value, time = (types.get(self.fields[key] or "") for key in ("value", "time"))
        reader = Reader(Columns(user, item, value, time), "tab", None, self.on_bad_rows)
        part = reader.read(file)
        return RawLog(part.events, self._titles(), part.dropped, "; ".join(part.notes), part.time_unit)

    def where(self) -> str:
        return str(self.path)

    def _needed(self, file: Path, types: dict[str, str], key: str) -> str:
        name = self.fields[key] or key
        if name in types:
            return types[name]
        taken = {given for other, given in self.fields.items() if other != key}
        meant = likely_column(key, name, [found for found in types if found not in taken])
        raise InputError(
            f"'{file}' has no field '{name}'",
            where=f"{file}:1",
            why=f"its header has {list(types)}; names with types are needed, such as {name}:token",
            fix=f"{override(f'data.{key}', meant or 'FIELD')}, or data=tsv for a table without types",
        )

    def _inter(self) -> Path:
        if not self.path.is_dir():
            return existing_file(self.path, or_folder=True)
        found = sorted(self.path.glob("*.inter"))
        if len(found) == 1:
            return existing_file(found[0])
        names = ", ".join(path.name for path in found) or "none"
        raise InputError(
            f"'{self.path}' holds {len(found)} .inter files, and one is needed",
            where="data.path",
            why=names,
            fix=override("data.path", found[0] if found else self.path / "NAME.inter"),
        )

    def _item(self) -> Path:
        return self._inter().with_suffix(".item")

    def _titles(self) -> pl.DataFrame | None:
        file = self._item()
        if self.title is None or not file.is_file():
            return None
        types = _typed(read_header(file, [], "tab", None)[0])
        item = types.get(self.fields["item"] or "item_id")
        if item is None or self.title not in types:
            return None
        return read_titles(file, item, types[self.title], None, types.get(self.genres or ""))


def _typed(header: list[str]) -> dict[str, str]:
    """Field names without their types, to the names in the header."""
    return {name.partition(":")[0]: name for name in header}
