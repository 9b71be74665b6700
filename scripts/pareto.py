"""Quality against bytes and latency of every distiller with every compression, on one data set.

    python scripts/pareto.py --data ../shared/data/ml-100k

The line is that of ``recdistill run`` but for what is named here: a wide matrix factorisation teaches a narrow one on
ML-100K, split by time. One run per distiller and compression; teachers and students come from the cache, so a stopped
command goes on where it was. A page goes to ``docs/results/DATE-pareto.md``, or --output, and the picture beside it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure

RECDISTILL = Path(sys.executable).with_name("recdistill")
LINE = ("data=ml100k", "data/split=global_temporal", "teacher=mf", "student=mf", "student.net.dim=32")
DISTILLERS = {
    "soft_label": ("distiller=[soft_label]",),
    "topk_kl": ("distiller=[topk_kl]",),
    "rrd": ("distiller=[rrd]",),
    "hint": ("distiller=[hint]",),
    "topk_kl + hint": ("distiller=[topk_kl,hint]",),
}
COMPRESSIONS = {
    "none": ("compression=none",),
    "int8": ("compression=[quantize]",),
    "int4": ("compression=[quantize]", "compression.quantize.bits=4"),
    "low rank 16, int8": ("compression=[low_rank,quantize]", "compression.low_rank.rank=16"),
    "half pruned, int8": ("compression=[prune,quantize]", "compression.prune.sparsity=0.5"),
    "quotient-remainder": ("compression=[embedding_qr]",),
    "product quantization": ("compression=[embedding_pq]",),
}
METRIC = "ndcg@10"


class Point(NamedTuple):
    """A model: what teaches it, how it is compressed, its quality, its bytes, its p50 at batch 1 in ms."""

    distiller: str
    compression: str
    value: float
    size: int
    p50: float


def run(name: str, words: Sequence[str], data: Path, folder: Path) -> list[dict[str, object]]:
    """The rows of a run."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    command = [RECDISTILL, "run", *LINE, f"data.path={data}", *words, f"run.name={name}"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    rows: list[dict[str, object]] = json.loads((folder / "outputs" / name / "summary.json").read_text())["rows"]
    return rows


def point(distiller: str, compression: str, row: dict[str, object]) -> Point:
    metrics, latency = row["metrics"], row["latency"]
    assert isinstance(metrics, dict)
    assert isinstance(latency, dict)
    return Point(distiller, compression, metrics[METRIC], int(str(row["bytes"])), latency["1"]["p50_ms"])


def points(data: Path, folder: Path) -> list[Point]:
    found: dict[tuple[str, str], Point] = {}
    for teaching, taught in DISTILLERS.items():
        for squeezing, squeezed in COMPRESSIONS.items():
            name = f"pareto_{teaching}_{squeezing}".replace(" ", "").replace(",", "_").replace("+", "_")
            rows = {str(row["name"]): row for row in run(name, (*taught, *squeezed), data, folder)}
            for own in ("teacher", "teacher int8", "teacher int4", "student alone"):
                found.setdefault((own, ""), point(own, "", rows[own]))
            found[teaching, squeezing] = point(teaching, squeezing, list(rows.values())[-1])
    return list(found.values())


def unbeaten(found: Sequence[Point], cost: str) -> list[Point]:
    """Those that no other model beats at the same cost or less, the cheapest first."""
    best: list[Point] = []
    for one in sorted(found, key=lambda one: (getattr(one, cost), -one.value)):
        if not best or one.value > best[-1].value:
            best.append(one)
    return best


def draw(found: Sequence[Point], file: Path) -> None:
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    markers = dict(zip(COMPRESSIONS, "os^vDPX", strict=True))
    for axes, cost, title in zip(
        figure.subplots(1, 2, sharey=True), ("size", "p50"), ("bytes on disk", "ms at batch 1, p50"), strict=True
    ):
        front = unbeaten(found, cost)
        axes.plot([getattr(one, cost) for one in front], [one.value for one in front], "-", color="0.7", zorder=0)
        for number, teaching in enumerate(DISTILLERS):
            for one in (one for one in found if one.distiller == teaching):
                axes.plot(getattr(one, cost), one.value, markers[one.compression], color=f"C{number}")
        for one in (one for one in found if not one.compression):
            axes.plot(getattr(one, cost), one.value, "k*")
            axes.annotate(one.distiller, (getattr(one, cost), one.value), fontsize="x-small", ha="right", va="bottom")
        axes.set(xscale="log", xlabel=title, ylabel=METRIC)
        axes.grid(alpha=0.3)
    colors = [axes.plot([], [], "s", color=f"C{n}", label=name)[0] for n, name in enumerate(DISTILLERS)]
    shapes = [axes.plot([], [], mark, color="0.4", label=name)[0] for name, mark in markers.items()]
    figure.legend(handles=[*colors, *shapes], loc="outside right center", fontsize="small")
    figure.savefig(file)


def page(found: Sequence[Point], picture: str) -> str:
    fronts = {cost: unbeaten(found, cost) for cost in ("size", "p50")}
    teacher = next(one for one in found if one.distiller == "teacher")
    lines = []
    for one in sorted(found, key=lambda one: one.size):
        best = ", ".join(name for cost, name in (("size", "bytes"), ("p50", "ms")) if one in fronts[cost])
        lines.append(
            f"| {one.distiller} | {one.compression} | {one.value:.4f} | {100 * one.value / teacher.value:.1f} "
            f"| {one.size:,} | {teacher.size / one.size:.3g} × | {one.p50:.3f} | {best} |"
        )
    return "\n".join([
        f"# {datetime.date.today()}: `python scripts/pareto.py`", "",
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}.",
        f"`recdistill run {' '.join(LINE)}` by {len(DISTILLERS)} distillers and {len(COMPRESSIONS)} compressions.",
        "All items of the test part ranked; the last column says where no other model is better at the same cost.", "",
        f"![quality against bytes and latency]({picture})", "",
        f"| distiller | compression | {METRIC} | % of teacher | bytes | smaller | ms | unbeaten in |",
        "|:--|:--|--:|--:|--:|--:|--:|:--|", *lines, "",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/ml-100k"), help="folder of ML-100K")
    parser.add_argument("--folder", type=Path, default=Path(), help="where runs and cache go")
    parser.add_argument("--output", type=Path, default=Path(f"docs/results/{datetime.date.today()}-pareto.md"))
    asked = parser.parse_args()
    found = points(asked.data.resolve(), asked.folder)
    picture = asked.output.with_suffix(".svg")
    draw(found, picture)
    asked.output.write_text(page(found, picture.name), encoding="utf-8")
    print(asked.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
