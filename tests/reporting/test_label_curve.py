"""The curve over shares of labels, and negative transfer said where it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from recdistill.reporting.grid_report import grid_headline, grid_page
from recdistill.reporting.headline import headline
from recdistill.reporting.label_curve import Curve, curves_of, draw_curves

Summary = dict[str, Any]


def row(name: str, role: str, mean: float | None, *overrides: str, sd: float | None = 0.01, **more: Any) -> Summary:
    value = {} if mean is None else {"ndcg@10": {"mean": mean, "sd": sd}}
    return {"name": name, "role": role, "overrides": list(overrides), "metrics": value, **more}


def grid(*rows: Summary) -> Summary:
    return {"metric": "ndcg@10", "rows": list(rows)}


SHARE = "data.label_fraction="


def test_a_curve_is_a_model_and_what_else_it_was_given() -> None:
    found = curves_of(grid(
        row("student alone", "alone", 0.3, f"{SHARE}1"), row("student alone", "alone", 0.1, f"{SHARE}0.01", sd=None),
        row("teacher", "teacher", 0.25), row("student distilled", "student", 0.2, f"{SHARE}0.01", "alpha=0.5"),
        row("student distilled", "student", 0.21, f"{SHARE}0.01", "alpha=0.8"),
        row("student distilled", "student", None, f"{SHARE}1", "alpha=0.8"),
        row("popularity", "baseline", 0.05, f"{SHARE}1"),
    ))  # fmt: skip
    assert found == [
        Curve("teacher", "teacher", [(None, 0.25, 0.01)]),
        Curve("student alone", "alone", [(0.01, 0.1, 0.0), (1.0, 0.3, 0.01)]),
        Curve("student distilled alpha=0.5", "student", [(0.01, 0.2, 0.01)]),
        Curve("student distilled alpha=0.8", "student", [(0.01, 0.21, 0.01)]),
    ]


@pytest.mark.parametrize("rows", [(), (row("student alone", "alone", 0.3, f"{SHARE}1"),)])
def test_a_grid_over_something_else_has_none(rows: tuple[Summary, ...]) -> None:
    assert curves_of(grid(*rows)) == []
    assert draw_curves([], "ndcg@10") == ""


def test_the_chart_names_shares_and_models() -> None:
    curves = [Curve("teacher", "teacher", [(None, 0.2, 0.01)]),
              Curve("student <b>", "student", [(0.01, 0.1, 0.02), (0.5, 0.3, 0.0)])]  # fmt: skip
    drawn = draw_curves(curves, "ndcg@10")
    for text in ("1 %", "50 %", "teacher", "student &lt;b&gt;", "NDCG@10"):
        assert text in drawn
    assert "<b>" not in drawn


def test_negative_transfer_leads_the_headline(summary_with: Callable[..., Summary]) -> None:
    summary = summary_with()
    student, alone = (next(r for r in summary["rows"] if r["role"] == role) for role in ("student", "alone"))
    student["metrics"]["ndcg@10"] = alone["metrics"]["ndcg@10"] - 0.02
    student["p_alone_holm"] = student["p_alone"] = 0.001
    assert not headline(summary).lead.startswith("Negative")
    lead = headline({**summary, "transfer": "phone"}).lead
    assert lead.startswith("Negative transfer: the teacher of phone made the student worse (NDCG@10 ")
    student["p_alone_holm"] = student["p_alone"] = 0.2
    assert not headline({**summary, "transfer": "phone"}).lead.startswith("Negative")
    student["metrics"]["ndcg@10"], student["p_alone_holm"] = alone["metrics"]["ndcg@10"] + 0.02, 0.001
    assert not headline({**summary, "transfer": "phone"}).lead.startswith("Negative")


def test_a_grid_counts_who_was_harmed() -> None:
    rows = [row("student distilled", "student", 0.2, p_holm=0.01, gain=-0.1),
            row("int8", "compressed", 0.2, p_holm=0.01, gain=-0.1),
            row("student distilled", "student", 0.2, p_holm=0.01, gain=0.1)]  # fmt: skip
    facts: Summary = {"n_jobs": 3, "n_failed": 0, "failed": [], "data": None, "n_configs": 3}
    said = grid_headline({**grid(*rows), **facts, "transfer": "phone"}).details
    assert said[1] == "Negative transfer: the teacher of phone made 1 of them worse."
    assert len(grid_headline({**grid(*rows), **facts, "transfer": None}).details) == 1


def test_the_page_of_a_grid_over_labels_has_the_chart() -> None:
    plain = {"n_runs": 1, "folds": [], "trials": 1, "jobs": ["0"], "bytes": 10, "kept": None, "p_holm": None,
             "p_alone": None, "warnings": [], "latency": None, "parameters": 3, "teacher_bytes": None, "label": "",
             "gain": None, "weights_hashes": ["x"]}  # fmt: skip
    rows = [row("student alone", "alone", 0.1 * n, f"{SHARE}{share}", **plain) for n, share in ((1, 0.1), (2, 1))]
    page = grid_page({
        **grid(*rows), "folder": "g", "n_jobs": 2, "n_failed": 0, "failed": [], "data": "x", "n_configs": 2,
        "common": [], "notes": [], "data_warnings": [], "n_users": 5, "transfer": None,
    })  # fmt: skip
    assert "Quality against labels" in page
    assert 'id="labels"' in page
