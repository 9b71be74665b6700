"""Zeros that come in the course of a fine-tuning, from the command line to the file."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from stage_kit import DATA, SMALL, finish, models, start

from recdistill.compression.base import tables
from recdistill.config.compose import compose_config, hydra_session, resolve
from recdistill.config.locate import find_sources
from recdistill.export.bundle import load_model
from recdistill.modules.supervised import SupervisedModule
from recdistill.stages.line import Line

TUNED = (
    "compression.prune.finetune={_target_: recdistill.models.fit.Fit, epochs: 4, batch_size: 64, lr: 0.01, patience: 1}"
)


@pytest.mark.parametrize("settings", [("method=movement", "until=0.6"), ("until=0.6",)])
def test_the_best_epoch_is_one_with_all_zeros(tmp_path: Path, settings: tuple[str, ...]) -> None:
    words = ("compression=[prune,quantize]", "compression.prune.sparsity=0.75", "compression.quantize.bits=16", TUNED)
    code, output = finish(start(tmp_path, "compress", *words, *(f"compression.prune.{word}" for word in settings)))
    assert code == 0, output
    folders = models(tmp_path / "outputs" / "cache", "compress")
    assert len(folders) == 2
    pruned = next(folder for folder in folders if (folder / "history.json").is_file())
    assert len(json.loads((pruned / "history.json").read_text())) == 4  # it did not wait before the last zeros came
    for folder in folders:
        for weight in tables(load_model(folder)).values():
            assert int((weight == 0).sum()) == pytest.approx(0.75 * weight.numel(), abs=1)


def line(folder: Path) -> Line:
    tuned = "{_target_: recdistill.models.fit.Fit, epochs: 3, batch_size: 64, lr: 0.01}"
    words = ("method=movement", "until=0.6", "sparsity=0.5", f"finetune={tuned}")
    own = ["compression=[prune]", *(f"compression.prune.{word}" for word in words), "checkpoint.every_seconds=0"]
    folder.mkdir(exist_ok=True)
    with hydra_session(find_sources([], [])):
        return Line(dict(resolve(compose_config([*DATA, *SMALL[:-4], *own, "logger=none", "trainer=cpu",
                                                 f"cache={folder / 'cache'}"]))), folder)  # fmt: skip


@pytest.mark.parametrize("killed", [2, 4])
def test_one_that_was_killed_ends_with_the_same_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: int
) -> None:
    whole = load_model(line(tmp_path / "a").last).state_dict()
    before = line(tmp_path / "b")
    assert before.student.exists()
    steps, optimize = itertools.count(1), SupervisedModule.optimize

    def dies(self: SupervisedModule, *given: Any) -> Any:
        if next(steps) == killed:
            raise KeyError("killed")
        return optimize(self, *given)

    monkeypatch.setattr(SupervisedModule, "optimize", dies)
    with pytest.raises(KeyError, match="killed"):
        _ = before.last
    monkeypatch.undo()
    again = load_model(line(tmp_path / "b").last).state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in whole.items())
    assert int((whole["user.weight"] == 0).sum()) == whole["user.weight"].numel() // 2


def test_without_a_fine_tuning_it_is_refused_at_once(tmp_path: Path) -> None:
    code, output = finish(start(tmp_path, "check", "compression=[prune]", "compression.prune.method=movement"))
    assert code == 2
    assert "movement pruning happens while the model is fine-tuned" in output
