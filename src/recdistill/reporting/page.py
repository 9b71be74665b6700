"""One self-contained HTML page: no network, no script, readable on a phone and on paper."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from recdistill.config.metrics import sign
from recdistill.reporting import beyond, charts, escape, figures
from recdistill.reporting.costs import cost_table
from recdistill.reporting.data_facts import data_facts
from recdistill.reporting.exports import export_lines
from recdistill.reporting.headline import Headline, headline
from recdistill.reporting.indexes import index_sections
from recdistill.reporting.table import Row, Table, first, main_metrics, summary_table

Histories = Mapping[str, Sequence[Mapping[str, Any]]]
MAX_CURVES = 12
INSTALL = 'pip install "recdistill[plots]"'
NO_PLOTS = "Charts need matplotlib."  # as in the template


@dataclass(frozen=True)
class Chart:
    """Panels (name, SVG) stand side by side where there is room and they are small."""

    title: str
    caption: str
    panels: list[tuple[str, str]]
    small: bool = False


@dataclass(frozen=True)
class Page:
    """What the template shows; every text is escaped there."""

    title: str
    headline: Headline
    table: Table
    more: list[beyond.Section] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    command: str = ""
    facts: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)


def render(page: Page) -> str:
    """The page as HTML."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters.update(visible=escape.visible, visible_lines=escape.visible_lines, prose=_prose)
    source = resources.files("recdistill.reporting").joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(page=page, plots=charts.available(), install=INSTALL)


def _prose(text: object) -> str:
    """A number and its percent sign stay on one line."""
    return escape.visible(text).replace(" %", "\u00a0%")


def run_page(summary: Mapping[str, Any], histories: Histories | None) -> str:
    """The page of one run.

    Args:
        summary: ``summary.json``.
        histories: ``history.json`` of the rows that were trained, by row name; None for a page without charts.
    """
    return render(
        Page(
            title=str(summary.get("run", "run")),
            headline=headline(summary),
            table=summary_table(summary),
            more=[*beyond.sections(summary), *index_sections(summary), *_costs(summary)],
            charts=_run_charts(summary, histories) if histories is not None and charts.available() else [],
            notes=[str(note) for note in summary.get("notes") or []],
            warnings=warnings(summary),
            command=str(summary.get("command", "")),
            facts=[
                *([("Exported files", files)] if (files := export_lines(summary)) else []),
                *data_facts(summary.get("data") or {}),
                ("Provenance", provenance(summary)),
            ],
        )
    )


def _costs(summary: Mapping[str, Any]) -> list[beyond.Section]:
    table = cost_table(summary)
    return [beyond.Section("What a model costs", table)] if table else []


def without_charts(html: str) -> str:
    """A page but for its charts, which depend on what is installed."""
    parts = re.split(r"(?=<section)|(?<=</section>)", html)
    return "\n".join(part.strip() for part in parts if part.strip() and "<svg" not in part and NO_PLOTS not in part)


def warnings(summary: Mapping[str, Any]) -> list[str]:
    """Of the data, of each row (the row named), and of a teacher that a baseline beats."""
    report = (summary.get("data") or {}).get("report") or {}
    rows = [f"{row['name']}: {text}" for row in summary["rows"] for text in row.get("warnings") or []]
    return [*(f"data: {text}" for text in report.get("warnings") or []), *rows, *below_baseline(summary)]


def below_baseline(summary: Mapping[str, Any]) -> list[str]:
    """A share of a teacher that a simple baseline beats is no achievement."""
    metric, teacher = summary["metric"], first(summary["rows"], "teacher")
    baselines: list[tuple[Any, str]] = [
        ((r.get("metrics") or {}).get(metric), r["name"]) for r in summary["rows"] if r["role"] == "baseline"
    ]
    ours = (teacher or {}).get("metrics", {}).get(metric)
    reached = [(sign(metric) * value, name) for value, name in baselines if figures.known(value)]
    if not reached or not figures.known(ours) or sign(metric) * ours >= max(reached)[0]:
        return []
    best, name = max(reached)
    numbers = f"{figures.metric_name(metric)} {figures.quality(ours)} against {figures.quality(sign(metric) * best)}"
    below = "below" if sign(metric) > 0 else "worse than"
    return [f"the teacher is {below} the baseline {name} ({numbers}): a share of it says little"]


def pareto_chart(points: Sequence[Mapping[str, Any]], metric: str, bars: str) -> Chart | None:
    """Rows: ``label``, ``role``, ``bytes``, ``value``, ``low``, ``high``."""
    drawn = charts.pareto(points, metric)
    better = "Up" if sign(metric) > 0 else "Down"
    caption = f"{better} and to the left is better; the line joins the models that none beats in fewer bytes. {bars}"
    return Chart("Quality against size", caption, [("", drawn)]) if drawn else None


def _point(row: Row, metric: str) -> dict[str, Any]:
    low, high = (row.get("ci") or {}).get(metric) or (None, None)
    value = (row.get("metrics") or {}).get(metric)
    return {"label": row["name"], "role": row.get("role", ""), "bytes": row.get("bytes"), "value": value} | {
        "low": low,
        "high": high,
    }


def _run_charts(summary: Mapping[str, Any], histories: Histories) -> list[Chart]:
    rows, metric = summary["rows"], summary["metric"]
    agreeing = [{"label": r["name"], "role": r.get("role", ""), "overlap": r.get("overlap")} for r in rows]
    overlap = charts.overlap(agreeing)
    wanted = main_metrics(metric, rows)
    drawn = [(name, charts.curves(h, name, f"curves-{i}", wanted)) for i, (name, h) in enumerate(histories.items())]
    shown = [(name, curve) for name, curve in drawn if curve][:MAX_CURVES]
    found = [pareto_chart([_point(row, metric) for row in rows], metric, "Bars: 95 % CI.")]
    if overlap:
        caption = "Share of the teacher's top k that each model also has in its top k."
        found.append(Chart("Agreement with the teacher", caption, [("", overlap)]))
    if shown:
        caption = "Each loss term as logged, and the validation metric, by epoch."
        found.append(Chart("Learning curves", caption, shown, small=True))
    return [chart for chart in found if chart is not None]


def provenance(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a second run needs to give the same figures."""
    machine = summary.get("machine") or {}
    facts = [("created", summary.get("created")), ("took", figures.duration(summary.get("seconds")))]
    facts += [("seed", summary.get("seed")), *_commits(summary)]
    facts += [("config hash", summary.get("config_hash"))]
    facts += [("overrides", " ".join(summary.get("overrides") or []))]
    facts += [(f"{name} version", version) for name, version in (summary.get("versions") or {}).items()]
    facts += [("machine", ", ".join(f"{key} {value}" for key, value in machine.items()))]
    hashes = [(row["name"], row.get("weights_hash")) for row in summary["rows"]]
    facts += [(f"weights of {name}", value) for name, value in hashes if value]
    return [(key, str(value)) for key, value in facts if value not in (None, "")]


def _commits(summary: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found = summary.get("commit") or "not in a git checkout"
    if "project_commit" not in summary:  # of a run that knew only that of the folder it was in
        return [("commit", found)]
    return [("commit of recdistill", found), ("commit of the project", summary["project_commit"])]


def histories(folder: Path, summary: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """``history.json`` of each row that has one; a row's folder cannot point out of the run."""
    from recdistill.runs.atomic import read_json

    found = {}
    for row in summary["rows"]:
        path = folder / str(row.get("folder") or "") / "history.json"
        if row.get("folder") and path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            found[row["name"]] = read_json(path)
    return found
