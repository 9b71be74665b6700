"""Zeros that come in the course of a fine-tuning, from the command line to the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stage_kit import finish, models, start

from recdistill.compression.base import tables
from recdistill.export.bundle import load_model

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


def test_without_a_fine_tuning_it_is_refused_at_once(tmp_path: Path) -> None:
    code, output = finish(start(tmp_path, "check", "compression=[prune]", "compression.prune.method=movement"))
    assert code == 2
    assert "movement pruning happens while the model is fine-tuned" in output
