"""Steps that don't distil between those that do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_kit import callback, outcome

from recdistill.distillers.schedules import Linear
from recdistill.distillers.weighting import Confidence
from recdistill.models.fit import Fit
from recdistill.modules.distillation import usual_pause
from recdistill.modules.progress import History
from recdistill.tasks.objectives import BPR, Softmax


def watched(module: Any) -> list[dict[str, float]]:
    """Fills up with the terms of each step while the module trains."""
    seen: list[dict[str, float]] = []
    real = module.loss_terms

    def loss_terms(batch: Any) -> dict[str, torch.Tensor]:
        terms: dict[str, torch.Tensor] = real(batch)
        seen.append({name: float(term.detach()) for name, term in terms.items()})
        return terms

    module.loss_terms = loss_terms
    return seen


@pytest.mark.parametrize("every", [1, 3, 1000])
def test_soft_losses_of_some_steps_stand_for_all(
    every: int, student: Callable[..., Any], train: Any, settings: Fit, tmp_path: Path
) -> None:
    module = student(0.5, fit=replace(settings, epochs=1, every=every, ema=0.0))
    seen = watched(module)
    train(module, tmp_path)
    steps = len(seen)
    assert steps > 3
    due = [step for step, terms in enumerate(seen) if "soft_label" in terms]
    assert due == list(range(0, steps, every)) == [step for step, terms in enumerate(seen) if "hint" in terms]
    assert all("bpr" in terms for terms in seen)
    # What is logged is the mean over the steps that distil, whatever their number.
    factor = steps / len(due)
    plain = sum(terms["soft_label"] / factor for terms in seen if "soft_label" in terms) / len(due)
    assert module.sums["soft_label"] == pytest.approx(plain, rel=1e-5)


def test_a_step_in_between_is_one_of_the_student_alone(student: Callable[..., Any], train: Any, settings: Fit,
                                                       tmp_path: Path) -> None:  # fmt: skip
    """What the distillers learn stands still in it, and so do Adam's moments."""
    module = student(0.5, fit=replace(settings, epochs=1, every=2))
    before: list[torch.Tensor] = []
    moved = []

    optimize = module.optimize

    def look(*given: Any) -> Any:
        done = optimize(*given)
        now = torch.cat([parameter.detach().flatten().clone() for parameter in module.distillers.parameters()])
        if before:
            moved.append(not torch.equal(before[-1], now))
        before.append(now)
        return done

    module.optimize = look
    train(module, tmp_path)
    steps = len(before)
    assert steps > 4
    assert moved == [step % 2 == 0 for step in range(1, steps)]


def test_every_step_is_bit_for_bit_every_1(student: Callable[..., Any], train: Any, settings: Fit,
                                           tmp_path: Path) -> None:  # fmt: skip
    modules = [student(0.5, Softmax(), fit=replace(settings, every=every)) for every in (None, 1)]
    hashes = [outcome(train(module, tmp_path / str(turn)), module) for turn, module in enumerate(modules)]
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(("batch_size", "pause"), [(1024, 12), (2048, 6), (20_000, 1), (1, 12_288)])
def test_usual_pause(batch_size: int, pause: int) -> None:
    fit = Fit(batch_size=batch_size, queries=256)
    assert usual_pause(BPR(), fit) == pause
    assert usual_pause(Softmax(), fit) == 1
    assert math.isclose(usual_pause(BPR(), replace(fit, queries=128)), max(1, pause / 2), abs_tol=0.51)


def test_what_is_logged_has_the_same_names_whatever_changes(
    student: Callable[..., Any], train: Any, settings: Fit, tmp_path: Path
) -> None:
    """With and without schedules and weights of queries; and what is weighted adds up to the loss."""
    fit = replace(settings, epochs=1, every=3)
    steady = Linear(0.4, 0.4)  # a schedule of one value
    ways: dict[str, dict[str, Any]] = {
        "plain": {},
        "schedule": {"alpha": steady},
        "weights": {"weighting": Confidence()},
    }
    rows = {}
    for name, more in ways.items():
        module = student(**{"alpha": 0.4, **more}, fit=fit)
        rows[name] = callback(train(module, tmp_path / name), History).rows[-1]
        weighted = {key: value for key, value in rows[name].items() if key.endswith(".weighted")}
        assert set(weighted) == {f"train/{term}.weighted" for term in ("bpr", "soft_label", "hint")}
        assert sum(weighted.values()) == pytest.approx(rows[name]["train/loss"], rel=1e-5)
        assert weighted["train/bpr.weighted"] == pytest.approx(0.6 * rows[name]["train/bpr"], rel=1e-5)
        assert weighted["train/hint.weighted"] == pytest.approx(0.4 * rows[name]["train/hint"], rel=1e-5)
    assert set(rows["schedule"]) - set(rows["plain"]) == {"train/alpha"}
    assert set(rows["weights"]) - set(rows["plain"]) == {"train/weighting.sd"}
    same = [key for key in rows["plain"] if key != "seconds"]
    assert [rows["schedule"][key] for key in same] == pytest.approx([rows["plain"][key] for key in same])


def test_the_spread_of_weights_is_that_of_the_steps_that_distil(
    student: Callable[..., Any], train: Any, settings: Fit, tmp_path: Path
) -> None:
    module = student(0.5, fit=replace(settings, epochs=1, every=3), weighting=Confidence())
    spread, real = [], module.weights

    def weights(*arguments: Any) -> Any:
        found = real(*arguments)
        spread.append(float(found.std(correction=0)))
        return found

    module.weights = weights
    train(module, tmp_path)
    assert module.sums["weighting.sd"] == pytest.approx(sum(spread) / len(spread))
