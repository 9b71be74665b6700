"""Quality against bytes and latency of every distiller with every compression, on one data set.

    python scripts/pareto.py --data ../shared/data/ml-100k

The line is that of ``recdistill run`` but for what is named here: a wide matrix factorisation teaches a narrow one on
ML-100K, split by time. One run per distiller and compression; a stopped command goes on where it was. Then all models
are timed in turns, one request at a time in ONNX Runtime on one thread. A page goes to ``docs/results/DATE-pareto.md``,
or --output, and the picture beside it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from benchmark_compression import ONNX, Call, in_turns, line_of
from matplotlib.figure import Figure

from recdistill.export.onnx import Onnx, session
from recdistill.stages.export import subject_of
from recdistill.stages.training import quiet_lightning

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
    """A model: what teaches it, how it is compressed, its quality, its bytes, its folder, ms of one request."""

    distiller: str
    compression: str
    value: float
    size: int
    folder: Path
    p50: float = 0.0


def run(name: str, words: Sequence[str], data: Path, folder: Path) -> dict[str, Any]:
    """The rows of a run, by name."""
    summary = folder.resolve() / "outputs" / name / "summary.json"
    command = [RECDISTILL, "run", *LINE, f"data.path={data}", *words, f"run.name={name}"]
    if not summary.is_file():
        print(f"{name} ...", file=sys.stderr, flush=True)
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    rows = json.loads(summary.read_text(encoding="utf-8"))["rows"]
    return {row["name"]: {**row, "folder": (summary.parent / row["folder"]).resolve()} for row in rows}


def point(distiller: str, compression: str, row: dict[str, Any]) -> Point:
    return Point(distiller, compression, row["metrics"][METRIC], row["bytes"], row["folder"])


def points(data: Path, folder: Path) -> list[Point]:
    found: dict[tuple[str, str], Point] = {}
    for teaching, taught in DISTILLERS.items():
        for squeezing, squeezed in COMPRESSIONS.items():
            name = f"pareto_{teaching}_{squeezing}".replace(" ", "").replace(",", "_").replace("+", "_")
            rows = run(name, (*taught, *squeezed), data, folder)
            for own in ("teacher", "teacher int8", "teacher int4", "student alone"):
                found.setdefault((own, ""), point(own, "", rows[own]))
            found[teaching, squeezing] = point(teaching, squeezing, list(rows.values())[-1])
    return timed(list(found.values()), data)


def timed(found: Sequence[Point], data: Path) -> list[Point]:
    """With the ms of one request, the median over turns that all models take."""
    torch.set_num_threads(1)
    calls: dict[str, dict[tuple[str, int], Call]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        line = line_of([*LINE, f"data.path={data}"], Path(temporary))
        for number, one in enumerate(found):
            subject = subject_of(line.task, line.data, one.folder)
            at = Path(temporary) / str(number)
            at.mkdir()
            (said,) = Onnx(k=10).write(subject, at)
            answer = session(at / said["file"])
            asked = [subject.queries.inputs(user) for user in torch.split(torch.arange(200), 1)]
            calls[str(number)] = {
                (ONNX, 1): lambda n, answer=answer, asked=asked: answer(asked[n % len(asked)])  # type: ignore[misc]
            }
        taken = in_turns(calls)
    return [one._replace(p50=statistics.median(taken[str(n)][ONNX, 1])) for n, one in enumerate(found)]


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
        figure.subplots(1, 2, sharey=True),
        ("size", "p50"),
        ("bytes on disk", "ms of one request, ONNX Runtime"),
        strict=True,
    ):
        front = unbeaten(found, cost)
        axes.plot([getattr(one, cost) for one in front], [one.value for one in front], "-", color="0.7", zorder=0)
        for number, teaching in enumerate(DISTILLERS):
            for one in (one for one in found if one.distiller == teaching):
                axes.plot(getattr(one, cost), one.value, markers[one.compression], color=f"C{number}")
        for one in (one for one in found if not one.compression):
            axes.plot(getattr(one, cost), one.value, "k*")
            if cost == "size":
                axes.annotate(
                    one.distiller, (getattr(one, cost), one.value), fontsize="x-small", ha="right", va="bottom"
                )
        axes.set(xscale="log" if cost == "size" else "linear", xlabel=title, ylabel=METRIC)
        axes.grid(alpha=0.3)
    colors = [axes.plot([], [], "s", color=f"C{n}", label=name)[0] for n, name in enumerate(DISTILLERS)]
    shapes = [axes.plot([], [], mark, color="0.4", label=name)[0] for name, mark in markers.items()]
    figure.legend(handles=[*colors, *shapes], loc="outside right center", fontsize="small")
    figure.savefig(file)


def page(found: Sequence[Point], picture: str) -> str:
    front = unbeaten(found, "size")
    teacher = next(one for one in found if one.distiller == "teacher")
    lines = []
    for one in sorted(found, key=lambda one: one.size):
        best = "yes" if one in front else ""
        lines.append(
            f"| {one.distiller} | {one.compression} | {one.value:.4f} | {100 * one.value / teacher.value:.1f} "
            f"| {one.size:,} | {teacher.size / one.size:.3g} × | {one.p50:.3f} | {best} |"
        )
    return "\n".join([
        f"# {datetime.date.today()}: `python scripts/pareto.py`", "",
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}.",
        f"`recdistill run {' '.join(LINE)}` by {len(DISTILLERS)} distillers and {len(COMPRESSIONS)} compressions.",
        "All items of the test part ranked. ms: one request in ONNX Runtime on one thread, models in turns. The last",
        "column says where no other model is better at the same bytes.", "",
        f"![quality against bytes and latency]({picture})", "",
        f"| distiller | compression | {METRIC} | % of teacher | bytes | smaller | ms | unbeaten |",
        "|:--|:--|--:|--:|--:|--:|--:|:--|", *lines, "",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/ml-100k"), help="folder of ML-100K")
    parser.add_argument("--folder", type=Path, default=Path(), help="where runs and cache go")
    parser.add_argument("--output", type=Path, default=Path(f"docs/results/{datetime.date.today()}-pareto.md"))
    asked = parser.parse_args()
    quiet_lightning()
    found = points(asked.data.resolve(), asked.folder)
    picture = asked.output.with_suffix(".svg")
    draw(found, picture)
    asked.output.write_text(page(found, picture.name), encoding="utf-8")
    print(asked.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
