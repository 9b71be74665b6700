"""RecBole's atomic files: tab-separated, with types in the header."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from recdistill.data.sources.base import Kind, RawLog, Side, Source, hash_arguments, hash_files
from recdistill.data.sources.files import existing_file, names_in, override
from recdistill.data.sources.frames import Form
from recdistill.data.sources.graphs import atomic_facts, atomic_graph, typed
from recdistill.data.sources.reading import Reader
from recdistill.data.sources.rows import Columns, OnBadRows, likely_column
from recdistill.data.sources.side import read_side
from recdistill.data.sources.text import read_header
from recdistill.errors import InputError

_KINDS: dict[str, Kind] = {"token": "categorical", "token_seq": "multi", "float": "numeric", "float_seq": "vector"}


class RecBole(Source):
    """A ``.inter`` file with a header such as ``user_id:token<tab>item_id:token<tab>rating:float``, and the
    features of the ``.user`` and ``.item`` files beside it, where there are any. A knowledge graph (``.kg``, ``.link``)
    is counted, and read where it is asked for.

    Source: RecBole's documentation, "Atomic Files" (Zhao et al., 2021, arXiv:2011.01731).

    Args:
        path: the ``.inter`` file, or a folder that holds exactly one.
        user, item: fields of the ids, without their types.
        value: field of the rating; None, or a field that the file does not have, goes without.
        time: field of the time; the same.
        title: field of the ``.item`` file with the human name; None goes without titles.
        on_bad_rows: ``error`` stops at the first bad row and says where, ``drop`` leaves bad rows out,
            counted.
        kg: read the knowledge graph, for models that take one. A link to an item that the log lacks is counted.
    """

    def __init__(
        self,
        path: str,
        user: str = "user_id",
        item: str = "item_id",
        value: str | None = "rating",
        time: str | None = "timestamp",
        title: str | None = "movie_title",
        on_bad_rows: OnBadRows = "error",
        kg: bool = False,
    ):
        self.path = Path(path).expanduser()
        self.fields = {"user": user, "item": item, "value": value, "time": time}
        self.title = title
        self.on_bad_rows = on_bad_rows
        self.kg = kg

    def fingerprint(self) -> str:
        beside = (self._inter().with_suffix(suffix) for suffix in (".user", ".item", ".kg", ".link"))
        files = [self._inter(), *(file for file in beside if file.is_file())]
        return hash_arguments(
            kind="recbole",
            files=hash_files(*files),
            fields=self.fields,
            title=self.title,
            on_bad_rows=self.on_bad_rows,
            **({"kg": True} if self.kg else {}),  # without, what was prepared before there were graphs is found again
        )

    def read(self) -> RawLog:
        file = self._inter()
        types = typed(read_header(file, [], "tab", None)[0])
        user, item = (self._needed(file, types, key) for key in ("user", "item"))
        value, time = (types.get(self.fields[key] or "") for key in ("value", "time"))
        reader = Reader(Columns(user, item, value, time), Form("text", "tab", None), self.on_bad_rows)
        part = reader.read(file)
        users, user_kinds = self._side("user")
        items, item_kinds = self._side("item")
        field = self.fields["item"] or "item_id"
        graph = atomic_graph(file, field, self.on_bad_rows, part.dropped) if self.kg else None
        return RawLog(
            part.events,
            items,
            part.dropped,
            "; ".join(part.notes),
            part.time_unit,
            users,
            {"user": user_kinds, "item": item_kinds},
            atomic_facts(file, field),
            part.warnings,
            graph=graph,
        )

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
        names = ", ".join(path.name for path in found)
        below = found or sorted(self.path.glob("*/*.inter"))
        raise InputError(
            f"'{self.path}' holds {len(found)} .inter files, and one is needed",
            where="data.path",
            why=names or f"in it: {names_in(self.path)}",
            fix=", or ".join(override("data.path", file) for file in below[:3] or [self.path / "NAME.inter"]),
        )

    def _side(self, side: Side) -> tuple[pl.DataFrame | None, dict[str, Kind]]:
        """The features that the ``.user`` or ``.item`` file holds, by the types in its header."""
        file = self._inter().with_suffix(f".{side}")
        if not file.is_file():
            return None, {}
        types = typed(read_header(file, [], "tab", None)[0])
        id_column = types.pop(self.fields[side] or f"{side}_id", None)
        if id_column is None:
            return None, {}
        kinds = {name: _KINDS.get(column.partition(":")[2], "categorical") for name, column in types.items()}
        rename = dict(types)
        if side == "item" and self.title in kinds:
            del kinds[self.title]
            kinds["title"], rename["title"] = "text", types[self.title]
        frame = read_side(file, side, id_column, kinds, rename=rename, separator=" ", quote=None)
        return frame, {name: kind for name, kind in kinds.items() if name != "title"}
