"""Every model that learns, and every distiller, in each of Lightning's precisions on a CPU."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from answers_kit import TASKS, data_of, serving, target, task_of
from contract_kit import files, node
from families_kit import fit, ranking_data, trained
from module_kit import beside, make, module_of
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
    settings = Fit(batch_size=256, epochs=1, lr=1e-3)
    module = SupervisedModule(model, objective, settings, data, task=own, seed=1, ks=[10], max_steps=3)
    trained(module, folder, **trainer)  # type: ignore[arg-type]
    return module.sums["loss"], model


@pytest.mark.parametrize(("task", "option"), LEARN)
def test_a_model_trains_in_any_precision(task: str, option: str, tmp_path: Path) -> None:
    expected, _ = first_epoch(task, option, tmp_path / "single")
    for precision, within in PRECISIONS.items():
        loss, model = first_epoch(task, option, tmp_path / precision, precision=precision)
        assert math.isclose(loss, expected, rel_tol=within, abs_tol=within), precision
        assert all(bool(parameter.isfinite().all()) for parameter in model.parameters()), precision


def terms(option: str, folder: Path, **trainer: Any) -> dict[str, float]:
    """Means over an epoch of what is logged."""
    task = make(option).tasks[0]
    module = module_of(task, beside(option), fit(epochs=1), max_steps=3)
    if task == "ranking":
        module.data = ranking_data()
    trained(module, folder, **trainer)
    return module.sums


@pytest.mark.parametrize("option", [name for name in files("distiller") if name != "none"])
def test_a_distiller_teaches_in_any_precision(option: str, tmp_path: Path) -> None:
    """Its own draws are others in each: the terms are near, and no more."""
    expected = terms(option, tmp_path / "single")
    for precision in PRECISIONS:
        found = terms(option, tmp_path / precision, precision=precision)
        assert found.keys() == expected.keys()
        for name, value in found.items():
            assert math.isclose(value, expected[name], rel_tol=0.2, abs_tol=0.05), (precision, name)
