"""How much of a teacher's quality small students keep, by dimensions and by bytes, on the full catalogue.

    python scripts/kept_quality.py --data ../shared/data --only citeulike,ml1m --seeds 1,2,3

Every student is of ``experiment=recipe``, or of ``recipe_dense`` on ML-1M; the teacher stored in fewer bits stands
beside them, the rival that needs no distillation. Runs share their teachers by the cache, so a stopped command goes on
where it was. A page with the table goes to ``docs/results/DATE-kept-quality.md``, or --output, and the curve of kept
quality against bytes beside it.
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
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure

RECDISTILL = Path(sys.executable).with_name("recdistill")
# ML-1M has 132 training rows a user, CiteULike 22. Its settings did best on the validation part with seed 1: the rate,
# of .1, .03 and .01; the teacher's objective and decay; decays of the students, with a teacher and alone, by width.
SOURCES = {
    "citeulike": ("experiment=recipe", "data=citeulike", "data.path={data}/citeulike-loo/topology"),
    "ml1m": ("experiment=recipe_dense", "data=ml1m", "data.path={data}/ml-1m", "student.fit.weight_decay={decay}"),
    "gowalla": ("experiment=recipe", "data=gowalla", "data.path={data}/gowalla"),
}
TEACHER = 200  # its width
METRIC = "ndcg@10"


class Point(NamedTuple):
    """A line of the table: means over the seeds.

    Attributes:
        kept: percent of the teacher's metric.
        spread: standard deviation of that, 0 for one seed.
        narrower, smaller: how many times fewer dimensions, and bytes, than the teacher has.
    """

    source: str
    model: str
    value: float
    kept: float
    spread: float
    narrower: float
    smaller: float


def words(source: str, width: int, data: Path) -> list[str]:
    """Those that choose experiment, data and student."""
    given = {"{data}": str(data), "{decay}": f"{0.1 + 0.01 * width:g}"}
    chosen = [*SOURCES[source], f"student.net.dim={width}"]
    for name, value in given.items():
        chosen = [word.replace(name, value) for word in chosen]
    return chosen


def runs(source: str, width: int, bits: int, seeds: str, data: Path, folder: Path) -> list[dict[str, Any]]:
    """The rows by name of a run with each seed."""
    name = f"{source}_{width}_int{bits}_seeds_{seeds.replace(',', '_')}"
    own = [f"compression.quantize.bits={bits}", f"run.name={name}", f"seed={seeds}"]
    print(f"{name} ...", file=sys.stderr, flush=True)
    command = [RECDISTILL, "run", "-m", *words(source, width, data), *own]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    files = sorted((folder / "outputs" / name).glob("*/summary.json"))
    return [{row["name"]: row for row in json.loads(file.read_text(encoding="utf-8"))["rows"]} for file in files]


def point(source: str, label: str, row: str, width: int, found: list[dict[str, Any]]) -> Point:
    values = [run[row]["metrics"][METRIC] for run in found]
    kept = [100 * value / run["teacher"]["metrics"][METRIC] for value, run in zip(values, found, strict=True)]
    smaller = statistics.mean(run["teacher"]["bytes"] / run[row]["bytes"] for run in found)
    spread = statistics.stdev(kept) if len(kept) > 1 else 0.0
    return Point(source, label, statistics.mean(values), statistics.mean(kept), spread, TEACHER / width, smaller)


def points(source: str, widths: Iterable[int], seeds: str, data: Path, folder: Path) -> list[Point]:
    found: list[Point] = []
    for width in widths:
        both = {bits: runs(source, width, bits, seeds, data, folder) for bits in (8, 4)}
        if not found:
            found += [point(source, f"{row} d={TEACHER}", row, TEACHER, both[8])
                      for row in ("teacher", "teacher int8", "teacher int4")]  # fmt: skip
        found += [point(source, f"student alone d={width}", "student alone", width, both[8]),
                  point(source, f"student distilled d={width}", "student distilled", width, both[8])]  # fmt: skip
        found += [point(source, f"student distilled d={width} int{bits}", "quantize", width, own)
                  for bits, own in both.items()]  # fmt: skip
    return found


def line(one: Point) -> str:
    spread = f" ± {one.spread:.1f}" if one.spread else ""
    return (f"| {one.source} | {one.model} | {one.narrower:.3g} × | {one.smaller:.3g} × | {one.value:.4f} | "
            f"{one.kept:.1f}{spread} |")  # fmt: skip


def draw(found: list[Point], file: Path) -> None:
    """Kept quality against bytes: a panel for each data set."""
    names = list(dict.fromkeys(one.source for one in found))
    figure = Figure(figsize=(4.5 * len(names), 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        own = [one for one in found if one.source == name]
        for title, marker, chosen in (
            ("teacher, fewer bits", "s-", [one for one in own if one.model.startswith("teacher")]),
            ("distilled, float32", "o-", [one for one in own if "distilled" in one.model and "int" not in one.model]),
            ("distilled, int8", "o-", [one for one in own if one.model.endswith("int8") and "distilled" in one.model]),
            ("distilled, int4", "o-", [one for one in own if one.model.endswith("int4") and "distilled" in one.model]),
            ("alone, float32", "x--", [one for one in own if "alone" in one.model]),
        ):
            chosen = sorted(chosen, key=lambda one: one.smaller)
            axes.plot([one.smaller for one in chosen], [one.kept for one in chosen], marker, label=title)
        axes.set(xscale="log", xlabel="times fewer bytes than the teacher", ylabel=f"% of the teacher's {METRIC}",
                 title=name)  # fmt: skip
        axes.grid(alpha=0.3)
    axes.legend(loc="lower left", fontsize="small")
    figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--only", default="citeulike,ml1m,gowalla", help="data sets, comma separated")
    parser.add_argument("--widths", default="10,20,40,100", help="of the students")
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--folder", type=Path, default=Path(), help="where runs and cache go")
    parser.add_argument("--output", type=Path, default=Path(f"docs/results/{datetime.date.today()}-kept-quality.md"))
    asked = parser.parse_args()
    widths = [int(width) for width in asked.widths.split(",")]
    found = [one for source in asked.only.split(",")
             for one in points(source, widths, asked.seeds, asked.data.resolve(), asked.folder)]  # fmt: skip
    picture = asked.output.with_suffix(".svg")
    draw(found, picture)
    text = "\n".join([
        f"# {datetime.date.today()}: `python scripts/kept_quality.py --only {asked.only} --seeds {asked.seeds} "
        f"--widths {asked.widths}`", "",
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}.",
        f"All items of the test part ranked. Kept: percent of the teacher's {METRIC}, mean ± deviation over seeds.",
        "", f"![kept quality against bytes]({picture.name})", "",
        "| data | model | narrower | bytes | NDCG@10 | kept, % |", "|:--|:--|--:|--:|--:|--:|", *map(line, found), "",
    ])  # fmt: skip
    asked.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
