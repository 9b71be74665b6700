"""Privileged columns: the teacher sees them; students, baselines and what is served do not have them at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from task_kit import command

from recdistill.data import store
from recdistill.data.interactions import Examples, TableDataset
from recdistill.data.rows import Rows
from recdistill.data.withheld import only
from recdistill.export.bundle import load_model

TRAIN = ("teacher.fit.epochs=6", "student.fit.epochs=6", "teacher.fit.batch_size=64", "student.fit.batch_size=64",
         "teacher.fit.lr=0.02", "student.fit.lr=0.02", "logger=none", "trainer=cpu")  # fmt: skip
CLICKS = ("task=ctr", "data=click_csv", "data.path=clicks.csv", "data.label=click",
          "data.categorical=[device,hour]", "data.numeric=[dwell]", "data.privileged=[dwell]", "teacher=fm",
          "student=fm", "student.net.dim=4", "distiller=bce_soft", *TRAIN)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Clicks whose time of reading, known only afterwards, says nearly all."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    n = 900
    device, hour = rng.integers(0, 3, n), rng.integers(0, 8, n)
    click = rng.random(n) < 0.15 + 0.2 * device
    dwell = click * 2.0 + rng.normal(0, 0.5, n)
    frame = {"click": click.astype(int), "device": device, "hour": hour, "dwell": dwell.round(4)}
    pl.DataFrame(frame).write_csv("clicks.csv")
    return tmp_path


def summary_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("signals", ["stored", "live"])
def test_student_and_its_bundle_do_without_the_column(folder: Path, signals: str) -> None:
    words = [*CLICKS, f"signals={signals}", "baselines=[lr]", "compression=[quantize]", f"run.name={signals}"]
    assert command("run", words) == 0
    run = folder / "outputs" / signals
    data = store.load(next(folder.glob("outputs/cache/data/*/dataset.json")).parent)
    assert isinstance(data, TableDataset)
    poor = Examples(data.test.label, only(data.test.features, ["device", "hour"]))
    rows = Rows.of(poor.features, len(poor))
    assert rows.numeric.shape == (len(poor), 0)
    for name in ("student_alone", "student_distilled", "quantize", "lr"):
        text = (run / "models" / name / "model.json").read_text(encoding="utf-8")
        assert "dwell" not in text
        with torch.no_grad():
            assert bool(load_model(run / "models" / name)(rows).isfinite().all())  # nothing of training is there
    assert "dwell" in (run / "models/teacher/model.json").read_text(encoding="utf-8")
    auc = {row["name"]: row["metrics"]["auc"] for row in summary_of(run)["rows"]}
    assert auc["teacher"] > 0.95 > 0.8 > max(auc["student distilled"], auc["student alone"], auc["lr"])
    assert summary_of(run)["data"]["report"]["privileged"] == ["dwell"]
    assert "only the teacher sees the columns dwell" in summary_of(run)["notes"]
    assert command("verify", [str(run)]) == 0


def test_stored_answers_of_the_teachers_own_inputs_are_the_live_ones(folder: Path) -> None:
    for signals in ("stored", "live"):
        assert command("distill", [*CLICKS, f"signals={signals}", f"run.name={signals}"]) == 0
    models = [json.loads((folder / "outputs" / name / "metrics.json").read_text())["models"]
              for name in ("stored", "live")]  # fmt: skip
    stored, live = (each["student distilled"]["metrics"]["auc"] for each in models)
    assert stored == pytest.approx(live, abs=1e-6)


def test_distillation_can_wait(folder: Path) -> None:
    """The soft loss is off for the first half of the training, as in the paper."""
    words = [*CLICKS, "+schedule@distiller.bce_soft.weight=steps", "distiller.bce_soft.weight.values=[0,1]",
             "distiller.bce_soft.weight.at=[0.5]", "run.name=later"]  # fmt: skip
    assert command("distill", words) == 0
    metrics = json.loads((folder / "outputs/later/metrics.json").read_text(encoding="utf-8"))
    history = json.loads((Path(metrics["models"]["student distilled"]["folder"]) / "history.json").read_text())
    weights = [row["train/bce_soft.weight"] for row in history]
    assert weights[0] == 0.0
    assert weights[-1] == 1.0


def test_of_interactions_that_become_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["task=rating", "data=synthetic_ratings", "data.privileged=[item]", "teacher=fm", "student=fm",
             "objective@teacher.objective=squared_error", "objective@student.objective=squared_error",
             "teacher.net.dim=4", "student.net.dim=4", *TRAIN, "run.name=r"]  # fmt: skip
    assert command("distill", words) == 0
    metrics = json.loads((tmp_path / "outputs/r/metrics.json").read_text(encoding="utf-8"))["models"]
    seen = {name: json.loads((Path(model["folder"]) / "model.json").read_text())["schema"]["features"]["categorical"]
            for name, model in metrics.items()}  # fmt: skip
    assert {name: sorted(columns) for name, columns in seen.items()} == {
        "teacher": ["item", "item_genre", "user"], "student alone": ["item_genre", "user"],
        "student distilled": ["item_genre", "user"],
    }  # fmt: skip
