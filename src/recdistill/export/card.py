"""The model card: what a folder holds, what it was measured on, and what it must not be taken for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recdistill.reporting.exports import AGREEMENT
from recdistill.runs.atomic import atomic_path

CARD = "README.md"
LIMITS = (
    "It knows the users, items and values of its training part alone; of others it says nothing, or what it says of"
    " an unknown value.",
    "The figures are of one split of one data set, offline: what people were not shown, they could not choose.",
    "It repeats what is in the data, popularity and the habits of who is in them included.",
)


def write_card(folder: Path, summary: dict[str, Any], exports: list[dict[str, Any]], name: str) -> None:
    """Writes the card.

    Args:
        folder: of the export.
        summary: of the run, the content of ``summary.json``.
        exports: what the formats wrote, see :meth:`~recdistill.export.base.Format.write`.
        name: of the row of the summary that was exported.
    """
    row = next(row for row in summary["rows"] if row["name"] == name)
    data, parts = summary["data"], summary["data"]["report"].get("parts", {})
    text = "\n".join([
        f"# {row['label']}", "",
        f"A model for {summary['task']}, exported by RecDistill {summary['versions']['recdistill']} "
        f"from the run `{summary['run']}` ({summary['created']}).", "",
        "## Data", "",
        f"- {data['name']}, fingerprint `{data['fingerprint']}`",
        f"- split: {_words(data['manifest'].get('split', {}))}",
        *(f"- {part}: {_words(said)}" for part, said in parts.items()), "",
        "## Metrics", "", *_metrics(row, summary), "",
        "## What it was made from", "", *_rows(summary), "",
        "## Files", "", *_files(exports), "",
        "## Limits", "", *(f"- {limit}" for limit in LIMITS), *(f"- {note}" for note in summary["notes"]), "",
        "## Made by", "", f"    {summary['command']}", "",
    ])  # fmt: skip
    with atomic_path(folder / CARD) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _words(said: dict[str, Any]) -> str:
    """Settings or counts in a line."""
    return ", ".join(f"{key} {value}" for key, value in said.items())


def _metrics(row: dict[str, Any], summary: dict[str, Any]) -> list[str]:
    low, high = row["ci"][summary["metric"]]
    chosen = [
        f"{summary['metric']} on the test part: **{row['metrics'][summary['metric']]:.4f}**, "
        f"95 % interval {low:.4f} to {high:.4f} over {summary.get('n_users', summary.get('n_rows'))} "
        f"{'users' if 'n_users' in summary else 'rows'}.", "",
    ]  # fmt: skip
    return [*chosen, "| metric | value |", "|---|---|", *(f"| {key} | {value:.4f} |" for key, value in
                                                        row["metrics"].items())]  # fmt: skip


def _rows(summary: dict[str, Any]) -> list[str]:
    """All models of the run, from the teacher to the last pass."""
    metric = summary["metric"]
    lines = [f"| model | {metric} | bytes | p50 ms |", "|---|---|---|---|"]
    for row in summary["rows"]:
        if row["role"] != "baseline":
            p50 = row["latency"]["1"]["p50_ms"]
            lines.append(
                f"| {row['name']} ({row['label']}) | {row['metrics'][metric]:.4f} | {row['bytes']:,} | {p50:.3f} |"
            )
    return lines


def _files(exports: list[dict[str, Any]]) -> list[str]:
    lines = ["| file | bytes | largest difference of a score | same top 10 | p50 ms |", "|---|---|---|---|---|"]
    for said in exports:
        parity, p50 = said.get("parity", {}), said.get("latency", {}).get("p50_ms")
        worst, same = parity.get("max_difference"), parity.get("same_top_10")
        agrees = (
            [f"{same:.1%}"] if same is not None else [f"{key} {parity[key]:.3f}" for key in AGREEMENT if key in parity]
        )
        lines.append(
            f"| `{said['file']}` | {said['bytes']:,} | {'' if worst is None else f'{worst:.1e}'} | "
            f"{', '.join(agrees)} | {'' if p50 is None else f'{p50:.3f}'} |"
        )
    return lines
