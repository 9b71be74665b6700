"""The dated page: what was found, with machine, versions and settings."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peers.cases import Case

if TYPE_CHECKING:
    from loops import Loop

HEAD = """# {date}: `python scripts/benchmark_models.py ranking als sequence ctr speed --long`

{cores} cores, {machine}, Python {python}, torch {torch}. Everything on one thread, on a machine that did other work
too: times are CPU seconds, and ratios are between turns next to each other.

## Beside public implementations

The same training part, sizes, optimizer, learning rate, batch, number of epochs and evaluator; nothing is validated,
the weights after the last epoch count. `scripts/peers/cases.py` has all settings. NDCG@10 is over the full catalogue,
the gap with its 95 % interval by bootstrap over users and seeds; "below" is an interval that lies below 0. For AUC the
gap of the means must not be below -0.002. Values are means over seeds, ± the standard deviation. Numbers are those that
a model stores, ours/theirs.

| model, data | metric | peer | numbers | epochs | seeds | ours | theirs | gap | verdict |
|:--|:--|:--|--:|--:|--:|--:|--:|--:|:--|
"""

SPEED = """
## Beside minimal loops

CPU seconds that an epoch adds to a training: ours, the same in a minimal loop (`scripts/loops`), and the peer's. The
bound is 1.25 times the minimal loop.

| model, data | ours | minimal loop | ratio | peer | peer / minimal loop | verdict |
|:--|--:|--:|--:|--:|--:|:--|
"""
BOUND = 1.25


def page(rows: Path, cases: Sequence[Case], loops: Sequence[Loop]) -> str:
    """Markdown of all rows that are there; the others are named."""
    found = {file.stem: json.loads(file.read_text()) for file in sorted(rows.glob("*.json"))}
    text = HEAD.format(
        date=datetime.date.today(), cores=os.cpu_count(), machine=platform.machine(),
        python=platform.python_version(), torch=torch.__version__,
    )  # fmt: skip
    text += "".join(quality(case, found.get(case.slug)) for case in cases)
    text += SPEED + "".join(speed(loop, found.get(f"speed-{loop.slug}"), found.get(loop.peer)) for loop in loops)
    return text + versions(found)


def quality(case: Case, row: dict[str, Any] | None) -> str:
    """A line of the first table."""
    metric = "AUC" if case.group == "ctr" else "NDCG@10"
    numbers = "/".join(f"{n:,}" for n in row["parameters"]) if row else "–"
    start = f"| {case.name} | {metric} | {case.peer} | {numbers} | {case.epochs} |"
    if row is None:
        return f"{start} – | – | – | – | not run |\n"
    gap = f"{row['gap']:+.4f}" + (f" [{row['low']:+.4f}, {row['high']:+.4f}]" if "low" in row else "")
    values = f"{spread(row['ours'])} | {spread(row['theirs'])}"
    return f"{start} {len(row['ours'])} | {values} | {gap} | {row['verdict']} |\n"


def spread(values: list[float]) -> str:
    """Mean over seeds ± standard deviation."""
    mean = f"{statistics.mean(values):.4f}"
    return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else mean


def speed(loop: Loop, row: dict[str, Any] | None, case: dict[str, Any] | None) -> str:
    """A line of the second table."""
    theirs = f"{case['seconds']:.2f}" if case else "–"
    if row is None:
        return f"| {loop.name} | – | – | – | {theirs} | – | not run |\n"
    verdict = "within" if row["ratio"] <= BOUND else "above the bound"
    ratio = f"{case['seconds'] / row['minimal']:.1f}" if case else "–"
    times = f"{row['ours']:.2f} | {row['minimal']:.2f} | {row['ratio']:.2f}"
    return f"| {loop.name} | {times} | {theirs} | {ratio} | {verdict} |\n"


def versions(found: dict[str, dict[str, Any]]) -> str:
    """Of all peers."""
    known = sorted({f"{name} {version}" for row in found.values() for name, version in row.get("versions", {}).items()})
    return f"\nPeers ran on {', '.join(known)}.\n" if known else ""
