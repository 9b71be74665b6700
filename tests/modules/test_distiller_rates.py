"""The learning rate of what distillers learn: Adam's first step, and the student's as the default."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_kit import DropoutMF, hashed, outcome

from recdistill.distillers.features import Hint
from recdistill.errors import Terminated
from recdistill.models.fit import Fit
from recdistill.modules import checkpoints
from recdistill.modules.distillation import DistillationModule
from recdistill.modules.mutual import Mutual
from recdistill.stages.teaching import taught_along
from recdistill.tasks.objectives import BPR
from recdistill.tasks.ranking import Ranking

STEPS, EPOCHS = 17, 3


def largest_move(after: torch.nn.Module, before: dict[str, torch.Tensor]) -> float:
    """Adam moves every weight with a gradient by the learning rate in its first step, whatever the gradient is."""
    return max(float((value - before[name]).abs().max()) for name, value in after.state_dict().items())


def copied(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("warmup", [0, 10])
@pytest.mark.parametrize("lr", [None, 0.0007, 0.3])
def test_the_first_step(
    lr: float | None, warmup: int, schedule: str, student: Any, train: Any, settings: Fit, tmp_path: Path
) -> None:
    fit = Fit(
        **{**vars(settings), "warmup": warmup, "schedule": schedule, "weight_decay": 0.0, "clip": 0.0, "epochs": 1}
    )
    module: DistillationModule = student(0.5, fit=fit, hint_lr=lr, max_steps=1)
    module.model.dropout.p = 0.0  # type: ignore[union-attr]
    model, maps = copied(module.model), copied(module.distillers)
    train(module, tmp_path)
    share = 1 / warmup if warmup else 1.0
    assert largest_move(module.model, model) == pytest.approx(share * settings.lr, rel=1e-2)
    assert largest_move(module.distillers, maps) == pytest.approx(share * (lr or settings.lr), rel=1e-2)


def test_it_follows_the_students_schedule(student: Any, train: Any, settings: Fit, tmp_path: Path) -> None:
    module = student(0.5, fit=settings, hint_lr=settings.lr / 8)
    optimize, seen = module.optimize, []

    def watched(optimizer: Any, *more: Any) -> Any:
        known = {id(p) for p in module.distillers.parameters()}
        seen.append({id(group["params"][0]) in known: group["lr"] for group in optimizer.param_groups})
        return optimize(optimizer, *more)

    module.optimize = watched
    train(module, tmp_path)
    assert len(seen) == STEPS * EPOCHS
    assert all(rates[True] == pytest.approx(rates[False] / 8, rel=1e-12) for rates in seen)
    assert seen[0][False] > 100 * seen[-1][False]


def test_the_students_rate_is_the_default_bit_by_bit(student: Any, train: Any, settings: Fit, tmp_path: Path) -> None:
    found = []
    for lr in (None, settings.lr):
        module = student(0.5, fit=Fit(**{**vars(settings), "clip": 0.0}), hint_lr=lr)
        train(module, tmp_path / str(lr))
        found.append(hashed(module.state_dict()))
    assert found[0] == found[1]


def test_nothing_is_trained_twice_or_forgotten(student: Any) -> None:
    module = student(0.5, hint_lr=0.001)
    trained = [id(p) for group in module.configure_optimizers().param_groups for p in group["params"]]
    assert len(trained) == len(set(trained))
    assert set(trained) == {id(p) for p in module.parameters()}


def test_each_side_of_mutual_learning_has_its_own(data: Any, settings: Fit) -> None:
    its = Fit(epochs=90, batch_size=7, lr=0.004)
    module = taught_along(
        Mutual(0.3), DropoutMF(data), BPR(), settings, data, peer=DropoutMF(data, 10), its=BPR(), its_fit=its,
        losses=lambda: {"hint": Hint(items=20, lr=0.001)}, alpha=0.6, task=Ranking(), weighting=None, seed=5, ks=[5],
    )  # fmt: skip
    optimizer = module.configure_optimizers()
    module.set_learning_rate(optimizer, 0, 100)  # type: ignore[arg-type]
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for part, lr in ((module.model, settings.lr), (module.peer.model, its.lr), (module.distillers, 0.001),
                     (module.peer.distillers, 0.001)):  # fmt: skip
        assert [rates[id(p)] for p in part.parameters()] == pytest.approx([lr] * len(list(part.parameters())))


def test_a_stopped_training_goes_on(
    student: Callable[..., Any], train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = student(0.5, hint_lr=0.001)
    expected = outcome(train(whole, tmp_path / "whole"), whole)
    first = student(0.5, hint_lr=0.001)
    monkeypatch.setattr(checkpoints, "stop_requested", lambda: first.position == (1, 6))
    with pytest.raises(Terminated):
        train(first, tmp_path / "cut")
    monkeypatch.undo()
    second = student(0.5, hint_lr=0.001)
    assert outcome(train(second, tmp_path / "cut"), second) == expected
