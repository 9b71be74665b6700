"""The table of cold items: its rows, figures, and what stands for a model that can't rank them."""

from __future__ import annotations

from typing import Any

from recdistill.reporting.cold import cold_items

FIGURES = {"ndcg@5": 0.1, "ndcg@10": 0.1234, "recall@5": 0.2, "recall@10": 0.25, "recall@50": 0.5}
PART: dict[str, Any] = {"items": 30, "users": 20, "pairs": 45, "random": {"cold": FIGURES, "all": FIGURES}}


def row(name: str, metrics: dict[str, float] | None = None, p: dict[str, float] | None = None) -> dict[str, Any]:
    both = metrics and {"cold": metrics, "all": {key: value / 2 for key, value in metrics.items()}}
    ci = metrics and {field: {"ndcg@10": [0.1, 0.15]} for field in ("cold", "all")}
    return {"name": name, "label": name.upper(), "role": "baseline", "cold": PART | {
        "metrics": both, "ci": ci, "p": {field: p or {} for field in ("cold", "all")}}}  # fmt: skip


def cells(rows: list[dict[str, Any]]) -> dict[str, dict[str, tuple[str, str]]]:
    table = cold_items(rows)
    assert table is not None
    return {
        own["name"]: {column.key: (cell.text, cell.detail) for column, cell in table.cells(own)} for own in table.rows
    }


def test_each_figure_is_in_its_place() -> None:
    both = {"student alone": 0.03, "content_knn": 0.5}
    rows = [row("teacher"), row("student alone", FIGURES), row("student", FIGURES, both),
            row("content_knn", FIGURES, {"student alone": 0.5})]  # fmt: skip
    found = cells(rows)
    assert list(found) == ["teacher", "student alone", "student", "content_knn", "random"]
    assert found["student"]["cold_ndcg@10"] == ("0.1234", "[0.1000, 0.1500]")
    assert found["student"]["all_recall@50"] == ("0.2500", "")
    assert found["student"]["cold_p_student alone"][0] == ".030"
    assert found["student"]["all_p_content_knn"][0] == ".500"
    assert found["content_knn"]["cold_p_content_knn"][0] == "–"
    assert {text for text, _ in list(found["teacher"].values())[1:]} == {"–"}
    assert found["random"]["cold_recall@10"] == ("0.2500", "")
    table = cold_items(rows)
    assert table is not None
    assert "30 items that training lacks, 20 users with 45 relevant pairs" in table.caption
    assert "cold_ndcg@5" not in found["student"]


def test_without_a_rival_there_is_no_p_against_it() -> None:
    assert not any("_p_" in key for key in cells([row("teacher", FIGURES)])["teacher"])


def test_no_table_where_nobody_can_rank_them() -> None:
    assert cold_items([row("teacher"), {"name": "old", "label": ""}]) is None
    assert cold_items([]) is None


def test_fewer_cold_items_than_a_list_is_long() -> None:
    found = cells([row("student", {"ndcg@5": 0.2, "recall@5": 0.3})])
    assert [key for key in found["student"] if "@" in key] == [
        "cold_ndcg@5",
        "cold_recall@5",
        "all_ndcg@5",
        "all_recall@5",
    ]
