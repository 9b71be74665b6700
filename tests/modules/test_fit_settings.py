"""Warm-up, accumulation, objectives and samplers in training: closed forms, and the same after a stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_kit import EPOCHS, hashed, outcome

from recdistill.errors import Terminated
from recdistill.models.fit import Fit
from recdistill.modules import checkpoints
from recdistill.tasks.objectives import BCE, BPR, CCL, Objective, SampledSoftmax, Softmax
from recdistill.tasks.sampling import Hard, InBatch, Popularity

STEPS = 17


def fit_with(settings: Fit, **changes: Any) -> Fit:
    return Fit(**{**vars(settings), **changes})


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("warmup", [0, 1, 10, 1000])
def test_the_learning_rate(schedule: str, warmup: int, student: Any, train: Any, settings: Fit, tmp_path: Path) -> None:
    module = student(fit=fit_with(settings, schedule=schedule, warmup=warmup, lr=0.03))
    seen: list[float] = []
    optimize = module.optimize
    module.optimize = lambda optimizer, *more: (
        seen.append(optimizer.param_groups[0]["lr"]), optimize(optimizer, *more)
    )[1]  # fmt: skip
    train(module, tmp_path)
    total = EPOCHS * STEPS
    for step, lr in enumerate(seen):
        if step < warmup:
            expected = 0.03 * (step + 1) / warmup
        elif schedule == "constant":
            expected = 0.03
        else:
            expected = 0.03 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2
        assert lr == pytest.approx(expected, rel=1e-12)
    assert len(seen) == total


ROUNDS: list[Callable[[], Objective]] = [
    lambda: BPR(negatives=2),
    lambda: SampledSoftmax(shared=30, sampler=Popularity()),
    lambda: SampledSoftmax(sampler=InBatch()),
    lambda: BCE(negatives=2, sampler=Hard(candidates=3)),
    lambda: CCL(negatives=4),
    lambda: Softmax(),
]


@pytest.mark.parametrize("objective", ROUNDS)
@pytest.mark.parametrize("alpha", [None, 0.5])
def test_accumulated_parts_are_one_step(
    objective: Callable[[], Objective], alpha: float | None, student: Any, train: Any, settings: Fit, tmp_path: Path
) -> None:
    found = []
    for parts in (1, 3):
        module = student(alpha, objective(), fit=fit_with(settings, accumulate=parts, epochs=1))
        module.model.dropout.p = 0.0
        train(module, tmp_path / str(parts), precision="64-true")
        found.append((module.model.state_dict(), module.sums))
    for name, value in found[0][0].items():
        torch.testing.assert_close(found[1][0][name], value, rtol=0, atol=2e-5)
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-5)


@pytest.mark.parametrize("objective", ROUNDS)
def test_stopped_with_all_settings(
    objective: Callable[[], Objective], student: Any, train: Any, settings: Fit, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Mid-epoch, with dropout, parts, warm-up and averaged weights."""
    fit = fit_with(settings, accumulate=2, warmup=20, ema=0.8)
    whole = student(0.5, objective(), fit=fit)
    expected = outcome(train(whole, tmp_path / "whole"), whole)
    position = (1, 1)
    first = student(0.5, objective(), fit=fit)
    monkeypatch.setattr(checkpoints, "stop_requested", lambda: first.position == position)
    with pytest.raises(Terminated):
        train(first, tmp_path / "cut")
    monkeypatch.undo()
    second = student(0.5, objective(), fit=fit)
    torch.manual_seed(991)
    assert outcome(train(second, tmp_path / "cut"), second) == expected
    assert hashed(second.average.values) == hashed(whole.average.values)


@pytest.mark.parametrize(("decay", "reference"), [("decoupled", torch.optim.AdamW), ("coupled", torch.optim.Adam)])
def test_weight_decay_is_that_of_torch(decay: str, reference: Any, student: Any, settings: Fit) -> None:
    module = student(fit=fit_with(settings, lr=0.01, weight_decay=0.5, decay=decay))
    table = next(p for p in module.model.parameters() if p.dim() == 2)
    twin = torch.nn.Parameter(table.detach().clone())
    ours, theirs = module.configure_optimizers(), reference([twin], lr=0.01, weight_decay=0.5)
    for seed in range(5):
        gradient = torch.randn(table.shape, generator=torch.Generator().manual_seed(seed))
        for parameter, optimizer in ((table, ours), (twin, theirs)):
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(table, twin)
