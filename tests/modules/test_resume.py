"""A training that is stopped and goes on is, bit for bit, the one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from training_kit import EPOCHS, callback, outcome

from recdistill.errors import Terminated
from recdistill.models.fit import Fit
from recdistill.modules import checkpoints
from recdistill.modules.checkpoints import LAST, Checkpointer, KeepBest, load_plain
from recdistill.modules.progress import History
from recdistill.modules.supervised import SupervisedModule
from recdistill.stages import training
from recdistill.tasks.objectives import BPR, Softmax

STEPS = 17  # of an epoch here


def stop_at(monkeypatch: pytest.MonkeyPatch, module: SupervisedModule, position: tuple[int, int]) -> None:
    monkeypatch.setattr(checkpoints, "stop_requested", lambda: module.position == position)


def other_randomness() -> None:
    torch.manual_seed(991)
    np.random.seed(17)
    torch.rand(5)


@pytest.mark.parametrize("position", [(0, 1), (2, 1), (0, STEPS), (1, 0), (2, STEPS), (3, 0)])
@pytest.mark.parametrize("alpha", [None, 0.6])
def test_stopped_anywhere(
    position: tuple[int, int], alpha: float | None, student: Any, train: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    whole = student(alpha)
    expected = outcome(train(whole, tmp_path / "whole"), whole)
    assert expected["global_step"] == str(EPOCHS * STEPS)

    first = student(alpha)
    stop_at(monkeypatch, first, position)
    with pytest.raises(Terminated):
        train(first, tmp_path / "cut")
    assert load_plain(tmp_path / "cut" / LAST)["recdistill"]["position"] == list(position)

    monkeypatch.undo()
    second = student(alpha)
    other_randomness()
    assert outcome(train(second, tmp_path / "cut"), second) == expected


def test_stopped_at_each_of_many_steps(
    student: Any, train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = student(0.5, Softmax())
    expected = outcome(train(whole, tmp_path / "whole"), whole)
    for _ in range(100):
        module, steps = student(0.5, Softmax()), [0]

        def after_one_step(steps: list[int] = steps) -> bool:
            steps[0] += 1
            return True

        monkeypatch.setattr(checkpoints, "stop_requested", after_one_step)
        other_randomness()
        try:
            trainer = train(module, tmp_path / "cut")
        except Terminated:
            assert steps == [1]
            continue
        assert outcome(trainer, module) == expected
        return
    raise AssertionError("it never ended")


def test_killed_after_a_periodic_save(student: Any, train: Any, trainer_of: Any, tmp_path: Path) -> None:
    """The checkpoint of a moment ago, later steps lost."""
    whole = student()
    expected = outcome(train(whole, tmp_path / "whole"), whole)

    killed = student()

    def kill() -> None:
        if killed.position == (1, 7):
            trainer.save_checkpoint(tmp_path / "cut" / LAST)
        if killed.position == (1, 12):
            raise SystemError("kill -9")

    trainer = trainer_of(killed, tmp_path / "cut")
    look = callback(trainer, Checkpointer)
    look.look = lambda *_: kill()
    with pytest.raises(SystemError):
        training.run_trainer(trainer, killed, tmp_path / "cut")

    module = student()
    other_randomness()
    assert outcome(train(module, tmp_path / "cut"), module) == expected


def test_saves_between_steps_once_it_is_time(student: Any, trainer_of: Any, tmp_path: Path) -> None:
    module = student()
    trainer = trainer_of(module, tmp_path, every_seconds=0.0)
    seen = []
    trainer.save_checkpoint = lambda path: seen.append((module.position, path))
    training.run_trainer(trainer, module, tmp_path)
    assert len(seen) == EPOCHS * (STEPS + 1)
    assert seen[1] == ((0, 2), tmp_path / LAST)


def fit_with(settings: Fit, **changes: Any) -> Fit:
    return Fit(**{**vars(settings), **changes})


def test_patience_goes_on_after_a_kill(
    student: Any, train: Any, settings: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the validation that ends a training and its end, it does not train on."""
    patient = fit_with(settings, epochs=8, patience=2, lr=1e-9, schedule="constant")
    module = student(fit=patient)
    trainer = train(module, tmp_path, every_seconds=0.0)  # its last save is that of the last epoch
    assert module.position == (3, 0)
    assert callback(trainer, KeepBest).waited == 2
    again = student(fit=patient)
    assert outcome(train(again, tmp_path), again) == outcome(trainer, module)

    # One validation before, it goes on for one epoch and no more.
    early = student(fit=patient)
    stop_at(monkeypatch, early, (2, 0))
    with pytest.raises(Terminated):
        train(early, tmp_path / "early")
    monkeypatch.undo()
    again = student(fit=patient)
    assert outcome(train(again, tmp_path / "early"), again) == outcome(trainer, module)


def test_validation_keeps_its_rhythm(
    student: Any, train: Any, settings: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_second = fit_with(settings, epochs=5, validate_every=2)
    whole = student(fit=every_second)
    trainer = train(whole, tmp_path / "whole")
    validated = [row["epoch"] for row in callback(trainer, History).rows if "valid/ndcg@10" in row]
    assert validated == [1, 3]
    for position in [(1, 5), (1, STEPS), (2, 0), (3, STEPS)]:
        first = student(fit=every_second)
        stop_at(monkeypatch, first, position)
        with pytest.raises(Terminated):
            train(first, tmp_path / str(position))
        monkeypatch.undo()
        second = student(fit=every_second)
        assert outcome(train(second, tmp_path / str(position)), second) == outcome(trainer, whole)


def test_a_finished_training_is_not_trained_on(student: Any, train: Any, tmp_path: Path) -> None:
    module = student()
    expected = outcome(train(module, tmp_path, every_seconds=0.0), module)
    again = student()
    assert outcome(train(again, tmp_path), again) == expected


def test_gradient_scaler_goes_on(student: Any, train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half precision with a scaler (on the CPU here, so that the suite sees it)."""
    real = training.instantiate

    def scaled(module: SupervisedModule, folder: Path) -> tuple[Any, dict[str, Any]]:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=7)

        def with_scaler(node: Any, **supplied: Any) -> Any:
            if "plugins" in supplied:
                supplied["plugins"].append(MixedPrecision("16-mixed", "cpu", scaler))
            return real(node, **supplied)

        monkeypatch.setattr(training, "instantiate", with_scaler)
        trainer = train(module, folder)
        return trainer, scaler.state_dict()

    whole = student(objective=BPR())
    trainer, state = scaled(whole, tmp_path / "whole")
    expected = outcome(trainer, whole)
    assert state["scale"] > 2.0**10
    assert whole.model.gain.detach().sub(1).abs().max() > 0.01  # clipping did not eat the scaled gradients

    first = student(objective=BPR())
    stop_at(monkeypatch, first, (1, 11))
    with pytest.raises(Terminated):
        scaled(first, tmp_path / "cut")
    monkeypatch.undo()
    second = student(objective=BPR())
    trainer, resumed = scaled(second, tmp_path / "cut")
    assert resumed == state
    assert outcome(trainer, second) == expected
