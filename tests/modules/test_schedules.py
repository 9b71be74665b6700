"""What a training logs of numbers that change: the means over each epoch of what they are at every step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from training_kit import EPOCHS, callback

from recdistill.distillers.schedules import Cosine, Exponential, Linear, Schedule, Steps
from recdistill.models.fit import Fit
from recdistill.modules.progress import History

CLOSED: dict[str, tuple[Schedule, Callable[[float], float]]] = {
    "constant": (Linear(0.4, 0.4), lambda t: 0.4),  # noqa: ARG005
    "linear": (Linear(0.2, 0.8), lambda t: 0.2 + 0.6 * t),
    "warm-up": (Linear(0.0, 0.5, over=0.25), lambda t: min(2 * t, 0.5)),
    "cosine": (Cosine(0.9, 0.1), lambda t: 0.5 + 0.4 * math.cos(math.pi * t)),
    "exponential": (Exponential(0.8, 0.05), lambda t: 0.8 * 2 ** (-4 * t)),
    "steps": (Steps([0.9, 0.1, 0.5], [0.3, 0.7]), lambda t: 0.9 if t < 0.3 else 0.1 if t < 0.7 else 0.5),
}


@pytest.mark.parametrize("kind", CLOSED)
def test_what_is_logged_follows_the_closed_form(
    kind: str, student: Callable[..., Any], train: Any, settings: Fit, tmp_path: Path
) -> None:
    schedule, value = CLOSED[kind]
    module = student(schedule, fit=replace(settings, epochs=EPOCHS, ema=0.0))
    seen: list[float] = []  # of each step
    real = module.advance

    def advance(progress: float) -> None:
        real(progress)
        seen.append(module.noted["alpha"])

    module.advance = advance
    rows = callback(train(module, tmp_path), History).rows
    steps = len(seen) // EPOCHS
    assert steps > 1
    expected = [value(step / (steps * EPOCHS)) for step in range(steps * EPOCHS)]
    assert seen == pytest.approx(expected, abs=1e-12)
    means = [sum(expected[epoch * steps : (epoch + 1) * steps]) / steps for epoch in range(EPOCHS)]
    assert [row["train/alpha"] for row in rows] == pytest.approx(means, rel=1e-6)
