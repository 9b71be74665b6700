"""What sources count in their files for the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from recdistill.data.sources.base import PARTS, TRAIN, VALID
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


def rows_by_part(part: pl.Series) -> str:
    """How many rows each part of a given split has, before any is left out."""
    sizes = np.bincount(part.to_numpy(), minlength=len(PARTS))
    rows = " + ".join(f"{size:,} {name}" for size, name in zip(sizes, PARTS, strict=False) if size)
    if sizes[VALID]:
        rows += f"; train and valid {sizes[TRAIN] + sizes[VALID]:,}"
    return rows


def not_listed(ids: pl.Series, listed: Sequence[str] | pl.Series) -> int:
    """How many distinct ``ids`` are none of the ``listed``."""
    distinct = ids.unique()
    return int((~distinct.is_in(pl.Series(listed, dtype=pl.String).implode())).sum())
