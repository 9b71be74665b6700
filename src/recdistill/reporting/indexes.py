"""What the indexes of a run found of the exact lists, how fast, and in how many bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recdistill.reporting import figures
from recdistill.reporting.beyond import Section
from recdistill.reporting.table import Cell, Column, Row, Table


def index_lines(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name of each index and what was measured of it in a line; none for a run without."""
    return [(str(row["name"]), describe(row)) for row in summary.get("indexes") or []]


def describe(row: Row) -> str:
    times, k = row["latency"], str(row["latency"]["k"])
    k = k if k in row["recall"] else next(iter(row["recall"]))
    return (
        f"{row['recall'][k]:.1%} of the exact top {k} of {row['items']:,} items, {times['p50_ms']:.3f} ms a query"
        f" (p99 {times['p99_ms']:.3f}), {row['bytes']:,} bytes"
    )


def index_sections(summary: Mapping[str, Any]) -> list[Section]:
    """The table of a run's indexes; none for a run without."""
    rows = [{"role": "index", **row} for row in summary.get("indexes") or []]
    if not rows:
        return []
    first = rows[0]
    columns = [
        Column("name", "index", lambda row: Cell(str(row["name"])), lambda _: {}, left=True),
        *(_recall(k) for k in first["recall"]),
        _time("p50_ms", "p50 ms"),
        _time("p99_ms", "p99 ms"),
        Column("bytes", "in memory", lambda row: Cell(figures.size(row["bytes"]), f"{row['bytes']:,} B"), lambda _: {}),
        Column("build_seconds", "built in", lambda row: Cell(figures.duration(row["build_seconds"])), lambda _: {}),
    ]
    caption = (
        f"Lists of the last model of the line over {first['items']:,} items with vectors of {first['dim']} numbers,"
        f" seen items left out, for {first['queries']:,} users. Recall: share of the exact list of k items that is"
        f" found. Time: one query, its list of {first['latency']['k']} unseen items, one thread, after warm-up."
    )
    return [Section("Retrieval", Table(tuple(columns), tuple(rows), caption))]


def _recall(k: str) -> Column:
    return Column(f"recall@{k}", f"recall\n@{k}", lambda row: Cell(f"{row['recall'][k]:.4f}"), lambda _: {})


def _time(key: str, heading: str) -> Column:
    return Column(key, heading, lambda row: Cell(f"{row['latency'][key]:.3f}"), lambda _: {})
