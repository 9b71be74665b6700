"""Users of whom a teacher from a file has no list learn nothing of it, whatever the distiller looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch import Tensor

from recdistill.data.interactions import Dataset, Schema
from recdistill.distillers.base import Distiller
from recdistill.distillers.divergences import ReverseKL
from recdistill.distillers.lists import TopKKL
from recdistill.distillers.response import LogitMSE, SoftLabel
from recdistill.distillers.signals import compute_signals
from recdistill.distillers.stored import StoredTeacher
from recdistill.distillers.teacher import FrozenTeacher, LiveTeacher
from recdistill.models.fit import Fit
from recdistill.models.given import GivenLists
from recdistill.models.mf import MF
from recdistill.modules.distillation import DistillationModule
from recdistill.tasks.objectives import Softmax
from recdistill.tasks.ranking import Ranking

LOSSES: dict[str, Any] = {
    "all": lambda: SoftLabel(temperature=1.0, negatives=0),
    "some": lambda: SoftLabel(negatives=20, k=5),
    "squares": lambda: LogitMSE(k=5),
    "reverse": lambda: ReverseKL(k=5, others=10),
    "lists": lambda: TopKKL(k=5),
}


@pytest.fixture(scope="module")
def given(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> GivenLists:
    """Lists of every second user."""
    rng, rows = torch.Generator().manual_seed(0), []
    for user in range(0, data.train.n_users, 2):
        for item in torch.randperm(data.train.n_items, generator=rng)[:12].tolist():
            rows.append((data.users[user], data.items[item], float(torch.randn((), generator=rng))))
    path = tmp_path_factory.mktemp("lists") / "lists.parquet"
    pl.DataFrame(rows, schema=["user", "item", "score"], orient="row").write_parquet(path)
    model = GivenLists(Schema(data.train.n_users, data.train.n_items), str(path))
    model.make(data, {})
    return model.eval()


def teacher_of(kind: str, model: GivenLists, loss: Distiller, data: Dataset, folder: Path) -> FrozenTeacher:
    if kind == "live":
        return LiveTeacher(model, data.train)
    compute_signals(model, data.train, loss.needs(), folder)
    return StoredTeacher(folder)


def step(data: Dataset, teacher: FrozenTeacher, loss: Distiller) -> tuple[DistillationModule, Tensor, Tensor]:
    """The module, the users of one step, and the soft loss of it with gradients."""
    torch.manual_seed(1)
    model = MF(Schema(data.train.n_users, data.train.n_items), dim=4, init_std=1.0)
    fit = Fit(batch_size=40, queries=40, every=1)
    module = DistillationModule(
        model, Softmax(), fit, data, seed=1, ks=[10], task=Ranking(), teacher=teacher, distillers={"soft": loss},
        alpha=0.5,
    )  # fmt: skip
    module.train_part = module.task.prepare(data.train, torch.device("cpu"))
    plan: Any = module.task.epoch(
        module.train_part, module.objective, seed=1, epoch=0, batch_size=40, queries=40
    )  # fmt: skip
    module.start_epoch(0)
    batch = plan.batch(0)
    return module, batch.query, module.loss_terms(batch)["soft"]


@pytest.mark.parametrize("kind", ["live", "stored"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_user_without_a_list_learns_nothing(
    name: str, kind: str, data: Dataset, given: GivenLists, tmp_path: Path
) -> None:
    loss = LOSSES[name]()
    module, users, soft = step(data, teacher_of(kind, given, loss, data, tmp_path), loss)
    soft.backward()  # type: ignore[no-untyped-call]
    moved = module.model.user.weight.grad.norm(dim=1)  # type: ignore[union-attr]
    listed = users[users % 2 == 0]
    assert 0 < len(listed) < len(users)
    assert bool((moved[listed] > 0).all())
    assert not moved[1::2].any()


@pytest.mark.parametrize("kind", ["live", "stored"])
def test_the_others_count_as_a_step_of_their_own(kind: str, data: Dataset, given: GivenLists, tmp_path: Path) -> None:
    """Their mean, by a loop."""
    loss = LOSSES["all"]()
    module, users, soft = step(data, teacher_of(kind, given, loss, data, tmp_path), loss)
    found = []
    for user in users[users % 2 == 0]:
        p, q = (model.scores(user.view(1))[0].detach().double().softmax(-1) for model in (given, module.model))
        found.append(float((p * (p / q).log()).sum()))
    assert soft.item() == pytest.approx(sum(found) / len(found), rel=1e-4)
