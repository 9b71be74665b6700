"""Writes a run's reports beside its ``summary.json`` and prints them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.reporting import beyond, escape, formats, page
from recdistill.reporting.exports import export_lines
from recdistill.reporting.headline import headline
from recdistill.reporting.indexes import index_lines
from recdistill.reporting.table import Table, summary_table
from recdistill.runs.atomic import atomic_path

if TYPE_CHECKING:
    from rich.console import Console

CSV, MARKDOWN, LATEX, PAGE = "summary.csv", "table.md", "table.tex", "report.html"


def write_reports(folder: Path, summary: dict[str, Any]) -> None:
    """Writes ``summary.csv``, ``table.md``, ``table.tex`` and ``report.html`` into ``folder``."""
    write_files(folder, summary_table(summary), page.run_page(summary, page.histories(folder, summary)))


def write_files(folder: Path, table: Table, html: str) -> None:
    """Each file whole or not at all."""
    for name, text in {**texts(table), PAGE: html}.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(text.encode())


def texts(table: Table) -> dict[str, str]:
    """The files of a table, by name."""
    return {CSV: formats.to_csv(table), MARKDOWN: formats.to_markdown(table), LATEX: formats.to_latex(table)}


def print_summary(summary: Mapping[str, Any], console: Console, folder: Path | None = None) -> None:
    """Prints the headline, the table, notes, warnings and, with ``folder``, where the page is."""
    table = summary_table(summary)
    print_report(
        console,
        headline(summary).sentences,
        table,
        notes=[
            *(f"exported {name}: {said}" for name, said in export_lines(summary)),
            *(f"index {name}: {said}" for name, said in index_lines(summary)),
            *(summary.get("notes") or []),
        ],
        warnings=page.warnings(summary),
        folder=folder,
        hint=beyond.HINT if beyond.sections(summary) else "",
    )


def print_report(
    console: Console,
    sentences: Iterable[str],
    table: Table,
    *,
    notes: Iterable[str],
    warnings: Iterable[str],
    folder: Path | None,
    hint: str = "",
) -> None:
    """One screen: what was found, the figures, what to be careful about, where to read on."""
    from rich.text import Text

    lead, *details = sentences
    console.print()
    console.print(Text(escape.visible(lead), style="bold"))
    for sentence in details:
        console.print(Text(escape.visible(sentence)))
    console.print()
    console.print(formats.to_rich(table))
    console.print(Text(escape.visible(table.caption), style="dim"))
    if hint:
        console.print(Text(hint, style="dim"))
    for label, style, lines in (("note", "cyan", notes), ("warning", "yellow", warnings)):
        for line in lines:
            console.print(Text.assemble((f"{label}: ", style), escape.visible(line)))
    if folder is not None:
        # A path that is broken over two lines cannot be clicked or copied.
        console.print(Text.assemble("report: ", str((folder / PAGE).resolve())), soft_wrap=True)
