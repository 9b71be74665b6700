"""What sources count in their files for the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from recdistill.data.sources.plain import Cells, read_lines


def graph_facts(folder: Path) -> dict[str, int | str]:
    """Counts of a knowledge graph beside the log, in the form of KGCN and MKR, where a ``kg*`` folder holds one.

    Source: Wang et al., 2019, "Knowledge Graph Convolutional Networks for Recommender Systems" (arXiv:1904.12575),
    whose repository has ``kg.txt`` (head, relation, tail) and ``item_index2entity_id.txt``.
    """
    found: dict[str, int | str] = {}
    for file in graph_files(folder):
        if file.name == "kg.txt":
            graph = Cells(file.name, "\t", ("head", "relation", "tail")).read(file.parent)
            found["knowledge graph"] = f"{graph.height:,} triples, {graph['relation'].n_unique():,} relations"
        else:
            found["items in the graph"] = len(read_lines(file))
    return found


def graph_files(folder: Path) -> list[Path]:
    """The files that :func:`graph_facts` counts."""
    return [file for name in ("kg.txt", "item_index2entity_id.txt") for file in sorted(folder.glob(f"kg*/{name}"))]


def not_listed(ids: pl.Series, listed: Sequence[str] | pl.Series) -> int:
    """How many distinct ``ids`` are none of the ``listed``."""
    distinct = ids.unique()
    return int((~distinct.is_in(pl.Series(listed, dtype=pl.String).implode())).sum())
