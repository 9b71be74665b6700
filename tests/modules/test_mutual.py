"""Teacher and student that train together, through the trainer of the stages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training_kit import EPOCHS, DropoutMF, callback, hashed, outcome

from recdistill.data.interactions import Dataset
from recdistill.distillers.base import Distiller
from recdistill.distillers.bidirectional import Bidirectional
from recdistill.distillers.features import Hint
from recdistill.distillers.response import SoftLabel
from recdistill.distillers.schedules import Linear
from recdistill.errors import DivergedError, InputError, Terminated
from recdistill.models.fit import Fit
from recdistill.modules import checkpoints
from recdistill.modules.checkpoints import LAST, KeepBest, load_plain
from recdistill.modules.mean_teacher import MeanTeacher
from recdistill.modules.mutual import Mutual, MutualModule
from recdistill.modules.progress import History
from recdistill.modules.supervised import TeacherModule
from recdistill.stages.teaching import self_taught, taught_along
from recdistill.stages.training import finish
from recdistill.tasks.objectives import BPR, Softmax
from recdistill.tasks.ranking import Ranking

STEPS = 17  # of an epoch here
ITS_FIT = Fit(epochs=90, batch_size=7, lr=0.004, weight_decay=0.3, warmup=5, clip=0.5)


def losses() -> dict[str, Distiller]:
    return {
        "soft_label": SoftLabel(temperature=2.0), "hint": Hint(items=20), "bidirectional": Bidirectional(5, 9, every=2),
    }  # fmt: skip


@pytest.fixture
def pair(data: Dataset, settings: Fit) -> Callable[..., MutualModule]:
    def make(
        alpha: Any = 0.6, back: Any = 0.3, *, fit: Fit | None = None, its_fit: Fit = ITS_FIT, objective: Any = None,
        its: Any = None, losses: Any = losses, **more: Any,
    ) -> MutualModule:  # fmt: skip
        fit = fit or Fit(**{**vars(settings), "every": 1})
        return taught_along(
            Mutual(back), DropoutMF(data), objective or BPR(negatives=2), fit, data, peer=DropoutMF(data, 10),
            its=its or BPR(), its_fit=its_fit, losses=losses, alpha=alpha, task=Ranking(),
            **{"weighting": None, "seed": 5, "ks": [5, 10], **more},
        )  # fmt: skip

    return make


@pytest.fixture
def self_teaching(data: Dataset, settings: Fit) -> Callable[..., Any]:
    def make(alpha: float = 0.6, fit: Fit | None = None) -> Any:
        return self_taught(
            MeanTeacher(0.9), DropoutMF(data), BPR(negatives=2), fit or settings, data,
            losses=losses, alpha=alpha, weighting=None, task=Ranking(), seed=5, ks=[5, 10],
        )  # fmt: skip

    return make


def weights_of(model: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("position", [(0, 1), (1, 6), (2, STEPS), (1, 0)])
@pytest.mark.parametrize("way", ["mutual", "mean_teacher"])
def test_it_goes_on_bit_by_bit(
    way: str, position: tuple[int, int], pair: Any, self_teaching: Any, train: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    make = {"mutual": pair, "mean_teacher": self_teaching}[way]

    def all_of(trainer: Any, module: Any) -> dict[str, str]:
        return outcome(trainer, module) | {"teacher": hashed(module.teacher.model.state_dict())}

    whole = make()
    expected = all_of(train(whole, tmp_path / "whole"), whole)
    first = make()
    monkeypatch.setattr(checkpoints, "stop_requested", lambda: first.position == position)
    with pytest.raises(Terminated):
        train(first, tmp_path / "cut")
    assert load_plain(tmp_path / "cut" / LAST)["recdistill"]["position"] == list(position)
    monkeypatch.undo()
    second = make()
    torch.manual_seed(991)
    torch.rand(5)
    assert all_of(train(second, tmp_path / "cut"), second) == expected


@pytest.mark.parametrize("way", ["mutual", "mean_teacher"])
def test_at_alpha_0_the_student_is_the_student_alone(
    way: str, pair: Any, self_teaching: Any, student: Any, train: Any, settings: Fit, tmp_path: Path
) -> None:
    alone = student(None, fit=settings)
    expected = callback(train(alone, tmp_path / "alone"), KeepBest)
    module = {"mutual": pair, "mean_teacher": self_teaching}[way](0.0)
    best = callback(train(module, tmp_path / "both"), KeepBest)
    assert hashed(module.model.state_dict()) == hashed(alone.model.state_dict())
    assert best.best == expected.best


def test_with_back_0_the_teacher_is_the_teacher_alone(
    pair: Any, train: Any, data: Dataset, settings: Fit, tmp_path: Path
) -> None:
    """Of the same batches, in its own way; without dropout, whose numbers the student draws first."""
    module = pair(back=0.0)
    for model in (module.model, module.peer.model):
        model.dropout.p = 0.0
    train(module, tmp_path / "both")
    model = DropoutMF(data, 10)
    model.dropout.p = 0.0
    its = Fit(**{**vars(settings), **{k: getattr(ITS_FIT, k) for k in ("lr", "weight_decay", "warmup", "clip")},
                 "schedule": "constant"})  # fmt: skip
    alone = TeacherModule(model, BPR(), its, data, seed=5, ks=[5, 10])
    train(alone, tmp_path / "alone")
    for name, tensor in module.peer.model.state_dict().items():
        torch.testing.assert_close(tensor, model.state_dict()[name], rtol=1e-5, atol=1e-6)
    assert not torch.equal(module.peer.model.user.weight, DropoutMF(data, 10).user.weight)


@pytest.mark.parametrize(("own", "its"), [("users", "interactions"), ("interactions", "users"), ("users", "users")])
def test_hard_losses_may_go_over_other_samples(
    own: str, its: str, pair: Any, train: Any, data: Dataset, settings: Fit, tmp_path: Path
) -> None:
    """Each epoch of the student's is one of the teacher's too: it sees each of its samples once."""
    kinds = {"users": Softmax, "interactions": BPR}
    module = pair(objective=kinds[own](), its=kinds[its](), fit=Fit(**{**vars(settings), "batch_size": 16, "every": 1}))
    train(module, tmp_path)
    plan = module.plan(0)
    seen: list[Tensor] = []
    for step in range(plan.steps):
        batch = plan.batch(step)
        assert len(batch.own.query)
        other = batch.other
        seen.append(other.user if its == "users" else other.user * data.train.n_items + other.item)
    samples = torch.cat(seen)
    n = data.train.n_users if its == "users" else len(data.train)
    assert len(samples.unique()) == n
    assert len(samples) == n or plan.steps > n, "a short epoch begins anew"


def test_more_steps_than_the_teacher_has_samples(pair: Any, train: Any, settings: Fit, tmp_path: Path) -> None:
    fit = Fit(**{**vars(settings), "batch_size": 2, "epochs": 1, "every": 3})
    module = pair(objective=BPR(), its=Softmax(), fit=fit)
    assert module.every == module.fit_config.every == 3
    trainer = train(module, tmp_path)
    assert trainer.global_step > 80  # users
    row = callback(trainer, History).rows[-1]
    assert all(value == value for value in row.values())


def test_what_is_logged(pair: Any, train: Any, tmp_path: Path) -> None:
    module = pair(0.6, Linear(0.0, 0.5))
    trainer = train(module, tmp_path)
    row = callback(trainer, History).rows[-1]
    terms = [*("bpr", "soft_label", "hint", "bidirectional")]
    for name in (*terms, *(f"teacher.{name}" for name in terms)):
        assert f"train/{name}" in row
        assert f"train/{name}.weighted" in row
    assert 0.3 < row["train/teacher.alpha"] < 0.5
    parts = sum(value for name, value in row.items() if name.endswith(".weighted"))
    assert row["train/loss"] == pytest.approx(parts, rel=1e-4)


def test_what_is_kept_is_of_one_epoch(pair: Any, train: Any, settings: Fit, tmp_path: Path) -> None:
    """Both models as they were when the student was best."""
    module = pair(fit=Fit(**{**vars(settings), "epochs": 6, "lr": 0.2, "every": 1}))
    seen = []
    start = module.on_validation_end
    module.on_validation_end = lambda: (seen.append(weights_of(module.peer.model)), start())
    trainer = train(module, tmp_path)
    best = callback(trainer, KeepBest)
    assert best.best_epoch < 5, "or the last one would do"
    finish(trainer, module)
    assert hashed(weights_of(module.peer.model)) == hashed(seen[best.best_epoch])
    result = Ranking().evaluate(module.model.eval(), module.data, "valid", [5, 10])
    assert result.means()["ndcg@10"] == pytest.approx(best.best, abs=1e-6)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("way", ["mutual", "mean_teacher"])
def test_precision_average_and_parts(
    way: str, precision: str, pair: Any, self_teaching: Any, train: Any, settings: Fit, tmp_path: Path
) -> None:
    fit = Fit(**{**vars(settings), "ema": 0.9, "accumulate": 2, "epochs": 2})
    module = {"mutual": pair, "mean_teacher": self_teaching}[way](fit=fit)
    before = weights_of(module.teacher.model)
    trainer = train(module, tmp_path, precision=precision)
    assert all(value == value for row in callback(trainer, History).rows for value in row.values())
    after = weights_of(module.teacher.model)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    for name in module.average.values:
        assert not torch.equal(module.average.values[name], module.model.state_dict()[name].float())
    finish(trainer, module)


def test_parts_of_a_step_are_the_step(pair: Any, data: Dataset) -> None:
    """Terms that are means over users or samples, of halves of a step: their mean is the whole step's."""

    def mean_only() -> dict[str, Distiller]:
        return {"soft_label": SoftLabel(temperature=2.0)}

    module = pair(losses=mean_only)
    for model in (module.model, module.peer.model):
        model.dropout.p = 0.0
    module.train_part = module.peer.train_part = Ranking().prepare(data.train, torch.device("cpu"))
    plan = module.plan(0)
    whole = module.loss_terms(plan.batch(3))
    halves = [module.loss_terms(plan.batch(3, rank, 2)) for rank in range(2)]
    for name, term in whole.items():
        assert term.item() == pytest.approx(sum(half[name].item() for half in halves) / 2, rel=1e-4), name


def test_an_average_of_the_teacher_is_refused(pair: Any) -> None:
    with pytest.raises(InputError, match="no average is kept") as error:
        pair(its_fit=Fit(ema=0.9))
    assert error.value.where == "teacher.fit.ema"


@pytest.mark.parametrize(("own", "its", "key"), [(1e-3, 3e20, "teacher.fit.lr"), (3e20, 1e-3, "student.fit.lr")])
def test_whose_learning_rate_it_was(
    own: float, its: float, key: str, pair: Any, train: Any, settings: Fit, tmp_path: Path
) -> None:
    module = pair(fit=Fit(**{**vars(settings), "lr": own, "every": 1}), its_fit=Fit(lr=its))
    with pytest.raises(DivergedError, match="is not finite") as error:
        train(module, tmp_path)
    assert key in str(error.value.fix)


def test_epochs_are_the_student_s(pair: Any, train: Any, tmp_path: Path) -> None:
    trainer = train(pair(), tmp_path)
    assert len(callback(trainer, History).rows) == EPOCHS
    assert trainer.global_step == EPOCHS * STEPS
