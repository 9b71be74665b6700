"""Every output holds the figures that went in, and nothing in a name can act."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from rich.console import Console

from recdistill.reporting import escape, figures, formats, page
from recdistill.reporting.costs import cost_table
from recdistill.reporting.table import Table, summary_table
from recdistill.reporting.write import print_summary

EVIL = "=cmd|' /C calc'!A0\x1b[31m<script>alert(1)</script>\n|$\\%&_ \u202etxt"


def _csv(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(formats.to_csv(table))))


def _printed(summary: dict[str, Any], width: int = 100, **options: Any) -> str:
    out = io.StringIO()
    print_summary(summary, Console(file=out, width=width, **options))
    return out.getvalue()


def test_csv_is_exact(summary: dict[str, Any]) -> None:
    records = _csv(summary_table(summary))
    assert [record["name"] for record in records] == [row["name"] for row in summary["rows"]]
    for record, row in zip(records, summary["rows"], strict=True):
        assert int(record["parameters"]) == row["parameters"]
        assert int(record["bytes"]) == row["bytes"]
        assert float(record["bytes_ratio"]) == 24_320_512 / row["bytes"]
        for metric, value in row["metrics"].items():
            assert float(record[metric]) == value
        assert (float(record["ndcg@10_low"]), float(record["ndcg@10_high"])) == tuple(row["ci"]["ndcg@10"])
        assert record["weights_hash"] == row["weights_hash"]
        if row["latency"]:
            assert float(record["latency_b256_p95_ms"]) == row["latency"]["256"]["p95_ms"]
        if row["overlap"]:
            assert float(record["overlap@20"]) == row["overlap"]["20"]
    student = records[3]
    kept = summary["rows"][3]["kept"]
    assert [float(student[key]) for key in ("kept", "kept_low", "kept_high")] == [*kept.values()]
    assert float(student["p_alone"]) == 0.0002
    assert records[0]["kept"] == records[4]["latency_b1_p50_ms"] == ""


@pytest.mark.parametrize("write", [formats.to_markdown, formats.to_latex])
def test_papers_show_what_the_csv_has(summary: dict[str, Any], write: Any) -> None:
    text = write(summary_table(summary))
    line = next(line for line in text.splitlines() if "student" in line)
    for figure in (
        "381 k",
        "1.52 MB (16x)",
        "0.3812",
        "0.6480",
        "93.1",
        "91.0, 95.2",
        ".001",
        "0.051 / 0.076",
    ):
        assert figure in line, figure


def test_markdown_rows_have_as_many_cells_as_the_heading(summary: dict[str, Any]) -> None:
    summary["rows"][0]["name"] = "a|b"
    lines = [line for line in formats.to_markdown(summary_table(summary)).splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in lines} == {9}


def test_latex_is_a_booktabs_table(summary: dict[str, Any]) -> None:
    text = formats.to_latex(summary_table(summary))
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 1
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert len(body) == 5
    assert {line.count(" & ") for line in body} == {7}
    assert all(line.endswith(r"\\") for line in body)


@pytest.mark.parametrize("width", [100, 120])
def test_terminal_lines_fit_and_figures_do_not_wrap(summary: dict[str, Any], row_with: Any, width: int) -> None:
    name = "a-student-with-a-name-that-nobody-would-want-to-type"
    summary["rows"].append(row_with(name, "student", 0.3, 999_999, label="some architecture, d=16, 2 layers, tied"))
    text = _printed(summary, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert any(
        all(figure in line for figure in ("381 k", "1.52 MB (16x)", "0.3812", "93.1 [91.0, 95.2]", "0.051 / 0.076"))
        for line in text.splitlines()
    )


def test_terminal_prints_notes_warnings_and_the_page(summary: dict[str, Any], tmp_path: Any) -> None:
    summary["notes"] = ["a note"]
    summary["data"]["report"]["warnings"] = ["3 rows dropped"]
    summary["rows"][3]["warnings"] = ["all scores equal"]
    out = io.StringIO()
    print_summary(summary, Console(file=out, width=100), tmp_path)
    text = out.getvalue()
    assert "note: a note" in text
    assert "warning: data: 3 rows dropped" in text
    assert "warning: student: all scores equal" in text
    assert f"report: {tmp_path / 'report.html'}" in text


def test_names_cannot_act(summary: dict[str, Any]) -> None:
    summary["rows"][3]["name"] = EVIL
    table = summary_table(summary)
    printed = _printed(summary, force_terminal=False, color_system=None)
    assert "\x1b" not in printed
    assert "\u202e" not in printed
    markdown, latex = formats.to_markdown(table), formats.to_latex(table)
    assert "<script" not in markdown
    assert "\x1b" not in markdown + latex
    assert r"\textbackslash{}\%\&\_" in latex
    assert len(markdown.splitlines()) == len(formats.to_markdown(table).split("\n")) - 1
    cell = _csv(table)[3]["name"]
    assert cell.startswith("'=cmd")
    assert "\n" not in cell


def test_rich_markup_in_a_name_is_text(summary: dict[str, Any]) -> None:
    summary["rows"][3]["name"] = "[red]x[/red]"
    assert "[red]x[/red]" in _printed(summary)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r", "  ="])
def test_csv_text_never_starts_a_formula(start: str) -> None:
    assert escape.csv_cell(start + "1").startswith("'")


def test_csv_numbers_stay_numbers() -> None:
    assert [escape.csv_cell(value) for value in (-1.5, 0.1, 7, None)] == ["-1.5", "0.1", "7", ""]


def test_lone_surrogates_can_be_written() -> None:
    assert escape.visible("a\udcff") == "a\\udcff"
    assert escape.visible("家 👩‍💻 ü") == "家 👩‍💻 ü"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (999, "999 B"), (999_999, "1.00 MB"), (2.5e9, "2.50 GB")],
)
def test_sizes(value: float | None, text: str) -> None:
    assert figures.size(value) == text


def test_missing_figures_are_dashes(summary: dict[str, Any]) -> None:
    bare = {"name": "x", "role": "student", "label": "", "metrics": {}}
    table = summary_table({**summary, "rows": [bare]})
    assert [cell.text for _, cell in table.cells(bare)][1:] == ["–"] * (len(table.shown) - 1)
    formats.to_csv(table)


def test_another_task_has_its_own_metric(summary: dict[str, Any]) -> None:
    summary["metric"] = "auc"
    for row in summary["rows"]:
        row["metrics"] = {"auc": 0.75, "logloss": 0.4}
    headings = [column.heading for column in summary_table(summary).shown]
    assert "AUC" in headings
    assert "NDCG@10" not in headings


def test_p_is_adjusted_wherever_it_is_shown(summary: dict[str, Any]) -> None:
    """A raw p of .03 that Holm takes above .05 is no finding, and the files have both."""
    summary["rows"][3] |= {"p_alone": 0.03, "p_alone_holm": 0.0612}
    printed = " ".join(_printed(summary).split())
    assert "not significantly better than the same student trained alone" in printed
    assert "p = .061" in printed
    assert "Holm over 2 rows" in printed
    for text in (formats.to_markdown(summary_table(summary)), page.run_page(summary, {})):
        assert ".061" in text
        assert ".030" not in text
    student = _csv(summary_table(summary))[3]
    assert (float(student["p_alone"]), float(student["p_alone_holm"])) == (0.03, 0.0612)


def test_a_pruned_model_says_what_is_left(summary: dict[str, Any]) -> None:
    row = summary["rows"][-1]
    row["nonzeros"] = row["parameters"] // 4
    column = next(column for column in summary_table(summary).columns if column.key == "parameters")
    assert column.cell is not None
    assert column.cell(row).detail == f"{figures.count(row['nonzeros'])} not 0"
    assert column.cell({**row, "nonzeros": row["parameters"]}).detail == ""
    assert column.raw(row) == {"parameters": row["parameters"], "nonzeros": row["nonzeros"]}


def test_costs_of_each_row(summary: dict[str, Any]) -> None:
    row = next(row for row in summary["rows"] if row["latency"])
    row |= {"nonzeros": 1_500, "work": {"flops": 2_340_000, "memory": 56_000}}
    table = cost_table(summary)
    assert table is not None
    cells = {column.key: cell.text for column, cell in table.cells(row)}
    assert (cells["not 0"], cells["FLOP a\nrequest"], cells["memory of\na request"]) == ("1.50 k", "2.34 M", "56.0 kB")
    times = [row["latency"]["1"][f"p{share}_ms"] for share in (50, 95, 99)]
    assert cells["ms,\nbatch 1"] == " / ".join(map(figures.milliseconds, times))
    assert next(record["flops"] for record in _csv(summary_table(summary)) if record["flops"]) == "2340000"
    assert cost_table({"rows": [{**row, "latency": None}]}) is None
