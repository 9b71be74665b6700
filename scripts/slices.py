"""Light and heavy users, popular and rare items: the slices of a run's rows, as means over its seeds.

    python scripts/slices.py outputs/office16 --rows teacher,"student alone","student distilled"

Prints a table in Markdown: mean ± standard deviation of the metric that chose the epochs, and in brackets how many
times that of the student alone it is. FOLDER is of one run, or of a grid whose jobs differ in their seeds alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any


def summaries(folder: Path) -> list[dict[str, Any]]:
    files = [folder / "summary.json"] if (folder / "summary.json").exists() else sorted(folder.glob("*/summary.json"))
    if not files:
        raise SystemExit(f"{folder} holds no finished run: no summary.json, and none in the folders below")
    return [json.loads(file.read_text()) for file in files]


def by_slice(row: dict[str, Any], metric: str) -> dict[str, float]:
    parts = {f"{part['name']} {part['by']}": part["metrics"][metric] for part in row["slices"]}
    return {"all": row["metrics"][metric], **parts}


def cell(values: list[float], base: list[float] | None) -> str:
    mean, sd = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None
    text = f"{mean:.4f}" + (f" ±{sd:.4f}" if sd is not None else "")
    return text + (f" (× {mean / statistics.mean(base):.2f})" if base and statistics.mean(base) else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", help="names of rows, by commas; all that are in every job when left out")
    arguments = parser.parse_args()
    runs = summaries(arguments.folder)
    metric = runs[0]["metric"]
    rows = [{row["name"]: by_slice(row, metric) for row in run["rows"]} for run in runs]
    common = [name for name in rows[0] if all(name in run for run in rows)]
    names = arguments.rows.split(",") if arguments.rows else common
    if unknown := [name for name in names if name not in common]:
        raise SystemExit(f"no row {unknown[0]!r} in every job; there are {', '.join(common)}")
    columns = list(rows[0][names[0]])
    print(f"{metric}, {len(runs)} seeds\n\n| model | {' | '.join(columns)} |\n|:--|{'--:|' * len(columns)}")
    for name in names:
        rival = "student alone" if name != "student alone" and "student alone" in common else None
        cells = [
            cell([run[name][c] for run in rows], [run[rival][c] for run in rows] if rival else None) for c in columns
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
