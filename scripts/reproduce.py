"""Papers' tables again: ours beside the published numbers, by one command a table.

    python scripts/reproduce.py topology --data ../shared/data/citeulike-loo/topology --seeds 1,2,3

Each row is a run of an experiment below ``conf/experiment/paper``, over the seeds; runs share their teachers by the
cache, so a stopped command goes on where it was. A row misses where ours is more than 3 % below the published number.
The page goes to ``docs/results/DATE-NAME.md`` or --output.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

RECDISTILL = Path(sys.executable).with_name("recdistill")
BAR = 0.97
# The authors' sums over a batch, with their factor .001, as factors of our means beside a mean of BPR: .001 times the
# pairs of some 2,800 users and items, over the 1,024 samples; of HTD those inside groups, halved by its gamma.
FTD = ("distiller=ftd", "distiller.ftd.weight=7.7")
HTD = ("distiller=htd", "distiller.htd.weight=0.3", "distiller.htd.rows=128")


@dataclass(frozen=True)
class Row:
    """A line of a published table.

    Attributes:
        label: as the paper calls it.
        model: which row of our run it is.
        overrides: of the experiment.
        published: by metric.
    """

    label: str
    model: str
    overrides: tuple[str, ...]
    published: dict[str, float]


@dataclass(frozen=True)
class Table:
    """A published table: its experiment, where it is from, its rows."""

    experiment: str
    source: str
    rows: tuple[Row, ...]


def topology() -> Table:
    """d: (alone, FTD, HTD), Recall@50."""
    published = {10: (0.1788, 0.2112, 0.2282), 20: (0.2276, 0.2516, 0.2744), 100: (0.2976, 0.3116, 0.3116),
                 200: (0.3152, 0.3175, 0.3200)}  # fmt: skip
    rows = [Row("teacher d=200", "teacher", ("student.net.dim=10", *FTD), {"recall@50": 0.3123})]
    for dim, (alone, ftd, htd) in published.items():
        size = f"student.net.dim={dim}"
        rows += [
            Row(f"d={dim} alone", "student alone", (size, *FTD), {"recall@50": alone}),
            Row(f"d={dim} FTD", "student distilled", (size, *FTD), {"recall@50": ftd}),
            Row(f"d={dim} HTD", "student distilled", (size, *HTD), {"recall@50": htd}),
        ]
    return Table("paper/topology", "Kang et al., KDD 2021: log of the authors, full ranking", tuple(rows))


TABLES = {"topology": topology}


def found(table: Table, overrides: tuple[str, ...], data: Path, seeds: str, folder: Path) -> dict[str, Any]:
    """Rows by name of one run over the seeds."""
    name = "_".join(part.replace("=", "-") for part in overrides)
    words = [f"experiment={table.experiment}", f"data.path={data.resolve()}", f"run.name={name}", f"seed={seeds}"]
    print(f"{name} ...", file=sys.stderr, flush=True)
    subprocess.run([RECDISTILL, "run", "-m", *words, *overrides], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    grid = json.loads((folder / "outputs" / name / "grid.json").read_text(encoding="utf-8"))
    return {row["name"]: row for row in grid["rows"]}


def line(row: Row, ours: dict[str, Any], metric: str) -> str:
    value, theirs = ours["metrics"][metric], row.published[metric]
    ratio = value["mean"] / theirs
    spread = f" ± {value['sd']:.4f}" if value.get("sd") is not None else ""
    verdict = "above" if ratio >= 1 else "within 3 %" if ratio >= BAR else "misses"
    return f"| {row.label} | {metric} | {theirs:.4f} | {value['mean']:.4f}{spread} | {ratio:.3f} | {verdict} |"


def page(name: str, table: Table, lines: list[str], seeds: str) -> str:
    return "\n".join([
        f"# {datetime.date.today()}: `python scripts/reproduce.py {name} --seeds {seeds}`", "",
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}.",
        f"Published: {table.source}. Ours: mean ± standard deviation over seeds.", "",
        "| row | metric | published | ours | ratio | |", "|:--|:--|--:|--:|--:|:--|", *lines, "",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--folder", type=Path, default=Path(), help="where runs and cache go")
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    table = TABLES[asked.table]()
    lines, runs = [], dict[tuple[str, ...], dict[str, Any]]()
    for row in table.rows:
        if row.overrides not in runs:
            runs[row.overrides] = found(table, row.overrides, asked.data, asked.seeds, asked.folder)
        lines += [line(row, runs[row.overrides][row.model], metric) for metric in row.published]
    text = page(asked.table, table, lines, asked.seeds)
    (asked.output or Path(f"docs/results/{datetime.date.today()}-{asked.table}.md")).write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
