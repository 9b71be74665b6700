"""What a person is shown of a prepared data set."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from recdistill.data.interactions import Dataset

_SECONDS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def as_dict(dataset: Dataset) -> dict[str, Any]:
    """Report, manifest and fingerprint in plain containers, ready for JSON."""
    return {"fingerprint": dataset.fingerprint, **dataset.report, "manifest": dataset.manifest}


def render(dataset: Dataset) -> RenderableType:
    """The report for a terminal of 100 columns."""
    report = dataset.report
    parts: list[RenderableType] = [_summary(dataset), _parts(report)]
    if report["filters"]:
        parts.insert(1, _filters(report))
    losses = _losses(report)
    if losses:
        parts.append(Text("left out: " + losses))
    if report["note"]:
        parts.append(Text("note: " + printable(report["note"])))
    parts += [Text("warning: " + printable(warning), style="yellow") for warning in report["warnings"]]
    return Group(*parts)


def when(time: int, unit: str | None) -> str:
    """A time as a date where its unit is known, else as the number."""
    if unit not in _SECONDS:
        return str(time)
    return datetime.fromtimestamp(time / _SECONDS[unit], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def printable(text: str) -> str:
    """``text`` with control characters escaped: a path or an id must not steer the terminal."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode() for char in text
    )


def _summary(dataset: Dataset) -> Table:
    report = dataset.report
    table = Table(title=f"Data set {dataset.fingerprint[:12]}", show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    split = report["split"]
    arguments = ", ".join(f"{key}={value}" for key, value in split.items() if key != "name")
    leaks = {True: "leaks time", False: "does not leak time", None: "time leak unknown"}[report["leaks_time"]]
    cuts = ", ".join(f"{name} from {when(cut, report['time_unit'])}" for name, cut in report["cut_times"].items())
    sizes = [f"{report[name]:,} {name}" for name in ("users", "items", "rows")]
    head, gini = report["head_share"], report["gini"]
    rows = {
        "source": report["source"],
        "size": ", ".join(sizes),
        "density": f"{report['density']:.4%} of user-item pairs are in train",
        "history": f"{report['median_history']:g} training rows for the median user",
        "popularity": f"{head:.1%} of rows on the top fifth of items, Gini {gini:.3f}",
        "split": f"{split['name']}({arguments}): {leaks}" + (f"; {cuts}" if cuts else ""),
        "cold items": f"{report['n_cold_items']:,} outside train: relevant, and can't be recommended",
    }
    for name, text in rows.items():
        table.add_row(name, escape(printable(text)))
    return table


def _filters(report: dict[str, Any]) -> Table:
    table = Table("filter", title=f"Filters, from {report['rows_read']:,} rows read", title_justify="left")
    for name in ("rows", "users", "items"):
        table.add_column(name, justify="right")
    for step in report["filters"]:
        cells = ["{:,} → {:,}".format(*step[name]) for name in ("rows", "users", "items")]
        table.add_row(step["filter"], *cells)
    return table


def _parts(report: dict[str, Any]) -> Table:
    table = Table("part", title="Parts", title_justify="left")
    for name in ("rows", "users", "cold rows", "cold items"):
        table.add_column(name, justify="right")
    for name, counts in report["parts"].items():
        table.add_row(name, *(f"{counts[key]:,}" for key in ("rows", "users", "cold_rows", "cold_items")))
    return table


def _losses(report: dict[str, Any]) -> str:
    found = [f"{count:,} × {reason}" for reason, count in report["dropped"].items() if count]
    for part, reasons in report["lost"].items():
        found += [f"{count:,} × {reason} ({part})" for reason, count in reasons.items() if count]
    return ", ".join(found)
