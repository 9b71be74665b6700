"""The table of ``recdistill verify``: what a run says, what was found anew, and whether they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recdistill.reporting import escape, figures, formats
from recdistill.reporting.table import Cell, Column, Row, Table, field

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 16  # of a value; hashes are longer, and their start tells them apart
MAX_SHOWN = 40


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        what: its name; of a model, ``MODEL: THING``.
        stored: what the run says.
        found: what was found anew.
        agrees: whether the two are the same, numbers to the tolerance.
        difference: the largest one, of numbers.
    """

    what: str
    stored: Any
    found: Any
    agrees: bool
    difference: float | None = None


def print_checks(name: str, checks: Sequence[Check], notes: Sequence[str], console: Console) -> None:
    """The table of one run and, in front of it, the verdict."""
    from rich.text import Text

    wrong = [check for check in checks if not check.agrees]
    verdict = f"{len(wrong)} of {len(checks)} checks do not agree" if wrong else f"all {len(checks)} checks agree"
    console.print()
    console.print(Text(f"{escape.visible(name)}: {verdict}.", style="bold red" if wrong else "bold green"))
    rows = [*(_row(check.what, [check]) for check in wrong), *_together([check for check in checks if check.agrees])]
    console.print(formats.to_rich(_table(rows[:MAX_SHOWN])))
    if len(rows) > MAX_SHOWN:
        console.print(Text(f"and {len(rows) - MAX_SHOWN} more lines", style="dim"))
    for note in notes:
        console.print(Text.assemble(("note: ", "cyan"), escape.visible(note)))


def _together(checks: Sequence[Check]) -> list[Row]:
    """What agrees, a model a line."""
    groups: dict[str, list[Check]] = {}
    for check in checks:
        groups.setdefault(check.what.rpartition(": ")[0] or check.what, []).append(check)
    return [_row(name, group) for name, group in groups.items()]


def _row(name: str, checks: Sequence[Check]) -> dict[str, Any]:
    differences = [check.difference for check in checks if check.difference is not None]
    things = [check.what.removeprefix(f"{name}: ") for check in checks]
    return {
        **vars(checks[0]),
        "what": name,
        "detail": ", ".join(things) if things != [name] else "",
        "difference": max(differences, default=None),
    }


def _table(rows: Sequence[Row]) -> Table:
    columns = (
        Column("what", "what", lambda row: Cell(row["what"], row["detail"]), field("what"), left=True),
        Column("stored", "stored", lambda row: _value(row["stored"]), field("stored")),
        Column("found", "recomputed", lambda row: _value(row["found"]), field("found")),
        Column("difference", "difference", _difference, field("difference")),
        Column("verdict", "verdict", lambda row: Cell("agrees" if row["agrees"] else "DIFFERS"), field("agrees")),
    )
    return Table(columns, tuple(rows), "")


def _value(value: Any) -> Cell:
    if value is None:
        return Cell(figures.NONE)
    text = f"{value:.12g}" if isinstance(value, float) else str(value)
    return Cell(text if len(text) <= WIDTH else text[: WIDTH - 1] + "…")


def _difference(row: Row) -> Cell:
    value = row["difference"]
    return Cell(figures.NONE if value is None else "0" if value == 0 else f"{value:.1e}")
