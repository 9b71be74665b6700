"""Every model that learns, trained in each of Lightning's precisions on a CPU (acceptance R10, of the student)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from answers_kit import TASKS, data_of, serving, target, task_of
from contract_kit import node
from families_kit import ranking_data, trained
from test_any_model_contract import hard_loss

from recdistill.models.base import ClosedFormModel
from recdistill.models.build import build
from recdistill.models.fit import Fit
from recdistill.modules.supervised import SupervisedModule
from recdistill.tasks.objectives import Softmax

PRESETS = ("_tiny", "_small", "_large")
LEARN = [
    (task, option) for task in TASKS for option in serving("model", task)
    if not option.endswith(PRESETS) and not issubclass(target("model", option), ClosedFormModel)
]  # fmt: skip
PRECISIONS = {"bf16-mixed": 0.05, "bf16-true": 0.05, "64-true": 0.01}  # dropout draws anew for each


def first_epoch(task: str, option: str, folder: Path, **trainer: Any) -> tuple[float, torch.nn.Module]:
    """The mean loss of it, and the model."""
    own, data = task_of(task), ranking_data() if task == "ranking" else data_of(task)
    torch.manual_seed(0)
    model = build(node("model", option), own.schema(data))
    model.bind(data.train)
    objective = Softmax() if task == "ranking" else hard_loss(task, option)
    fit = Fit(batch_size=256, epochs=1, lr=1e-3)
    module = SupervisedModule(model, objective, fit, data, task=own, seed=1, ks=[10], max_steps=3)
    trained(module, folder, **trainer)  # type: ignore[arg-type]
    return module.sums["loss"], model


@pytest.mark.parametrize(("task", "option"), LEARN)
def test_a_model_trains_in_any_precision(task: str, option: str, tmp_path: Path) -> None:
    expected, _ = first_epoch(task, option, tmp_path / "single")
    for precision, within in PRECISIONS.items():
        loss, model = first_epoch(task, option, tmp_path / precision, precision=precision)
        assert math.isclose(loss, expected, rel_tol=within, abs_tol=within), precision
        assert all(bool(parameter.isfinite().all()) for parameter in model.parameters()), precision
