"""A table as rich, Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from recdistill.reporting import escape
from recdistill.reporting.table import Cell, Column, Row, Table

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from rich.text import Text

_ROLE_STYLE = {"teacher": "cyan", "student": "bold green", "failed": "red", "baseline": "dim"}


def to_rich(table: Table) -> RichTable:
    """For a terminal of 100 columns: figures never wrap, long names do."""
    from rich import box
    from rich.table import Table as RichTable

    rich = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)
    for column in filter(lambda column: column.terminal, table.shown):
        # Only the name may shrink: rich narrows columns that could wrap and leaves the others whole.
        rich.add_column(
            column.title,
            justify="left" if column.left else "right",
            no_wrap=not column.left,
            vertical="top",
            min_width=12 if column.left else None,
        )
    for row in table.rows:
        cells = [(column, cell) for column, cell in table.cells(row) if column.terminal]
        rich.add_row(*(_rich_cell(row, column, cell) for column, cell in cells))
    return rich


def _rich_cell(row: Row, column: Column, cell: Cell) -> Text:
    from rich.text import Text

    text = Text(overflow="fold")
    style = _ROLE_STYLE.get(row.get("role", ""), "") if column.left else ""
    text.append(escape.visible(cell.text), style=style)
    if column.left and cell.detail:
        text.append("\n" + escape.visible(cell.detail), style="dim")
    return text


def to_markdown(table: Table) -> str:
    """A GitHub table and its caption."""
    lines = [
        "| " + " | ".join(escape.markdown(column.heading) for column in table.shown) + " |",
        "|" + "|".join(":--" if column.left else "--:" for column in table.shown) + "|",
    ]
    for row in table.rows:
        lines.append("| " + " | ".join(_markdown_cell(cell) for _, cell in table.cells(row)) + " |")
    return "\n".join([*lines, "", escape.markdown(table.caption), ""])


def _markdown_cell(cell: Cell) -> str:
    text = escape.markdown(cell.text)
    return f"{text}<br>{escape.markdown(cell.detail)}" if cell.detail else text


def to_latex(table: Table) -> str:
    """A booktabs ``tabular`` to be put into a paper's table environment."""
    shown = table.shown
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{tabular}{" + "".join("l" if column.left else "r" for column in shown) + "}",
        "\\toprule",
        " & ".join(escape.latex(column.heading) for column in shown) + r" \\",
        "\\midrule",
    ]
    for row in table.rows:
        lines.append(" & ".join(_latex_cell(column, cell) for column, cell in table.cells(row)) + r" \\")
    caption = "% " + escape.visible(table.caption)
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", caption, ""])


def _latex_cell(column: Column, cell: Cell) -> str:
    text = escape.latex(cell.text)
    return f"{text} ({escape.latex(cell.detail)})" if column.left and cell.detail else text


def to_csv(table: Table) -> str:
    """Every column with exact numbers; a value that a row lacks is an empty cell."""
    raws = [[column.raw(row) for column in table.columns] for row in table.rows]
    records = [{key: value for raw in row for key, value in raw.items()} for row in raws]
    header = _header(table)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([escape.csv_cell(key) for key in header])
    writer.writerows([[escape.csv_cell(record.get(key)) for key in header] for record in records])
    return out.getvalue()


def _header(table: Table) -> list[str]:
    """Keys column by column, so that one that only a later row has still stands beside its neighbours."""
    keys = [key for column in table.columns for row in table.rows for key in column.raw(row)]
    return list(dict.fromkeys(keys)) or [column.key for column in table.columns]
