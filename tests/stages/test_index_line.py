"""Indexes at the end of a run: what is measured and shown, and what is refused before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from stage_kit import finish, start

from recdistill.retrieval.base import PAD, Lists
from recdistill.stages.retrieve import recall


def test_a_run_measures_its_indexes(tmp_path: Path) -> None:
    code, output = finish(start(tmp_path, "run", "index=[exact,exact_int8]", "compression=[quantize]", "run.name=a"))
    assert code == 0, output
    summary = json.loads((tmp_path / "outputs" / "a" / "summary.json").read_text())
    exact, int8 = summary["indexes"]
    assert (exact["name"], int8["name"]) == ("exact", "exact_int8")
    assert set(exact["recall"]) == {"5", "10", "20", "50"}
    assert set(exact["recall"].values()) == {1.0}
    assert min(int8["recall"].values()) > 0.95
    assert exact["bytes"] == 60 * exact["dim"] * 4
    assert 0 < exact["latency"]["p50_ms"] <= exact["latency"]["p99_ms"]
    assert "index exact_int8:" in output
    page = (tmp_path / "outputs" / "a" / "report.html").read_text()
    assert "<h2>Retrieval" in page or "Retrieval</h2>" in page
    assert "exact_int8" in page


@pytest.mark.parametrize(
    ("words", "said"),
    [(("student=multvae", "index=[exact]"), "no vectors of items"), (("index=[exactt]",), "exact"),
     (("index=[exact_int8]", "index.exact_int8.rescore=-1"), "index.exact_int8.rescore")],
)  # fmt: skip
def test_what_can_not_be_is_refused_at_once(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    code, output = finish(start(tmp_path, "run", *words))
    assert code == 2, output
    assert said in output
    assert not (tmp_path / "outputs" / "cache").exists()


def test_recall_counts_what_there_is() -> None:
    expected = Lists(np.array([[1, 2, 3], [4, PAD, PAD]]), np.zeros((2, 3)))
    found = Lists(np.array([[3, 1, 9], [5, 4, PAD]]), np.zeros((2, 3)))
    assert recall(found, expected, 3) == 3 / 4
    assert recall(found, expected, 1) == 0
