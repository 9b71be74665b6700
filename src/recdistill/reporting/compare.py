"""The table of ``recdistill compare``: on the screen, as Markdown, CSV and JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.reporting import escape, figures, formats, units
from recdistill.reporting.headline import SIGNIFICANT
from recdistill.reporting.table import Cell, Column, Row, Table, exact, field
from recdistill.reporting.write import print_report
from recdistill.runs.atomic import atomic_path, write_json

if TYPE_CHECKING:
    from rich.console import Console

MARKDOWN, CSV, JSON = FILES = ("compare.md", "compare.csv", "compare.json")
ONE_SEED = " (1 seed)"  # of a verdict
__all__ = ["FILES", "ONE_SEED", "SIGNIFICANT", "comparison_table", "lead", "print_comparison", "write_comparison"]


def comparison_table(comparison: Mapping[str, Any]) -> Table:
    """One line a model; those of a reference have no difference."""
    metric, lines = comparison["metric"], comparison["lines"]
    several = any(len(line["by_run"]) > 1 for line in lines)
    unit = units.unit(metric)
    columns = (
        Column("name", "model", _name, lambda row: {key: row[key] for key in ("number", "name")}, left=True),
        *(exact(key) for key in ("role", "label", "detail")),
        Column("seeds", f"{_repeated(comparison)}\n±sd", _seeds, _seeds_raw, terminal=several),
        Column(metric, f"{figures.metric_name(metric)}\n[95 % CI]", _value, lambda row: _value_raw(row, metric)),
        Column("difference", "difference\n[95 % CI]", _difference, _difference_raw),
        _p("p_users", f"p {unit}s", terminal=False),
        _p("p_bootstrap", f"p seeds and {unit}s", terminal=False),
        Column("p", "p", _p_cell("p"), field("p")),
        _p("p_holm", "p\nHolm"),
        Column("trials", "trials", lambda row: Cell(str(row["trials"])), field("trials"), terminal=False),
        Column("verdict", "verdict", _verdict, field("verdict")),
    )
    return Table(columns, tuple(lines), _caption(comparison, several))


def _repeated(comparison: Mapping[str, Any]) -> str:
    """What the runs of a line differ by."""
    if len(comparison["folds"]) < 2:
        return "seeds"
    return "runs" if any(len(set(line["seeds"])) > 1 for line in comparison["lines"]) else "folds"


def _verdict(row: Row) -> Cell:
    return Cell(str(row["verdict"]).replace("reference", "ref."))


def _name(row: Row) -> Cell:
    trials = f"{row['trials']} trials" if row["trials"] > 1 else ""
    return Cell(f"{row['number']} {row['name']}", ", ".join(t for t in (row["detail"], row["label"], trials) if t))


def _short(value: float | None, sign: str = "") -> str:
    """Four digits without the zero before the point, which a line of 100 columns has no room for."""
    if value is None or not figures.known(value):
        return figures.NONE
    return re.sub(r"^([+-]?)0\.", r"\1.", f"{value:{sign}.4f}")


def _with_interval(value: float | None, low: float | None, high: float | None, sign: str = "") -> str:
    bounds = f" [{_short(low, sign)}, {_short(high, sign)}]" if figures.known(low) and figures.known(high) else ""
    return _short(value, sign) + bounds


def _value(row: Row) -> Cell:
    return Cell(_with_interval(row["value"], row["low"], row["high"]))


def _value_raw(row: Row, metric: str) -> dict[str, Any]:
    return {metric: row["value"], f"{metric}_sd": row["sd"], f"{metric}_low": row["low"], f"{metric}_high": row["high"]}


def _difference(row: Row) -> Cell:
    found = row["difference"]
    return Cell(_with_interval(found["value"], found["low"], found["high"], "+") if found else figures.NONE)


def _difference_raw(row: Row) -> dict[str, Any]:
    found = row["difference"] or {}
    return {f"difference{end}": found.get(key) for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))}


def _seeds(row: Row) -> Cell:
    spread = f" ±{row['sd']:.4f}".replace("±0.", "±.") if row["sd"] is not None else ""
    return Cell(f"{len(row['seeds'])}{spread}")


def _seeds_raw(row: Row) -> dict[str, Any]:
    folds = " ".join(str(fold) for fold in row["folds"] if fold is not None)
    seeds = {"n_runs": len(row["by_run"]), "seeds": " ".join(map(str, row["seeds"])), "folds": folds}
    return seeds | {"runs": " ".join(row["runs"])}


def _p_cell(key: str) -> Callable[[Row], Cell]:
    return lambda row: Cell(figures.probability(row[key]))


def _p(key: str, heading: str, *, terminal: bool = True) -> Column:
    return Column(key, heading, _p_cell(key), field(key), terminal=terminal)


def _caption(comparison: Mapping[str, Any], several: bool) -> str:
    repeated = _repeated(comparison)
    over = "seeds and folds" if repeated == "runs" else repeated
    two_way = any(len(set(line["seeds"])) > 1 for line in comparison["lines"])
    metric, unit = comparison["metric"], units.unit(comparison["metric"])
    test = f"two-way bootstrap over seeds and {unit}s" if two_way else f"paired t-test over {unit}s"
    compared = len(comparison["lines"]) - 1
    one = any(line["verdict"].endswith(ONE_SEED) for line in comparison["lines"])
    sentences = [
        units.tested_on(metric, {f"n_{unit}s": comparison["n_users"]}),
        units.lower_is_better([metric]).strip(),
        f"Mean over {over}, ±sd of their means." if several else "",
        f"Tests and intervals take each {unit}'s mean over the folds where it is tested."
        if repeated != "seeds"
        else "",
        f"Difference: from line {comparison['against']}, same {unit}s. p: {test}.",
        f"Holm: adjusted over the {compared} lines that are compared." if compared > 1 else "",
        f"noise: Holm's p is {SIGNIFICANT} or more, so the two can't be told apart.",
        "(1 seed): the line or its reference has one seed only, so it is about these weights: trained again with other"
        " seeds, the two may be alike."
        if one
        else "",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def lead(comparison: Mapping[str, Any]) -> str:
    """The result in one sentence."""
    lines = comparison["lines"]
    reference = lines[comparison["against"] - 1]
    name = f"{reference['name']} ({reference['detail']})" if reference["detail"] else reference["name"]
    if len(lines) == 1:
        return f"There is one model only, {name}: nothing to compare it with."
    counts = {word: sum(line["verdict"].startswith(word) for line in lines) for word in ("better", "worse", "noise")}
    told = [f"{counts[word]} {word}" for word in ("better", "worse") if counts[word]]
    told += [f"{counts['noise']} not distinguishable from it"] if counts["noise"] else []
    return f"{figures.metric_name(comparison['metric'])} against {name}: {', '.join(told)}."


def write_comparison(folder: Path, comparison: Mapping[str, Any]) -> None:
    """Writes ``compare.md``, ``compare.csv`` and ``compare.json``."""
    table = comparison_table(comparison)
    notes = "".join(f"\n- {escape.markdown(note)}" for note in comparison["notes"])
    text = f"{escape.markdown(lead(comparison))}\n\n{formats.to_markdown(table)}{notes and notes + chr(10)}"
    text += f"\n`{escape.visible(comparison['command']).replace('`', '')}`\n"
    for name, content in ((MARKDOWN, text), (CSV, formats.to_csv(table))):
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(content.encode())
    write_json(folder / JSON, comparison)


def print_comparison(comparison: Mapping[str, Any], console: Console, folder: Path) -> None:
    """One screen."""
    print_report(
        console, [lead(comparison)], comparison_table(comparison), notes=comparison["notes"], warnings=(), folder=None
    )
    console.print(f"written: {folder / MARKDOWN}, {CSV}, {JSON}", soft_wrap=True, markup=False, highlight=False)
