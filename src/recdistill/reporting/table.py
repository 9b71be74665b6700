"""The comparison table: one list of columns that every output is written from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from recdistill.reporting import figures, units

Row = Mapping[str, Any]
SPARSE = 0.9  # of its parameters, below which a model is shown as pruned
DISTILLED = ("student", "compressed")
P_ALONE = "p_alone_holm"  # what is shown and judged by; the raw one is in the files
_SECOND = ("recall@10", "auc", "logloss", "rmse", "mae", "accuracy", "macro_f1")
_CSV_ONLY = ("ne", "ece_mass")  # a multiple of the log loss, and ECE in other bins


@dataclass(frozen=True)
class Cell:
    """What people read: ``text``, and ``detail`` where the output has room for it."""

    text: str
    detail: str = ""


@dataclass(frozen=True)
class Column:
    """One column of every output.

    Args:
        key: name of the column in the CSV, where ``raw`` does not give names of its own.
        title: its heading; a line break is a space where an output has no line breaks in headings.
        cell: what people read; ``None`` for a column that only the CSV has.
        raw: exact values for the CSV.
        left: text, not a number.
        terminal: whether a terminal of 100 columns has room for it.
    """

    key: str
    title: str
    cell: Callable[[Row], Cell] | None
    raw: Callable[[Row], dict[str, Any]]
    left: bool = False
    terminal: bool = True

    @property
    def heading(self) -> str:
        return self.title.replace("\n@", "@").replace("\n", " ")


@dataclass(frozen=True)
class Table:
    """Columns, rows and a sentence that says how to read the figures."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str

    def cells(self, row: Row) -> list[tuple[Column, Cell]]:
        return [(column, column.cell(row)) for column in self.columns if column.cell is not None]

    @property
    def shown(self) -> list[Column]:
        return [column for column in self.columns if column.cell is not None]


def first(rows: Any, role: str) -> Row | None:
    """The first row of that role."""
    return next((row for row in rows if row.get("role") == role), None)


def teacher_ratio(row: Row, teacher: Row | None) -> float | None:
    """The teacher's bytes by this row's; a row of a grid brings its own teacher's."""
    ours, theirs = row.get("bytes"), row.get("teacher_bytes") or (teacher or {}).get("bytes")
    return float(theirs) / float(ours) if ours and theirs else None


def main_metrics(metric: str, rows: Any) -> list[str]:
    """The run's metric and a second one where it was measured: recall at the same k (else at 10); of a table, that
    which tells most besides."""
    names = {name for row in rows for name in row.get("metrics") or {}}
    wanted = (f"recall@{metric.partition('@')[2]}", *_SECOND)
    second = next((name for name in wanted if name in names and name != metric), None)
    return [metric] if second is None else [metric, second]


def field(key: str) -> Callable[[Row], dict[str, Any]]:
    return lambda row: {key: row.get(key)}


def exact(key: str) -> Column:
    """A column that only the CSV has."""
    return Column(key, key, None, field(key))


def size_column(teacher: Row | None = None) -> Column:
    def cell(row: Row) -> Cell:
        if not row.get("bytes"):
            return Cell(figures.NONE)
        ratio = teacher_ratio(row, teacher)
        compared = ratio is not None and row.get("role") != "teacher"
        text = figures.size(row["bytes"]) + (f" ({figures.ratio(ratio)})" if compared else "")
        return Cell(text, f"{row['bytes']:,.0f} B")

    def raw(row: Row) -> dict[str, Any]:
        return {"bytes": row.get("bytes"), "bytes_ratio": teacher_ratio(row, teacher)}

    return Column("bytes", "on disk\n(smaller)", cell, raw)


def kept_column() -> Column:
    def cell(row: Row) -> Cell:
        kept = row.get("kept")
        if not kept or not figures.known(kept.get("value")):
            return Cell(figures.NONE)
        interval = figures.interval(kept.get("low"), kept.get("high"))
        return Cell(f"{figures.percent(kept['value'])} {interval}".strip())

    def raw(row: Row) -> dict[str, Any]:
        kept = row.get("kept") or {}
        return {"kept": kept.get("value"), "kept_low": kept.get("low"), "kept_high": kept.get("high")}

    return Column("kept", "% of teacher\n[95 % CI]", cell, raw)


def latency_column() -> Column:
    def cell(row: Row) -> Cell:
        times = (row.get("latency") or {}).get("1")
        if not times:
            return Cell(figures.NONE)
        return Cell(" / ".join(figures.milliseconds(times.get(name)) for name in ("p50_ms", "p99_ms")))

    def raw(row: Row) -> dict[str, Any]:
        latency = row.get("latency") or {}
        return {f"latency_b{b}_{name}": value for b, ms in latency.items() for name, value in ms.items()}

    return Column("latency", "ms, batch 1\np50 / p99", cell, raw)


def work_column() -> Column:
    """Counts of one request, for the CSV."""

    def raw(row: Row) -> dict[str, Any]:
        found = row.get("work") or {}
        return {"flops": found.get("flops"), "request_memory": found.get("memory")}

    return Column("work", "work", None, raw)


def title(metric: str) -> str:
    return figures.metric_name(metric).replace("@", "\n@").replace(" ", "\n", 1)


def _metric_column(name: str, shown: bool, terminal: bool = True) -> Column:
    def cell(row: Row) -> Cell:
        low, high = (row.get("ci") or {}).get(name) or (None, None)
        detail = f"[{figures.quality(low)}, {figures.quality(high)}]" if figures.known(low) else ""
        return Cell(figures.quality((row.get("metrics") or {}).get(name)), detail)

    def raw(row: Row) -> dict[str, Any]:
        values: dict[str, Any] = {name: (row.get("metrics") or {}).get(name)}
        interval = (row.get("ci") or {}).get(name)
        return values | ({f"{name}_low": interval[0], f"{name}_high": interval[1]} if interval else {})

    return Column(name, title(name), cell if shown else None, raw, terminal=terminal)


def summary_columns(summary: Mapping[str, Any]) -> tuple[Column, ...]:
    """The columns of one run."""
    rows = summary["rows"]
    shown = main_metrics(summary["metric"], rows)
    others = [name for name in dict.fromkeys(name for row in rows for name in row.get("metrics") or {})
              if name not in shown]  # fmt: skip
    # Those of a table are few, and none is by k.
    on_page = [name for name in others if units.tabular(summary) and name not in _CSV_ONLY]
    return (
        Column("name", "model", _name, field("name"), left=True),
        exact("role"),
        exact("label"),
        parameters_column(),
        size_column(first(rows, "teacher")),
        *(_metric_column(name, True) for name in shown),
        *(_metric_column(name, True, terminal=False) for name in on_page),
        kept_column(),
        Column("p_alone", "p vs\nalone", _p_alone, lambda row: {key: row.get(key) for key in ("p_alone", P_ALONE)}),
        latency_column(),
        work_column(),
        *(_metric_column(name, False) for name in others if name not in on_page),
        Column("overlap", "overlap", None, _overlap),
        exact("train_seconds"),
        Column("trials", "trials", None, lambda row: {"trials": row.get("trials") or 1}),
        exact("weights_hash"),
    )


def parameters_column() -> Column:
    return Column(
        "parameters", "params", _parameters, lambda row: {key: row.get(key) for key in ("parameters", "nonzeros")}
    )


def _parameters(row: Row) -> Cell:
    """How many; and of a pruned model how many are left."""
    count, left = row.get("parameters"), row.get("nonzeros")
    pruned = bool(count and left is not None and left < SPARSE * count)
    return Cell(figures.count(count), f"{figures.count(left)} not 0" if pruned else "")


def _name(row: Row) -> Cell:
    trials = row.get("trials") or 1  # models that were fitted to choose this one
    return Cell(row["name"], ", ".join(filter(None, [row.get("label"), f"{trials} trials" if trials > 1 else ""])))


def _p_alone(row: Row) -> Cell:
    return Cell(figures.probability(row.get(P_ALONE)))


def _overlap(row: Row) -> dict[str, Any]:
    return {f"overlap@{k}": value for k, value in (row.get("overlap") or {}).items()}


def summary_table(summary: Mapping[str, Any]) -> Table:
    """The table of one run, from its ``summary.json``."""
    metric, teacher, columns = summary["metric"], first(summary["rows"], "teacher"), summary_columns(summary)
    caption = units.tested_on(metric, summary)
    caption += units.lower_is_better(column.key for column in columns if column.cell is not None)
    if teacher is not None:
        caption += f" % of teacher: {_share(teacher, summary)}."
    if first(summary["rows"], "alone") is not None:
        tested = len({_tested(row) for row in summary["rows"] if row.get(P_ALONE) is not None})
        lines = f"{tested} {'models' if units.tabular(summary) else 'rows'}"
        caption += f" p: {units.paired_test(metric)} against the same student trained alone, Holm over {lines}."
    return Table(columns, tuple(summary["rows"]), caption + clock(summary))


def _tested(row: Row) -> str:
    """What a test is made of: a model once, and each way of re-ranking it."""
    return str(row["name"] if row.get("role") == "reranked" else row.get("weights_hash", row["name"]))


def _share(teacher: Row, summary: Mapping[str, Any]) -> str:
    """What a share of the teacher is, or why there is none."""
    metric = summary["metric"]
    shown = any(row.get("kept") for row in summary["rows"])
    none = "" if shown else units.no_share(metric, (teacher.get("ci") or {}).get(metric))
    share = units.teacher_share(metric, (teacher.get("metrics") or {}).get(metric))
    return none or f"{share}, same {units.unit(metric)}s and evaluator"


def clock(summary: Mapping[str, Any]) -> str:
    """How the latency was measured: without it the milliseconds mean nothing."""
    machine = summary.get("machine") or {}
    measured = next((row["latency"] for row in summary["rows"] if row.get("latency")), None)
    if measured is None or not machine.get("cpu"):
        return ""
    threads = measured.get("1", {}).get("threads") or machine.get("threads")
    items = ((summary.get("data") or {}).get("report") or {}).get("items")
    said = [str(machine["cpu"])]
    said += [f"{threads} thread{'s' if threads > 1 else ''}"] if threads else []
    said += [f"{items} items"] if items and not units.tabular(summary) else []
    request = "one row scored" if units.tabular(summary) else "one request"
    return f" Latency: {request} on {', '.join(said)}."
