"""A knowledge graph in the numbers of a data set.

It depends on the catalogue and on the files of the graph alone: an item that training lacks is an entity like others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recdistill.data.graph import KnowledgeGraph
from recdistill.data.sources.base import RawGraph
from recdistill.errors import InputError

Array = np.ndarray[Any, Any]


def link(raw: RawGraph, items: Array) -> KnowledgeGraph:
    """The triples that an item of the catalogue is connected with, over any number of steps and in either direction.

    Entities and relations are numbered in the order of their ids, so that the order of rows has no say. Where several
    items are one entity, each has all its triples; an item that is several entities has the triples of all.

    Args:
        raw: the graph as it was read.
        items: ids of the catalogue, str ``[n_items]``.

    Raises:
        InputError: no item of the catalogue is in a triple.
    """
    known = _known(raw, items)
    ends = pl.concat([raw.triples["head"], raw.triples["tail"]]).unique()
    others = ends.filter(~ends.is_in(known["entity"].implode())).sort()
    numbers = pl.DataFrame({"entity": others, "number": pl.int_range(len(others), eager=True) + len(items)})
    triples = _numbered(raw.triples, pl.concat([known, numbers]))
    head, tail = (torch.from_numpy(triples[end].to_numpy().copy()) for end in ("head", "tail"))
    near = _reached(head, tail, len(items), len(items) + len(others))[head]
    if not near.any():
        raise _apart(raw, items)
    triples = triples.filter(pl.Series(near.numpy()))
    relations = triples["relation"].unique().sort()
    relation = triples["relation"].replace_strict(relations, pl.int_range(len(relations), eager=True))
    head, tail, n_entities = _compact(head[near], tail[near], len(items))
    rows = torch.stack([head, torch.from_numpy(relation.cast(pl.Int64).to_numpy().copy()), tail], 1)
    head, middle, tail = torch.unique(rows, dim=0).T.contiguous()
    return KnowledgeGraph(head, middle, tail, len(items), n_entities, len(relations))


def account(raw: RawGraph, graph: KnowledgeGraph, items: Array) -> dict[str, int]:
    """What the report says of a graph."""
    linked = int(graph.linked().sum())
    return {
        "triples": len(graph),
        "relations": graph.n_relations,
        "entities": graph.n_entities + linked,
        "linked items": linked,
        "links to other items": raw.links.unique().height - _known(raw, items).height,
    }


def _known(raw: RawGraph, items: Array) -> pl.DataFrame:
    """Entities that are items of the catalogue, with their numbers."""
    catalogue = pl.DataFrame({"item": pl.Series(items, dtype=pl.String), "number": np.arange(len(items))})
    return raw.links.unique().join(catalogue, on="item").select("entity", "number")


def _numbered(triples: pl.DataFrame, numbers: pl.DataFrame) -> pl.DataFrame:
    """``head`` and ``tail`` as numbers, beside ``relation``."""
    for end in ("head", "tail"):
        triples = triples.join(numbers.rename({"entity": end}), on=end).drop(end).rename({"number": end})
    return triples


def _reached(head: Tensor, tail: Tensor, n_items: int, size: int) -> Tensor:
    """bool ``[size]``: entities that are connected with an item."""
    reached = torch.arange(size) < n_items
    while True:
        new = reached[head] != reached[tail]
        if not new.any():
            return reached
        reached[head[new]] = reached[tail[new]] = True


def _compact(head: Tensor, tail: Tensor, n_items: int) -> tuple[Tensor, Tensor, int]:
    """Both ends with the other entities renumbered from ``n_items`` on without gaps, and how many these are."""
    others, at = torch.unique(torch.cat([torch.arange(n_items), head, tail]), return_inverse=True)
    head, tail = at[n_items:].chunk(2)
    return head, tail, len(others) - n_items


def _apart(raw: RawGraph, items: Array) -> InputError:
    linked, entities = raw.links.row(0)
    return InputError(
        "the knowledge graph has no triple of an item of the catalogue",
        where="data.kg",
        why=f"the catalogue has items such as {items[0]!r}; the links have items such as {linked!r}, entity "
        f"{entities!r}; the triples have entities such as {raw.triples['head'][0]!r}",
        fix="data.kg=false, or links with the ids of the log",
    )
