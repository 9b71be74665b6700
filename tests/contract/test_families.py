"""R8, R9, R10, R12, R13 and R14 for one distiller of each family, in trainings as the stages set them up."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from families_kit import FAMILIES, build, fit, student_alone, trained
from torch import Tensor

from recdistill.distillers.teacher import weights_hash
from recdistill.errors import InputError, Terminated
from recdistill.modules import checkpoints
from recdistill.modules.checkpoints import LAST, load_plain
from recdistill.modules.distillation import DistillationModule

every_family = pytest.mark.parametrize("name", FAMILIES)


def tensors_in(content: Any) -> list[tuple[str, Tensor]]:
    """All tensors of a checkpoint, with where they stand."""
    if isinstance(content, Tensor):
        return [("", content)]
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [(f"{key}.{name}", tensor) for key, value in inner for name, tensor in tensors_in(value)]


def watched(module: DistillationModule) -> list[tuple[bool, bool]]:
    """Whether any part of the teacher was in train mode, and any parameter wanted gradients, at each of its answers."""
    seen: list[tuple[bool, bool]] = []
    model, real = module.teacher.model, module.teacher.view  # type: ignore[attr-defined]

    def view(queries: Tensor) -> Any:
        seen.append((any(part.training for part in model.modules()), any(p.requires_grad for p in model.parameters())))
        return real(queries)

    module.teacher.view = view  # type: ignore[method-assign]
    return seen


@every_family
def test_r8_r9_the_teacher_leaves_no_trace_and_never_trains(name: str, tmp_path: Path) -> None:
    module = build(name, fit=fit(ema=0.9), max_steps=3)
    model = module.teacher.model  # type: ignore[attr-defined]
    before, seen = weights_hash(model), watched(module)
    module.after_step = module.train  # whoever calls it, and whenever
    trainer = trained(module, tmp_path / "kd")
    assert seen
    assert set(seen) == {(False, False)}, "R9"
    assert weights_hash(model) == before, "running means of its batch normalisation included"
    module.train()
    queries = torch.arange(4)
    first, second = (module.teacher.view(queries).scores() for _ in range(2))
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert all(p.grad is None for p in model.parameters())

    content = torch.load(tmp_path / "kd" / LAST, weights_only=True)
    own = {id(p) for p in model.parameters()}
    assert not own & {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}, "R8"
    assert not any(part is model for part in module.modules())
    held = tensors_in(content)
    assert content["recdistill"]["average"], "the average was looked through, too"
    values = {p.detach().double().sum().item() for p in model.parameters() if p.numel() > 8}
    assert not [where for where, tensor in held if tensor.double().sum().item() in values and tensor.numel() > 8]

    plain = student_alone(name, fit=fit(ema=0.9), max_steps=3)
    trained(plain, tmp_path / "plain")
    # What a distiller itself learns or has looked up is kept until the end of the training, so that it goes on where it
    # stopped: as large as the distiller says, whatever the teacher's size is, and left out of the student's bundle.
    extra = [tensor for where, tensor in held if ".distillers." in where]
    extra += [t for state in content["optimizer_states"] for t in moments_of(state, module)]
    sizes = [(tmp_path / run / LAST).stat().st_size for run in ("kd", "plain")]
    own_size = sum(t.numel() * t.element_size() + 400 for t in extra) + 2000 if extra else 0
    assert sizes[0] - own_size <= 1.02 * sizes[1]


def moments_of(state: dict[str, Any], module: DistillationModule) -> list[Tensor]:
    """Those that the optimizer keeps of the distillers' parameters."""
    order = [p for group in module.optimizers().param_groups for p in group["params"]]  # type: ignore[union-attr]
    own = {id(p) for p in module.distillers.parameters()}
    return [tensor for number, kept in state["state"].items() if id(order[number]) in own for tensor in kept.values()]


PRECISIONS = {"bf16-mixed": 1e-2, "bf16-true": 1e-2, "64-true": 1e-6}


@every_family
def test_r10_the_students_precision_is_not_the_teachers(name: str, tmp_path: Path) -> None:
    """Its dtype stays, soft labels agree, and what distillers compare is finite.

    Without 16-mixed: on a CPU Lightning takes bf16-mixed for it.
    """
    for precision, within in PRECISIONS.items():
        module = build(name, fit=fit(epochs=1), max_steps=2)
        model, real, answers = module.teacher.model, module.teacher.view, []  # type: ignore[attr-defined]

        def view(queries: Tensor, real: Any = real, answers: list[Any] = answers) -> Any:
            found = real(queries)
            answers.append((queries, found.scores()))
            return found

        module.teacher.view = view  # type: ignore[method-assign]
        trained(module, tmp_path / precision, precision=precision)
        assert {p.dtype for p in model.parameters()} == {torch.float32}, precision
        wanted = {"bf16-true": torch.bfloat16, "64-true": torch.float64}.get(precision, torch.float32)
        assert {p.dtype for p in module.model.parameters()} == {wanted}
        queries, scores = answers[-1]
        expected = real(queries).scores()
        gap = (scores.double().softmax(-1) - expected.double().softmax(-1)).abs().max()
        assert gap <= within, precision
        assert all(math.isfinite(value) for value in module.sums.values())


def stop_after(monkeypatch: pytest.MonkeyPatch, module: DistillationModule, position: tuple[int, int]) -> None:
    monkeypatch.setattr(checkpoints, "stop_requested", lambda: module.position == position)


def outcome(module: DistillationModule) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@every_family
def test_r12_another_teacher_is_refused_and_the_same_one_goes_on(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of an epoch, with what was looked up at its start; bit for bit as if it had not stopped (R13)."""
    settings: dict[str, Any] = {"fit": fit(), "max_steps": 4}
    whole = build(name, **settings)
    trained(whole, tmp_path / "whole")
    first = build(name, **settings)
    stop_after(monkeypatch, first, (1, 2))
    with pytest.raises(Terminated):
        trained(first, tmp_path / "cut")
    monkeypatch.undo()
    assert load_plain(tmp_path / "cut" / LAST)["recdistill"]["position"] == [1, 2]

    other = build(name, seed=7, **settings)
    with pytest.raises(InputError, match="under another teacher") as caught:
        trained(other, tmp_path / "cut")
    for teacher in (first.teacher, other.teacher):
        assert teacher.identity in str(caught.value)

    torch.manual_seed(991)
    second = build(name, **settings)
    seen = watched(second)
    trained(second, tmp_path / "cut")
    assert set(seen) == {(False, False)}, "R9 after a resume"
    for key, tensor in outcome(whole).items():
        assert torch.equal(tensor, second.state_dict()[key]), key


@every_family
def test_r14_alpha_0_is_the_student_alone_and_alpha_1_the_soft_losses(name: str) -> None:
    """And the loss is (1 - alpha) · hard + alpha · Σ weight · soft for what lies between, the gradient included."""
    from recdistill.modules.supervised import weighted_sum

    grads: dict[float, list[Tensor]] = {}
    for alpha in (0.0, 0.3, 1.0):
        module = build(name, alpha=alpha if alpha else 1e-300)
        module.alpha = alpha
        module.start_epoch(0)
        module.advance(0.25)
        plan = module.task.epoch(module.train_part, module.objective, seed=1, epoch=0, batch_size=64, queries=16)
        torch.manual_seed(0)
        terms = module.loss_terms(plan.batch(0))
        soft: Tensor = sum(distiller.weight * terms[key] for key, distiller in module.soft.items())  # type: ignore[assignment]
        total = weighted_sum(terms, module.coefficients)
        expected = (1 - alpha) * terms[module.objective.name] + alpha * soft
        assert total.item() == pytest.approx(float(expected.detach()), rel=1e-5)
        total.backward()
        grads[alpha] = [torch.zeros_like(p) if p.grad is None else p.grad for p in module.model.parameters()]
    for none, some, full in zip(*grads.values(), strict=True):
        torch.testing.assert_close(some, 0.7 * none + 0.3 * full, rtol=1e-4, atol=1e-6)


def test_raw_and_weighted_terms_reach_the_loggers(tmp_path: Path) -> None:
    from module_kit import make, module_of

    for task in ("ctr", "classification"):
        module = module_of(task, {name: make(name) for name in ("soft_label", "dist", "entropy")}, alpha=0.25)
        module.fit_config, module.max_steps = fit(epochs=1), 3
        logged = {name: float(value) for name, value in trained(module, tmp_path / task).callback_metrics.items()}
        total = logged[f"train/{module.objective.name}.weighted"]
        for name, distiller in copy.copy(module.soft).items():
            expected = 0.25 * distiller.weight * logged[f"train/{name}"]
            assert logged[f"train/{name}.weighted"] == pytest.approx(expected, rel=1e-4)
            total += expected
        assert logged["train/loss"] == pytest.approx(total, rel=1e-4)
