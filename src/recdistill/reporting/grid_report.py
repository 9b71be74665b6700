"""The outputs of a grid: its columns, its headline and its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.reporting import charts, figures, label_curve, page, units, write
from recdistill.reporting.headline import SIGNIFICANT, Headline
from recdistill.reporting.table import (
    DISTILLED,
    Cell,
    Column,
    Row,
    Table,
    exact,
    field,
    kept_column,
    latency_column,
    main_metrics,
    parameters_column,
    size_column,
    title,
    work_column,
)
from recdistill.runs.atomic import write_json

if TYPE_CHECKING:
    from rich.console import Console

FILE = "grid.json"
_NO_SHARE = "; none where the teacher's own interval includes chance, or not all values are there"


def grid_table(grid: Mapping[str, Any]) -> Table:
    """A line for each configuration and model, then one for each failed job."""
    metric = grid["metric"] or ""
    shown = main_metrics(metric, grid["rows"]) if grid["rows"] else []
    measured = dict.fromkeys(name for row in grid["rows"] for name in row["metrics"])
    columns = (
        Column("name", "model", _name, field("name"), left=True),
        exact("role"),
        exact("label"),
        Column("overrides", "overrides", None, lambda row: {"overrides": " ".join(row["overrides"])}),
        Column("n_runs", f"{_repeated(grid)}\n(trials)", _runs, _runs_raw),
        Column("gain", "gain", None, lambda row: {"gain_alone": row.get("gain")}),
        Column("parameters", "parameters", None, parameters_column().raw),
        size_column(),
        *(_metric_column(name, True, terminal=name == metric) for name in shown),
        kept_column(),
        *(_p_column(key, heading) for key, heading in (("p_alone", "p vs\nalone"), ("p_holm", "p\nHolm"))),
        Column("latency", "latency", None, latency_column().raw),
        work_column(),
        *(_metric_column(name, False) for name in measured if name not in shown),
        exact("error"),
    )
    failed = [_failed_row(job, grid["common"]) for job in grid["failed"]]
    return Table(columns, (*grid["rows"], *failed), _caption(grid))


def _failed_row(job: Mapping[str, Any], common: Sequence[str]) -> dict[str, Any]:
    """Its own overrides only: the caption names those of all jobs."""
    own = [text for text in job["overrides"] if text not in common]
    return {"name": f"job {job['job']} failed (exit {job['exit_code']})", "role": "failed", **job, "overrides": own}


def _name(row: Row) -> Cell:
    parts = [" ".join(row["overrides"]), row.get("error") or row.get("label")]
    return Cell(row["name"], (": " if row.get("error") else ", ").join(part for part in parts if part))


def _repeated(grid: Mapping[str, Any]) -> str:
    """What the runs of a row differ by."""
    folds = any(len(row["folds"]) > 1 for row in grid["rows"])
    seeds = any(row["n_runs"] > max(len(row["folds"]), 1) for row in grid["rows"])
    return "runs" if folds and seeds else "folds" if folds else "seeds"


def _runs(row: Row) -> Cell:
    return Cell(f"{row['n_runs']} ({row['trials']})" if "n_runs" in row else figures.NONE)


def _runs_raw(row: Row) -> dict[str, Any]:
    folds = " ".join(map(str, row.get("folds") or []))
    return {"n_runs": row.get("n_runs"), "folds": folds, "trials": row.get("trials")}


def _p_column(key: str, heading: str) -> Column:
    return Column(key, heading, lambda row: Cell(figures.probability(row.get(key))), field(key))


def _metric_column(name: str, shown: bool, terminal: bool = True) -> Column:
    def cell(row: Row) -> Cell:
        found = (row.get("metrics") or {}).get(name) or {}
        return Cell(figures.spread(found.get("mean"), found.get("sd")))

    def raw(row: Row) -> dict[str, Any]:
        found = (row.get("metrics") or {}).get(name) or {}
        return {name: found.get("mean"), f"{name}_sd": found.get("sd")}

    return Column(name, title(name), cell if shown else None, raw, terminal=terminal)


def _caption(grid: Mapping[str, Any]) -> str:
    metric = grid["metric"] or ""
    unit = units.unit(metric)
    over = {"runs": "seeds and folds"}.get(_repeated(grid), _repeated(grid))
    folds = "" if over == "seeds" else " (each one's mean over the folds where it is tested)"
    many = any(row["n_runs"] > max(len(row["folds"]), 1) for row in grid["rows"])
    tested = sum(row["p_holm"] is not None for row in grid["rows"])
    sentences = [
        units.tested_on(metric, grid),
        *([errors.strip()] if (errors := units.lower_is_better(main_metrics(metric, grid["rows"]))) else []),
        f"Mean ±sd over {over}; trials: how many configurations of that model were tried.",
        f"% of teacher: {units.teacher_ratio(metric)} over {unit}s, the interval is over {unit}s"
        f"{_NO_SHARE if any(row['role'] != 'teacher' and not row['kept'] for row in grid['rows']) else ''}.",
        f"p: {f'two-way bootstrap over seeds and {unit}s' if many else f'paired t-test over {unit}s'}{folds},"
        " against the same student trained alone.",
        f"Holm: over all {tested} rows that are tested.",
        *([f"All jobs: {' '.join(grid['common'])}."] if grid["common"] else []),
    ]
    return " ".join(sentences)


def grid_headline(grid: Mapping[str, Any]) -> Headline:
    """How much of the grid stands, and how many of its students a test tells from one trained alone.

    No best row is named: it would be chosen by looking at the test part.
    """
    jobs, failed = grid["n_jobs"], grid["n_failed"]
    data = f" on {grid['data']}" if grid["data"] else ""
    configs = f"{grid['n_configs']} configuration" + ("" if grid["n_configs"] == 1 else "s")
    lead = f"{configs}{data}: {jobs - failed} of {jobs} jobs finished" + (f", {failed} failed." if failed else ".")
    tested = [row for row in grid["rows"] if row["role"] in DISTILLED and row["p_holm"] is not None]
    if not tested:
        return Headline(lead)
    sure = [row for row in tested if row["p_holm"] < SIGNIFICANT and row["gain"] is not None]
    better, worse = ([row for row in sure if sign * row["gain"] > 0] for sign in (1, -1))
    text = f"{len(better)} of {len(tested)} distilled models are significantly better"
    text += f" and {len(worse)} significantly worse" if worse else ""
    harmed = sum(row["role"] == "student" for row in worse) if grid.get("transfer") else 0
    harm = [f"Negative transfer: the teacher of {grid['transfer']} made {harmed} of them worse."] if harmed else []
    return Headline(lead, [f"{text} than the same student trained alone (Holm's p).", *harm])


def _point_label(row: Row) -> str:
    """Short, for a chart: ``distiller=[rrd] student.dim=16`` of a student is ``rrd dim=16``."""
    parts = [] if row["role"] == "student" and row["overrides"] else [row["name"]]
    for override in row["overrides"]:
        key, _, value = override.lstrip("+").partition("=")
        _, dot, tail = key.rpartition(".")
        parts.append(f"{tail}={value}" if dot else value.strip("[]"))
    return " ".join(parts)


def _points(grid: Mapping[str, Any]) -> list[dict[str, Any]]:
    points = []
    for row in grid["rows"]:
        found = row["metrics"].get(grid["metric"]) or {}
        mean, sd = found.get("mean"), found.get("sd")
        ends = {"low": mean - sd, "high": mean + sd} if sd is not None else {"low": None, "high": None}
        points.append({"label": _point_label(row), "role": row["role"], "bytes": row["bytes"], "value": mean, **ends})
    return points


def _charts(grid: Mapping[str, Any]) -> list[page.Chart]:
    found = [_label_chart(grid), page.pareto_chart(_points(grid), grid["metric"], "Bars: ±sd over seeds.")]
    return [chart for chart in found if chart]


def _label_chart(grid: Mapping[str, Any]) -> page.Chart | None:
    """Quality against the share of labels, where the grid goes over some."""
    drawn = label_curve.draw_curves(label_curve.curves_of(grid), grid["metric"])
    caption = (
        "Students learn from a share of the training labels; test and validation are whole. Bands: ±sd over seeds."
    )
    return page.Chart("Quality against labels", caption, [("", drawn)]) if drawn else None


def grid_page(grid: Mapping[str, Any], *, drawn: bool = True) -> str:
    """The joint page: headline, table, and unless it is not to be ``drawn`` quality against labels and bytes."""
    drawings = _charts(grid) if drawn and grid["rows"] and charts.available() else []
    jobs = [(f"{row['name']} {' '.join(row['overrides'])}", ", ".join(row["jobs"])) for row in grid["rows"]]
    facts = [("folder", grid["folder"]), ("overrides of all jobs", " ".join(grid["common"]) or "none")]
    return page.render(
        page.Page(
            title=Path(grid["folder"]).name,
            headline=grid_headline(grid),
            table=grid_table(grid),
            charts=drawings,
            notes=grid["notes"],
            warnings=_warnings(grid),
            facts=[("Grid", facts), ("Jobs behind each row", jobs)],
        )
    )


def _warnings(grid: Mapping[str, Any]) -> list[str]:
    of_data = [f"data: {text}" for text in grid.get("data_warnings") or []]
    return of_data + [f"{row['name']}: {text}" for row in grid["rows"] for text in row["warnings"]]


def write_grid(folder: Path, grid: Mapping[str, Any]) -> None:
    """Writes ``grid.json`` and the same four files as a run has."""
    write_json(folder / FILE, grid)
    write.write_files(folder, grid_table(grid), grid_page(grid))


def print_grid(grid: Mapping[str, Any], console: Console, folder: Path) -> None:
    """The grid on one screen; the row of a failed job says why it failed."""
    write.print_report(
        console,
        grid_headline(grid).sentences,
        grid_table(grid),
        notes=grid["notes"],
        warnings=_warnings(grid),
        folder=folder,
    )
