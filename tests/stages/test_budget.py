"""Strengths of passes that a budget chooses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stage_kit import finish, start

PASSES = ("compression=[prune_structured,quantize]", "student.net.dim=12")


def test_the_file_is_within_the_budget_and_what_was_tried_is_told(tmp_path: Path) -> None:
    words = (*PASSES, "budget.bytes=3kB", "compression.prune_structured.importance=taylor", "run.name=a")
    code, output = finish(start(tmp_path, "compress", *words))
    assert code == 0, output
    found = json.loads((tmp_path / "outputs" / "a" / "budget.json").read_text())
    compared = [one for one in found["tried"] if one["compared"]]
    assert found["budget"] == {"bytes": 3000}
    assert len(compared) > 1
    assert all(one["bytes"] <= 3000 for one in compared)
    assert {one["fits"] for one in found["tried"] if not one["compared"]} == {True, False}
    best = max(compared, key=lambda one: one["value"])
    assert f"budget: {best['strengths']} is the best of {len(compared)}" in output
    report = json.loads((tmp_path / "outputs" / "a" / "metrics.json").read_text())["models"]
    last = Path(report["prune_structured + quantize"]["folder"])
    assert (tmp_path / last / "model.safetensors").stat().st_size == best["bytes"]
    assert report["prune_structured + quantize"]["metrics"]["ndcg@10"] == pytest.approx(best["value"])
    code, output = finish(start(tmp_path, "compress", *words[:-1], "run.name=b"))
    assert code == 0, output
    assert "budget: from cache" in output
    assert (tmp_path / "outputs" / "b" / "budget.json").is_file()


def test_a_budget_out_of_reach_names_the_best_that_could_be_done(tmp_path: Path) -> None:
    code, output = finish(start(tmp_path, "compress", *PASSES, "budget.bytes=100"))
    assert code == 2
    assert "no strengths of prune_structured, quantize bring the student within 100 bytes" in output
    assert "the nearest that was tried has" in output
    assert "prune_structured.keep=0.1 quantize.bits=4" in output
    code, output = finish(start(tmp_path, "compress", *PASSES, "budget.p99_ms=1e-6"))
    assert code == 2
    assert "within a p99 of 1e-06 ms" in output
    assert "with a p99 of" in output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("compression=none", "budget.bytes=2MB"), "no pass whose strength could be chosen"),
        ((*PASSES, "budget.bytes=two"), "'two' is no size"),
        ((*PASSES, "budget.p99_ms=0"), "budget.p99_ms"),
        ((*PASSES, "budget.byte=3"), "fix: budget.bytes=3"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    code, output = finish(start(tmp_path, "check", *words))
    assert code == 2
    assert said in output
