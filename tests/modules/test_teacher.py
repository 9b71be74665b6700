"""The teacher is frozen, keeps its precision, and leaves no trace in the student."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_kit import callback, hashed, outcome

from recdistill.errors import DivergedError, InputError
from recdistill.models.fit import Fit
from recdistill.models.mf import MF
from recdistill.modules.checkpoints import LAST
from recdistill.modules.progress import History
from recdistill.modules.supervised import SupervisedModule
from recdistill.tasks.objectives import BPR, Softmax


def test_it_is_nowhere_in_the_student(student: Any, train: Any, teacher: MF, tmp_path: Path) -> None:
    before = hashed(teacher.state_dict())
    module = student(0.5)
    trainer = train(module, tmp_path / "kd", every_seconds=0.0)
    ids = {id(p) for p in teacher.parameters()}
    assert not ids & {id(p) for p in module.parameters()}
    assert not ids & {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert not any("teacher" in name for name in module.state_dict())
    assert not any(isinstance(m, MF) for m in module.modules())
    content = torch.load(tmp_path / "kd" / LAST, weights_only=True)
    shapes = {tuple(p.shape) for p in teacher.parameters()}
    assert not shapes & {tuple(t.shape) for t in content["state_dict"].values()}
    assert hashed(teacher.state_dict()) == before
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())


def test_a_checkpoint_holds_none_of_it(student: Any, train: Any, teacher: MF, tmp_path: Path) -> None:
    sizes = []
    for alpha in (None, 0.5):
        module = student(alpha)
        if alpha:
            del module.distillers["hint"]  # its projection is trained, so it has to be saved
        train(module, tmp_path / str(alpha), every_seconds=0.0)
        sizes.append((tmp_path / str(alpha) / LAST).stat().st_size)
    its_weights = sum(p.numel() * p.element_size() for p in teacher.parameters())
    assert sizes[1] - sizes[0] < its_weights / 4, "more than the names of some sums"


def test_it_stays_in_eval_mode(student: Any, train: Any, teacher: MF, tmp_path: Path) -> None:
    teacher.noise = nn.Dropout(0.5)
    module = student(0.5)
    seen = []
    real = module.teacher.view
    module.teacher.view = lambda users: (seen.append(teacher.noise.training), real(users))[1]
    module.train()
    train(module, tmp_path)
    assert seen
    assert not any(seen)
    del teacher.noise


@pytest.mark.parametrize("objective", [BPR(negatives=2), Softmax()])
def test_alpha_0_is_plain_training(objective: Any, student: Any, train: Any, tmp_path: Path) -> None:
    """R14: bit for bit, with Dropout, negative sampling and weight decay."""
    plain, kd = student(None, objective), student(0.0, objective)
    assert outcome(train(kd, tmp_path / "kd"), kd) == outcome(train(plain, tmp_path / "plain"), plain)


def test_another_seed_differs(student: Any, train: Any, tmp_path: Path) -> None:
    """R13."""
    hashes = []
    for turn, seed in enumerate((5, 5, 6)):
        module = student(0.5, seed=seed)
        hashes.append(outcome(train(module, tmp_path / str(turn)), module)["weights"])
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("precision", "student_dtype"),
    [
        ("32-true", torch.float32),
        ("bf16-mixed", torch.float32),
        ("bf16-true", torch.bfloat16),
        ("64-true", torch.float64),
        ("16-mixed", torch.float32),  # on a CPU, Lightning takes bf16-mixed instead
    ],
)
def test_precision_is_the_students_alone(
    precision: str, student_dtype: torch.dtype, student: Any, train: Any, teacher: MF, tmp_path: Path
) -> None:
    """R10."""
    module = student(0.5)
    answers = []
    real = module.teacher.view

    def view(users: torch.Tensor) -> Any:
        answer = real(users)
        answers.append((users, answer.scores()))
        return answer

    module.teacher.view = view
    trainer = train(module, tmp_path, precision=precision)
    dtypes = {p.dtype for p in module.model.parameters()}
    assert dtypes == {student_dtype}
    assert {p.dtype for p in teacher.parameters()} == {torch.float32}
    users, scores = answers[-1]
    user, item = teacher.factors()
    assert scores.dtype == torch.float32
    assert torch.equal(scores, user[users] @ item.T)
    assert all(math.isfinite(v) for row in callback(trainer, History).rows for v in row.values())


def test_many_steps_under_autocast_see_fresh_weights(student: Any, train: Any, tmp_path: Path) -> None:
    """All steps of an epoch lie in one autocast block, which could cache casts of weights; one at a time it can't."""
    whole = student(0.5)
    train(whole, tmp_path / "whole", precision="bf16-mixed")

    single = student(0.5)
    optimize = single.optimize

    def in_its_own_block(*args: Any) -> Any:
        torch.clear_autocast_cache()
        return optimize(*args)

    single.optimize = in_its_own_block
    train(single, tmp_path / "single", precision="bf16-mixed")
    assert hashed(single.state_dict()) == hashed(whole.state_dict())


class NaNAt(BPR):
    """Not a number at one step of one epoch."""

    name = "sick"

    def __call__(self, model: Any, batch: Any, view: Any, rng: Any) -> Any:
        self.calls = getattr(self, "calls", 0) + 1
        loss = super().__call__(model, batch, view, rng)
        return loss * float("nan") if self.calls == 23 else loss


def test_divergence_is_named_and_not_saved(student: Any, train: Any, tmp_path: Path) -> None:
    """R5."""
    module = student(0.25, NaNAt(negatives=2))
    with pytest.raises(DivergedError) as caught:
        train(module, tmp_path, every_seconds=0.0)
    assert caught.value.exit_code == 3
    text = str(caught.value)
    for expected in ("sick is not finite at epoch 1, step 5", "lr=0.0", "soft_label.temperature=2", "alpha=0.25"):
        assert expected in text
    kept = torch.load(tmp_path / LAST, weights_only=True)
    assert kept["recdistill"]["position"] == [1, 5]
    assert all(bool(t.isfinite().all()) for t in kept["state_dict"].values())
    assert all(bool(p.isfinite().all()) for p in module.parameters())


def test_clipping_limits_the_gradient(student: Any, train: Any, settings: Fit, tmp_path: Path) -> None:
    norms = []

    def measured(module: SupervisedModule) -> None:
        clip = module.clip

        def then_measure(optimizer: Any) -> None:
            clip(optimizer)
            norms.append(float(torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]).norm()))

        module.clip = then_measure  # type: ignore[method-assign]

    module = student(fit=Fit(**{**vars(settings), "clip": 1e-3}))
    measured(module)
    train(module, tmp_path)
    assert max(norms) == pytest.approx(1e-3, rel=1e-3)


def test_a_teacher_of_other_data_is_refused(data: Any, teacher: MF, tmp_path: Path) -> None:
    """B36: also where all shapes agree."""
    from recdistill.export.bundle import save_model
    from recdistill.stages.evaluate import require_same_data

    net = {"_target_": "recdistill.models.mf.MF", "dim": 10}
    save_model(tmp_path / "own", teacher, net, data=data.fingerprint)
    require_same_data(tmp_path / "own", data)
    save_model(tmp_path / "other", teacher, net, data="0123abcd")
    with pytest.raises(InputError) as caught:
        require_same_data(tmp_path / "other", data)
    assert "0123abcd" in str(caught.value)
    assert data.fingerprint in str(caught.value)
