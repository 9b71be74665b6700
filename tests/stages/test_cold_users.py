"""The whole line for users and items that training lacks, from the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., int]
COLD = ("data/split=cold_user", "data.split.test=0.3", "compression=quantize")


@pytest.mark.parametrize("signals", ["stored", "live"])
def test_cold_users_go_down_the_whole_line(cli: Cli, signals: str) -> None:
    words = (*COLD, f"signals={signals}", "baselines=[popularity,ease,item_knn]")
    assert cli("run", *words, "run.name=cold") == 0
    summary = json.loads(Path("outputs/cold/summary.json").read_text())
    assert summary["n_users"] == 24
    assert summary["data"]["report"]["n_cold_users"] == 32
    rows = {row["name"]: row["metrics"]["ndcg@10"] for row in summary["rows"]}
    assert {"teacher", "student distilled", "quantize", "popularity", "ease", "item_knn"} <= set(rows)
    assert all(0 <= value <= 1 for value in rows.values())
    assert rows["ease"] > 0


def test_cold_users_get_recommendations(cli: Cli) -> None:
    assert cli("recommend", *COLD, "recommend.k=5", "run.name=r") == 0
    rows = list(csv.DictReader(Path("outputs/r/recommendations.csv").read_text().splitlines()))
    assert len({row["user"] for row in rows}) == 80
    assert len(rows) == 80 * 5


def test_held_out_items_are_refused_before_training(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("data", "data/split=cold_item", "run.name=d") == 0
    assert "100% of the test rows are on items that train lacks" in capsys.readouterr().out
    for verb in ("run", "train", "distill", "evaluate", "recommend"):
        assert cli(verb, "data/split=cold_item") == 2
        assert "no model can rank the items that this split holds out" in capsys.readouterr().err
    assert not list(Path("outputs/cache").glob("teacher/*/stamp.json"))


def test_folds_are_a_grid(cli: Cli) -> None:
    assert cli("data", "-m", "data/split=kfold", "data.split.folds=3", "data.split.fold=1,2,3", "run.name=g") == 0
    found = [json.loads(path.read_text()) for path in sorted(Path("outputs/g").glob("*/data.json"))]
    assert [report["manifest"]["split"]["fold"] for report in found] == [1, 2, 3]
    assert sum(report["parts"]["test"]["rows"] for report in found) == found[0]["rows"]
    assert len({report["fingerprint"] for report in found}) == 3
