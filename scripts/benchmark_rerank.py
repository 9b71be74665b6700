"""What each re-ranking pass costs in accuracy and brings in variety, with its defaults, on one data set.

    python scripts/benchmark_rerank.py --data ../shared/data/ml-100k

MF d=16 taught by MF d=64 on ML-100K, split by users' time; the last row of each run is of the lists after all passes.
A page goes to ``docs/results/DATE-rerank.md``, or --output.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

RECDISTILL = Path(sys.executable).with_name("recdistill")
LINE = ("data=ml100k", "data/split=user_temporal", "teacher=mf", "teacher.net.dim=64", "student=mf",
        "student.net.dim=16", "compression=none")  # fmt: skip
GENRES = {"mmr": "rerank.mmr.by=categories", "dpp": "rerank.dpp.by=categories"}
CHAINS = ("mmr", "dpp", "caps", "popularity", "freshness", "mmr,caps", "mmr,caps,popularity")


def rows_of(chain: str, data: Path, folder: Path) -> list[dict[str, Any]]:
    """The rows of a run with these passes."""
    print(f"{chain} ...", file=sys.stderr, flush=True)
    by = [GENRES[name] for name in chain.split(",") if name in GENRES]
    name = chain.replace(",", "_")
    words = [*LINE, f"data.path={data}", f"rerank=[{chain}]", *by, f"run.name={name}"]
    subprocess.run([RECDISTILL, "run", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    found: list[dict[str, Any]] = json.loads((folder / "outputs" / name / "summary.json").read_text())["rows"]
    return found


def line(name: str, row: dict[str, Any]) -> str:
    beyond, (low, high) = row["beyond"], row["ci"]["ndcg@10"]
    return (
        f"| {name} | {row['metrics']['ndcg@10']:.4f} [{low:.3f}, {high:.3f}] | {beyond['diversity']:.3f} | "
        f"{beyond['category_divergence']:.3f} | {beyond['coverage']:.3f} | {beyond['popularity']:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/ml-100k"), help="folder of ML-100K")
    parser.add_argument("--output", type=Path, default=Path(f"docs/results/{datetime.date.today()}-rerank.md"))
    asked = parser.parse_args()
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        for chain in CHAINS:
            rows = rows_of(chain, asked.data.resolve(), Path(temporary))
            if not lines:
                lines.append(line("student", next(row for row in rows if row["role"] == "student")))
            lines.append(line(chain.replace(",", ", "), rows[-1]))
    text = "\n".join([
        f"# {datetime.date.today()}: `python scripts/benchmark_rerank.py`", "",
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}.",
        f"`recdistill run {' '.join(LINE)}`, lists of 10, one seed; `mmr` and `dpp` by genres.", "",
        "| | NDCG@10 [95 % CI] | diversity | category divergence | coverage | popularity of an item |",
        "|:--|--:|--:|--:|--:|--:|", *lines, "",
    ])  # fmt: skip
    asked.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
