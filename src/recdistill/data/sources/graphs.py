"""Knowledge graphs beside a log: triples of entities, and which entity an item is."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from recdistill.data.sources.base import RawGraph
from recdistill.data.sources.counts import graph_files
from recdistill.data.sources.files import names_in, printable
from recdistill.data.sources.plain import Cells
from recdistill.data.sources.rows import OnBadRows, Part
from recdistill.data.sources.text import read_header, read_text
from recdistill.errors import InputError

TRIPLE = {"head": "head_id", "relation": "relation_id", "tail": "tail_id"}


def typed(header: list[str]) -> dict[str, str]:
    """Field names of an atomic file without their types, to the names in its header."""
    return {name.partition(":")[0]: name for name in header}


def atomic_fields(file: Path) -> dict[str, str]:
    """:func:`typed` of a file's header; none where there is no such file."""
    return typed(read_header(file, [], "tab", None)[0]) if file.is_file() else {}


def atomic_facts(inter: Path, item: str) -> dict[str, int | str]:
    """Counts of the graph in the ``.kg`` file beside a log, and of the items that the ``.link`` file finds in it."""
    found: dict[str, int | str] = {}
    if triples := _columns(inter.with_suffix(".kg"), list(TRIPLE.values())):
        head, relation, tail = triples
        relations, entities = relation.n_unique(), pl.concat([head, tail]).n_unique()
        found["knowledge graph"] = f"{len(head):,} triples, {relations:,} relations, {entities:,} entities"
    if linked := _columns(inter.with_suffix(".link"), [item]):
        found["items linked to the graph"] = linked[0].n_unique()
    return found


def atomic_graph(inter: Path, item: str, on_bad_rows: OnBadRows, dropped: dict[str, int]) -> RawGraph:
    """The graph of the ``.kg`` and ``.link`` files beside a log in RecBole's atomic form.

    Args:
        inter: the ``.inter`` file.
        item: field of the item in the ``.link`` file; that of the entity is ``entity_id``.
        on_bad_rows: what is done with a row that lacks a cell.
        dropped: takes the counts of rows that are left out.

    Raises:
        InputError: a file or a field is missing, a cell is empty, or there is no row.
    """
    links = _read(inter.with_suffix(".link"), {"item": item, "entity": "entity_id"}, on_bad_rows, dropped)
    return RawGraph(_read(inter.with_suffix(".kg"), TRIPLE, on_bad_rows, dropped), links)


def kgcn_graph(folder: Path) -> RawGraph:
    """The graph in the form of KGCN and MKR, see :func:`~recdistill.data.sources.counts.graph_facts`.

    Raises:
        InputError: ``folder`` holds no ``kg*`` folder with both files, or more than one; a cell is empty.
    """
    files = graph_files(folder)
    if len(files) != 2 or files[0].parent != files[1].parent:
        raise InputError(
            f"'{folder}' has no knowledge graph in the form of KGCN",
            where="data.kg",
            why=f"one folder kg* with kg.txt and item_index2entity_id.txt is needed; there is {names_in(folder)}",
            fix="data.kg=false",
        )
    forms = Cells(files[0].name, "\t", tuple(TRIPLE)), Cells(files[1].name, "\t", ("item", "entity"))
    triples, links = (cells.read(files[0].parent) for cells in forms)
    for cells, frame in zip(forms, (triples, links), strict=True):
        for column in frame.iter_columns():
            cells.refuse(files[0].parent, column, column.str.strip_chars() == "", "an id is missing")
    return RawGraph(triples, links)


def _columns(file: Path, names: list[str]) -> list[pl.Series]:
    """Fields of an atomic file as text; none where the file or a field is not there."""
    types = atomic_fields(file)
    if not set(names) <= set(types):
        return []
    frame = read_text(file, {name: types[name] for name in names}, "tab", None, Part(file))
    return [frame[name].alias("") for name in names]


def _read(file: Path, fields: dict[str, str], on_bad_rows: OnBadRows, dropped: dict[str, int]) -> pl.DataFrame:
    types = atomic_fields(file)
    if absent := [name for name in fields.values() if name not in types]:
        there = f"its header has {[printable(name) for name in types.values()]}" if types else f"no file '{file}'"
        raise InputError(
            f"'{file.name}' has no field '{absent[0]}'",
            where=f"{file}:1" if types else "data.kg",
            why=f"{there}; a knowledge graph needs NAME.kg with {', '.join(TRIPLE.values())}, and NAME.link with the "
            "item's field and entity_id",
            fix="data.kg=false, or a header such as " + ", ".join(f"{name}:token" for name in fields.values()),
        )
    part = Part(file, on_bad_rows)
    frame = read_text(file, {ours: types[name] for ours, name in fields.items()}, "tab", None, part)
    for ours, name in fields.items():
        bad = frame[ours].is_null() | (frame[ours].str.strip_chars() == "")
        frame = part.reject(frame, bad, "no id", ours, types[name], "repair the row, or data.kg=false")
    if not frame.height:
        raise InputError(f"'{file}' has no row", where=str(file), fix="data.kg=false, or another file")
    for reason, count in part.dropped.items():
        dropped[f"{reason} ({file.name})"] = count
    return frame.select(list(fields))
