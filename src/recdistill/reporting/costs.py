"""The table of what each model costs: its numbers, its bytes, the work of a request and how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from recdistill.reporting import figures
from recdistill.reporting.table import Cell, Column, Row, Table, clock


def cost_table(summary: Mapping[str, Any]) -> Table | None:
    """The table; None where no row was measured."""
    rows = tuple(row for row in summary["rows"] if row.get("latency"))
    if not rows:
        return None
    batches = list(dict.fromkeys(batch for row in rows for batch in row["latency"]))
    columns = [
        Column("name", "model", lambda row: Cell(row["name"], row.get("label") or ""), lambda _: {}, left=True),
        _figure("parameters", lambda row: figures.count(row.get("parameters"))),
        _figure("not 0", lambda row: figures.count(row.get("nonzeros"))),
        _figure("on disk", lambda row: figures.size(row.get("bytes"))),
        _figure("FLOP a\nrequest", lambda row: figures.count((row.get("work") or {}).get("flops"))),
        _figure("memory of\na request", lambda row: figures.size((row.get("work") or {}).get("memory"))),
        *(_times(batch) for batch in batches),
    ]
    caption = (
        "FLOP: of matrix products and convolutions. Memory: of the tensors that a request makes, when most are alive; "
        "the model itself is not in it. ms: p50 / p95 / p99 in PyTorch."
    )
    return Table(tuple(columns), rows, caption + clock(summary))


def _figure(heading: str, text: Callable[[Row], str]) -> Column:
    return Column(heading, heading, lambda row: Cell(text(row)), lambda _: {})


def _times(batch: str) -> Column:
    def text(row: Row) -> str:
        found = row["latency"].get(batch) or {}
        return " / ".join(figures.milliseconds(found.get(f"p{share}_ms")) for share in (50, 95, 99))

    return _figure(f"ms,\nbatch {batch}", text)
