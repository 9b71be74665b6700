"""What a person is shown of a prepared data set."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from recdistill.data.interactions import Dataset, TableDataset

_FEW_FEATURES = 12
_SECONDS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def as_dict(dataset: Dataset | TableDataset) -> dict[str, Any]:
    """Report, manifest and fingerprint in plain containers, ready for JSON."""
    return {"fingerprint": dataset.fingerprint, **dataset.report, "manifest": dataset.manifest}


def render(dataset: Dataset | TableDataset) -> RenderableType:
    """The report for a terminal of 100 columns."""
    report = dataset.report
    parts: list[RenderableType] = [_log(report)]
    if report["filters"]:
        parts.append(_filters(report))
    parts += [_summary(dataset), _parts(report)]
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


def _log(report: dict[str, Any]) -> Table:
    """What is in the files, before any filter."""
    log, unit = report["log"], report["time_unit"]
    sizes = [f"{log[name]:,} {name}" for name in ("users", "items", "rows") if name in log]
    rows = {"source": report["source"], "size": ", ".join(sizes)}
    if "values" in log:
        values = log["values"]
        few = isinstance(values, dict)
        rows["values"] = ", ".join(f"{value}: {count:,}" for value, count in values.items()) if few else _span(values)
    if "times" in log:
        rows["times"] = " to ".join(when(time, unit) for time in log["times"])
    for name, fact in report["facts"].items():
        rows[name] = f"{fact:,}" if isinstance(fact, int) else fact
    for side, kinds in report["features"].items():
        rows[f"{side} features"] = _features(kinds)
    return _named("In the files", rows)


def _features(kinds: dict[str, str]) -> str:
    if len(kinds) <= _FEW_FEATURES:
        return ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
    by_kind = {kind: [name for name, other in kinds.items() if other == kind] for kind in kinds.values()}
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in by_kind.items())


def _span(ends: list[float]) -> str:
    return f"{ends[0]:g} to {ends[1]:g}"


def _summary(dataset: Dataset | TableDataset) -> Table:
    report = dataset.report
    split = report["split"]
    arguments = ", ".join(f"{key}={value}" for key, value in split.items() if key != "name")
    leaks = {True: "leaks time", False: "does not leak time", None: "time leak unknown"}[report["leaks_time"]]
    cuts = ", ".join(f"{name} from {when(cut, report['time_unit'])}" for name, cut in report["cut_times"].items())
    rows = _pairs_summary(report) if isinstance(dataset, Dataset) else _table_summary(report)
    rows["split"] = f"{split['name']}({arguments}): {leaks}" + (f"; {cuts}" if cuts else "")
    return _named(f"Data set {dataset.fingerprint[:12]}", rows)


def _pairs_summary(report: dict[str, Any]) -> dict[str, str]:
    sizes = [f"{report[name]:,} {name}" for name in ("users", "items", "rows")]
    rows = {
        "size": ", ".join(sizes),
        "train only": f"{report['n_train_only']:,} users: too few events for the split, or none in the other parts",
        "density": f"{report['density']:.4%} of user-item pairs are in train",
        "history": f"{report['median_history']:g} training rows for the median user",
        "popularity": f"{report['head_share']:.1%} of rows on the top fifth of items, Gini {report['gini']:.3f}",
        "cold items": f"{report['n_cold_items']:,} outside train: relevant, and recommended only by models that know"
        " items by their content",
    }
    for name, found in report.get("encoded", {}).items():
        items = f"{found['items']:,} items of the catalogue and {found['cold items']:,} others"
        rows[f"encode.{name}"] = f"vectors of {found['length']} numbers, of {items}"
    if "graph" in report:
        rows["graph"] = "{triples:,} triples, {relations:,} relations, {entities:,} entities".format(**report["graph"])
        linked, others = report["graph"]["linked items"], report["graph"]["links to other items"]
        rows["linked items"] = f"{linked:,} of {report['items']:,}; links to items outside the catalogue: {others:,}"
    if report["n_cold_users"]:
        rows["cold users"] = f"{report['n_cold_users']:,} outside train: scored from what is known of them"
    return rows


def _table_summary(report: dict[str, Any]) -> dict[str, str]:
    fields = ", ".join(f"{name} {count:,}" for name, count in report["fields"].items())
    return {"size": f"{report['rows']:,} rows", "values in train": fields or "no categorical field"}


def _named(title: str, rows: dict[str, str]) -> Table:
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, text in rows.items():
        table.add_row(escape(printable(name)), escape(printable(text)))
    return table


def _filters(report: dict[str, Any]) -> Table:
    table = Table("filter", title=f"Filters, from {report['rows_read']:,} rows read", title_justify="left")
    names = [name for name in report["filters"][0] if name != "filter"]
    for name in names:
        table.add_column(name, justify="right")
    for step in report["filters"]:
        cells = ["{:,} → {:,}".format(*step[name]) for name in names]
        table.add_row(step["filter"], *cells)
    return table


def _parts(report: dict[str, Any]) -> Table:
    table = Table("part", title="Parts", title_justify="left")
    names = list(report["parts"]["train"])
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for part, counts in report["parts"].items():
        table.add_row(part, *(f"{counts[name]:,}" for name in names))
    return table


def _losses(report: dict[str, Any]) -> str:
    found = [f"{count:,} × {reason}" for reason, count in report["dropped"].items() if count]
    for part, reasons in report.get("lost", {}).items():
        found += [f"{count:,} × {reason} ({part})" for reason, count in reasons.items() if count]
    return ", ".join(found)
