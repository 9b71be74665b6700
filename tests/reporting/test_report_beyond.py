"""The sections on what averages don't tell: figures, counts, and that they stay out of the comparison table."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from recdistill.reporting import beyond, formats
from recdistill.reporting.page import run_page
from recdistill.reporting.table import summary_table
from recdistill.reporting.write import print_summary

Summary = dict[str, Any]


def found(tail: float | None) -> dict[str, Any]:
    return {
        "k": 10, "coverage": 0.625, "gini": 0.6887, "entropy": 9.249, "user_coverage": 1.0, "full_lists": 1.0,
        "novelty": 6.353, "popularity": 27.94, "popularity_lift": 0.2416, "tail_share": tail,
        "tail_share_history": 0.226, "popularity_divergence": 0.1512, "diversity": 0.9173, "diversity_users": 6040,
        "diversity_by": "co-occurrence in training",
    }  # fmt: skip


def slices(value: float) -> list[dict[str, Any]]:
    def one(by: str, name: str, users: int, pairs: int, **more: Any) -> dict[str, Any]:
        value_of = {"ndcg@10": value if pairs else None}
        ci = {"ndcg@10": [value - 0.01, value + 0.01] if pairs else None}
        return {"by": by, "name": name, "users": users, "pairs": pairs, "metrics": value_of, "ci": ci, **more}

    return [
        one("users", "light", 2000, 2100, history=[1, 7]), one("users", "medium", 2040, 2200, history=[8, 11]),
        one("users", "heavy", 2000, 2300, history=[12, 36]), one("items", "head", 900, 1000, items=137),
        one("items", "mid", 2900, 3600, items=785), one("items", "tail", 1500, 2000, items=578),
        one("items", "cold", 0, 0, items=0),
    ]  # fmt: skip


@pytest.fixture
def closer(summary: Summary) -> Summary:
    for place, row in enumerate(summary["rows"]):
        row |= {"beyond": found(0.0889 if place else None), "slices": slices(0.1 + place / 10), "sampled": {}}
    return summary


def text_of(table: Any) -> str:
    return formats.to_markdown(table)


def test_figures_and_counts(closer: Summary) -> None:
    accuracy, parts = beyond.sections(closer)
    lines = text_of(accuracy.table).splitlines()
    assert "62.5 %" in lines[3]
    assert "+24 %" in lines[3]
    assert "8.9 %" in lines[3]
    assert "–" in lines[2]  # what is not defined
    assert "22.6 %" in accuracy.table.caption
    assert "category" not in text_of(accuracy.table)
    assert parts.title == "NDCG@10 by users and items"
    heading = text_of(parts.table).splitlines()[0]
    assert "light users 1–7 items 2,000 users" in heading
    assert "tail items 578 items 2,000 pairs" in heading
    assert "cold" not in heading  # nothing was cold
    assert "0.2000<br>" in text_of(parts.table)
    assert "6,040 users with 6,600 relevant test pairs" in parts.table.caption


def test_categories_and_short_lists_have_a_column_where_there_are_any(closer: Summary) -> None:
    closer["rows"][0]["beyond"] |= {"category_divergence": 1.91, "category_by": "<b>genre", "full_lists": 0.5}
    table = beyond.sections(closer)[0].table
    assert "1.910" in text_of(table)
    assert "50.0 %" in text_of(table)
    assert "<b>genre" in table.caption
    page = run_page(closer, {})
    assert "&lt;b&gt;genre" in page
    assert "<b>genre" not in page


def test_the_page_has_them_and_the_comparison_table_has_not(closer: Summary) -> None:
    page = run_page(closer, {})
    assert page.index("<h2>Results</h2>") < page.index("<h2>Beyond accuracy</h2>")
    assert "by users and items</h2>" in page
    for table in (formats.to_csv(summary_table(closer)), text_of(summary_table(closer))):
        assert "gini" not in table.lower()
    out = io.StringIO()
    print_summary(closer, Console(file=out, width=100), None)
    assert beyond.HINT in out.getvalue()
    assert "Gini" not in out.getvalue()


def test_a_run_without_them_has_no_such_section(summary: Summary, summary_with: Callable[..., Summary]) -> None:
    assert beyond.sections(summary) == []
    assert "Beyond accuracy" not in run_page(summary_with(), {})
    out = io.StringIO()
    print_summary(summary, Console(file=out, width=100), None)
    assert beyond.HINT not in out.getvalue()


@pytest.mark.parametrize("interval", [None, [None, None]])
def test_a_slice_without_an_interval_has_a_dash(closer: Summary, interval: Any) -> None:
    for row in closer["rows"]:
        row["slices"][5]["ci"]["ndcg@10"] = interval
    lines = text_of(beyond.sections(closer)[1].table).splitlines()
    assert lines[2].endswith("| 0.1000<br>– |")
    assert "None" not in run_page(closer, {})
