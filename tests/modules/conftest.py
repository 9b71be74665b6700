"""A small data set, a model with Dropout, and trainings of it as the stages set them up."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

sys.path.insert(0, str(Path(__file__).parent))

from training_kit import EPOCHS, DropoutMF

from recdistill.data.filters import Filters
from recdistill.data.interactions import Dataset
from recdistill.data.prepare import prepare
from recdistill.data.sources.synthetic import Synthetic
from recdistill.data.splits import GlobalTemporal
from recdistill.distillers.features import Hint
from recdistill.distillers.response import SoftLabel
from recdistill.distillers.teacher import LiveTeacher
from recdistill.models.fit import Fit
from recdistill.models.mf import MF
from recdistill.modules.distillation import DistillationModule
from recdistill.modules.supervised import StudentModule, SupervisedModule
from recdistill.stages.training import FitSpec, make_trainer, quiet_lightning, run_trainer
from recdistill.tasks.objectives import BPR, Objective


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    quiet_lightning()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data() -> Dataset:
    source = Synthetic(n_users=80, n_items=60, niches=8)
    return prepare(source, Filters(), GlobalTemporal())


@pytest.fixture(scope="session")
def teacher(data: Dataset) -> MF:
    torch.manual_seed(3)
    return MF(DropoutMF(data).schema, dim=10, init_std=0.5)


@pytest.fixture
def settings() -> Fit:
    return Fit(epochs=EPOCHS, batch_size=64, lr=0.02, weight_decay=0.1, schedule="cosine", clip=1.0, queries=16)


@pytest.fixture
def student(data: Dataset, teacher: MF, settings: Fit) -> Callable[..., SupervisedModule]:
    """A module in training; ``alpha=None`` trains without a teacher."""

    def make(alpha: float | None = None, objective: Objective | None = None, **more: Any) -> SupervisedModule:
        model, objective = DropoutMF(data), objective or BPR(negatives=2)
        common: dict[str, Any] = {"seed": 5, "ks": [5, 10], **more}
        fit = common.pop("fit", settings)
        if alpha is None:
            return StudentModule(model, objective, fit, data, **common)
        frozen = LiveTeacher(teacher, data.train)
        distillers = {"soft_label": SoftLabel(temperature=2.0), "hint": Hint(items=20, lr=common.pop("hint_lr", None))}
        return DistillationModule(
            model, objective, fit, data, teacher=frozen, distillers=distillers, alpha=alpha, **common
        )

    return make


@pytest.fixture
def trainer_of() -> Callable[..., pl.Trainer]:
    """The trainer that the stages make, for a module and a folder."""

    def make(module: SupervisedModule, folder: Path, every_seconds: float = 1e9, **config: Any) -> pl.Trainer:
        fit = {"_target_": "recdistill.models.fit.Fit", **vars(module.fit_config)}
        trainer = {"_target_": "pytorch_lightning.Trainer", "accelerator": "cpu", "devices": 1, **config}
        folder.mkdir(parents=True, exist_ok=True)
        spec = FitSpec(
            title="x", role="student", node={"fit": fit}, data="", folder=str(folder), seed=5, ks=[5, 10],
            monitor="ndcg@10", trainer=trainer, every_seconds=every_seconds, max_steps=module.max_steps,
        )  # fmt: skip
        return make_trainer(spec, validates=True)

    return make


@pytest.fixture
def train(trainer_of: Callable[..., pl.Trainer]) -> Callable[..., pl.Trainer]:
    """Trains a module in a folder, from the checkpoint that is there."""

    def run(module: SupervisedModule, folder: Path, **more: Any) -> pl.Trainer:
        trainer = trainer_of(module, folder, **more)
        run_trainer(trainer, module, folder)
        return trainer

    return run
