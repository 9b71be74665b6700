"""Teachers that learn, with every distiller and every task: a step of both models, and what reaches whom."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from answers_kit import data_of, task_of
from contract_kit import every, files, node, problems
from module_kit import MODELS, Board, beside, make, model_of
from torch import Tensor
from torch.nn import functional as F

from recdistill.config.check import check_nodes
from recdistill.distillers.base import Distiller
from recdistill.errors import InputError
from recdistill.models.build import build, instantiate
from recdistill.models.fit import Fit
from recdistill.modules.mean_teacher import MeanTeacher, MeanTeacherModule
from recdistill.modules.mutual import Mutual, MutualModule
from recdistill.modules.supervised import weighted_sum
from recdistill.stages.teaching import self_taught, taught_along
from recdistill.tasks.sequence import Sequence

FIT = Fit(batch_size=64, queries=16, lr=0.01)
COMMON: dict[str, Any] = {"weighting": None, "seed": 1, "ks": [10]}


def parts_of(task: str, attention: bool = False) -> tuple[Any, Any, Any, Any, Any]:
    """Data, the student with its hard loss, the teacher with its."""
    data: Any = Board() if task == "ranking" else data_of(task)
    teacher, student = MODELS[task]
    return (
        data,
        *model_of(task, "student", teacher if attention else student, data),
        *model_of(task, "teacher", teacher, data),
    )


def begun(module: Any) -> Any:
    """The module at its first step."""
    module.train_part = module.task.prepare(module.data.train, torch.device("cpu"))
    module.teacher.to(torch.device("cpu"), module.train_part)
    if isinstance(module, MutualModule):
        module.peer.train_part = module.train_part
        module.peer.teacher.to(torch.device("cpu"), module.train_part)
    module.train()
    module.start_epoch(0)
    module.advance(0.0)
    return module


def along(task: str, losses: Any, how: Mutual | None = None, **more: Any) -> MutualModule:
    soft = losses()
    attention = any("attention" in distiller.layers for distiller in soft.values())
    data, student, objective, teacher, its = parts_of(task, attention)
    return begun(taught_along(
        how or Mutual(0.5), student, objective, FIT, data, peer=teacher, its=its, its_fit=FIT, losses=losses,
        task=task_of(task), **{**COMMON, "alpha": 0.5, **more},
    ))  # fmt: skip


def terms_of(module: Any, step: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(step)  # of dropout, as a training does
    module.position = (0, step)
    plan = module.plan(0)
    module.steps = plan.steps
    found: dict[str, Tensor] = module.loss_terms(plan.batch(step))
    return found


def sides(module: MutualModule) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters of student and teacher, each with those of its soft losses."""
    own = [*module.model.parameters(), *module.distillers.parameters()]
    return own, [p for p in module.peer.parameters() if not any(p is q for q in own)]


PAIRS = [(option, task) for option in files("distiller") if option != "none" for task in make(option).tasks]


@pytest.mark.parametrize(("option", "task"), PAIRS)
def test_both_learn_and_neither_through_the_other(option: str, task: str) -> None:
    module = along(task, lambda: beside(option))
    terms = terms_of(module)
    taught = {name for name, distiller in module.soft.items() if distiller.teaches}
    assert set(terms) == {module.objective.name, *module.soft} | {
        f"teacher.{name}" for name in (module.peer.objective.name, *taught)
    }, "what teaches nothing is the student's alone"
    own, its = sides(module)
    for name, term in terms.items():
        mine, others = (its, own) if name.startswith("teacher.") else (own, its)
        if not term.requires_grad:  # two lists that are alike, as of models that know nothing
            continue
        leaked = torch.autograd.grad(term, others, retain_graph=True, allow_unused=True)
        assert all(gradient is None for gradient in leaked), f"{name} reaches the other model"
        reached = torch.autograd.grad(term, mine, retain_graph=True, allow_unused=True)
        assert any(gradient is not None for gradient in reached), name
    weighted_sum(terms, module.coefficients).backward()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None, f"{key} has no gradient, for which DDP would wait"
        assert bool(parameter.grad.isfinite().all()), key
    assert module.model.training
    assert module.peer.model.training


@pytest.mark.parametrize("task", MODELS)
def test_nothing_comes_back_at_0(task: str) -> None:
    """Online distillation: the teacher's terms are those of its training alone."""
    from recdistill.modules.supervised import TeacherModule

    module = along(task, lambda: {"soft_label": make("soft_label")}, Mutual(0.0))
    terms = terms_of(module)
    assert set(terms) == {module.objective.name, "soft_label", f"teacher.{module.peer.objective.name}"}
    assert module.coefficients[f"teacher.{module.peer.objective.name}"] == 1
    assert not list(module.peer.distillers.parameters())
    peer = module.peer
    alone = TeacherModule(peer.model, peer.objective, FIT, module.data, seed=1, ks=[10], task=module.task)
    alone.train_part = module.train_part
    if peer.objective.samples == module.objective.samples:  # or it is cut into as many steps
        peer.model.eval(), module.model.eval()  # dropout was the student's first
        expected = alone.loss_terms(alone.plan(0).batch(0))[peer.objective.name]
        assert torch.equal(terms_of(module)[f"teacher.{peer.objective.name}"], expected)


@pytest.mark.parametrize("task", ["ctr", "sequence"])
@pytest.mark.parametrize("option", ["hint_layers", "consistency"])
def test_the_other_model_answers_once_a_step(option: str, task: str) -> None:
    """A second pass for a few rows would draw dropout anew and move the statistics of its batch normalisation."""
    distiller: Any = make(option)
    distiller.rows = 4
    module = along(task, lambda: {option: distiller}, Mutual(0.0))
    answered: list[object] = []
    module.peer.model.register_forward_hook(lambda model, *_: answered.append(model))
    terms_of(module)
    assert answered == [module.peer.model]


@pytest.mark.parametrize("task", ["ranking", "sequence"])
def test_a_teacher_that_learns_is_looked_at_as_the_student_is(task: str) -> None:
    """The average is the student before the first step: both rank alike, of histories longer than a window too."""
    data, student, objective, _, _ = parts_of(task)
    own: Any = Sequence(max_length=3) if task == "sequence" else task_of(task)
    module = begun(self_taught(
        MeanTeacher(0.9), student, objective, FIT, data, losses=lambda: {"bidirectional": make("bidirectional")},
        task=own, **COMMON, alpha=0.5,
    ))  # fmt: skip
    target: Any = module.soft["bidirectional"].target
    assert bool((target.items >= 0).any())
    assert not target.behind.any()


@pytest.mark.parametrize("task", MODELS)
def test_a_student_is_taught_by_its_average(task: str) -> None:
    data, student, objective, _, _ = parts_of(task)
    module: MeanTeacherModule = begun(self_taught(
        MeanTeacher(0.9), student, objective, FIT, data, losses=lambda: {"soft_label": make("soft_label")},
        task=task_of(task), **COMMON, alpha=0.5,
    ))  # fmt: skip
    optimizer = module.configure_optimizers()
    by_hand = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    for step in range(3):
        optimizer.zero_grad()
        weighted_sum(terms_of(module, step % module.plan(0).steps), module.coefficients).backward()
        assert all(p.grad is None for p in module.teacher.model.parameters())
        optimizer.step()
        module.teacher.follow(student)
        for name, tensor in student.state_dict().items():
            if tensor.is_floating_point():
                by_hand[name] = 0.9 * by_hand[name] + 0.1 * tensor
    for name, tensor in module.teacher.model.state_dict().items():
        torch.testing.assert_close(tensor, by_hand[name])
    assert not module.teacher.model.training
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in module.parameters()}
    assert not any(p is q for p in module.parameters() for q in module.teacher.model.parameters())


# Against loops of plain PyTorch.


def mlp(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    hidden = F.linear(x, weights["layers.0.weight"], weights["layers.0.bias"]).relu()
    return F.linear(hidden, weights["layers.2.weight"], weights["layers.2.bias"])


def soft(z_s: Tensor, z_t: Tensor, t: float) -> Tensor:
    """T² KL(softmax z_t / T ‖ softmax z_s / T), mean over rows."""
    p, q = (z_t / t).softmax(-1), (z_s / t).softmax(-1)
    return t**2 * (p * (p.log() - q.log())).sum(-1).mean()


def nets(data: Any, *widths: int) -> list[Any]:
    torch.manual_seed(0)
    schema = task_of("classification").schema(data)
    return [build({"_target_": "recdistill.models.mlp.MLP", "hidden": [width]}, schema) for width in widths]


def test_mutual_learning_is_two_nets_in_a_plain_loop() -> None:
    """Zhang et al.: each minimises its own cross-entropy and the divergence from what the other says, which is held
    fixed; here with shares, decay and a learning rate of each."""
    alpha, back, t, steps = 0.6, 0.3, 2.0, 12
    data = data_of("classification")
    student, teacher = nets(data, 5, 9)
    objective = instantiate(node("student", "mlp")["objective"])
    fit, its_fit = Fit(batch_size=100, lr=0.02, weight_decay=0.1), Fit(lr=0.005, weight_decay=0.7, batch_size=3)

    def losses() -> dict[str, Distiller]:
        from recdistill.distillers.response import SoftLabel

        return {"soft_label": SoftLabel(temperature=t)}

    plain = [{name: p.detach().double().requires_grad_() for name, p in net.named_parameters()}
             for net in (student, teacher)]  # fmt: skip
    module = begun(taught_along(
        Mutual(back), student, objective, fit, data, peer=teacher, its=copy.deepcopy(objective), its_fit=its_fit,
        losses=losses, task=task_of("classification"), alpha=alpha, **COMMON,
    ))  # fmt: skip
    optimizer, plan = module.configure_optimizers(), module.plan(0)
    optimizers = [torch.optim.AdamW(
        [{"params": [p for p in net.values() if p.dim() > 1]},
         {"params": [p for p in net.values() if p.dim() == 1], "weight_decay": 0.0}],
        lr=own.lr, weight_decay=own.weight_decay,
    ) for net, own in zip(plain, (fit, its_fit), strict=True)]  # fmt: skip
    assert plan.steps == math.ceil(len(data.train) / 100), "the steps are the student's"
    x, y = data.train.features.vector["image"].double(), data.train.label.long()
    for step in range(steps):
        optimizer.zero_grad()
        batch = plan.batch(step)
        module.position, module.steps = (0, step), plan.steps
        module.advance(step / steps)
        module.set_learning_rate(optimizer, step, steps)  # type: ignore[arg-type]
        weighted_sum(module.loss_terms(batch), module.coefficients).backward()
        optimizer.step()

        rows = batch.own.query
        z_s, z_t = (mlp(net, x[rows]) for net in plain)
        for own, other, share, net in ((z_s, z_t, alpha, plain[0]), (z_t, z_s, back, plain[1])):
            hard = -own.log_softmax(-1)[torch.arange(len(rows)), y[rows]].mean()
            loss = (1 - share) * hard + share * soft(own, other.detach(), t)
            gradients = torch.autograd.grad(loss, list(net.values()), retain_graph=True)
            for parameter, gradient in zip(net.values(), gradients, strict=True):
                parameter.grad = gradient
        for opt in optimizers:
            opt.step()
    for net, ours in zip(plain, (student, teacher), strict=True):
        for name, parameter in ours.named_parameters():
            torch.testing.assert_close(parameter.double(), net[name], rtol=2e-3, atol=2e-5)


def test_two_that_are_alike_are_not_twins() -> None:
    """Weights that begin alike would stay alike, and neither would learn of the other."""
    from recdistill.stages.training import new_model
    from recdistill.tasks.batches import mix

    data, task = data_of("classification"), task_of("classification")
    one, other = (new_model(node("student", "mlp"), mix(1, 0x1417, *more), data, task) for more in ((), (1,)))
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


# Rocket launching.


def rocket(**sizes: Any) -> MutualModule:
    data = data_of("ctr")
    schema = task_of("ctr").schema(data)
    torch.manual_seed(0)
    light = build({"_target_": "recdistill.models.dnn.DNN", "dim": 4, "hidden": [6]}, schema)
    booster = build({"_target_": "recdistill.models.dcnv2.DCNv2", "hidden": [8], "dim": 4, **sizes}, schema)
    for model in (light, booster):
        model.bind(data.train)
    objective = instantiate(node("student", "dnn")["objective"])
    return begun(taught_along(
        Mutual(0.0, ["fields"]), light, objective, FIT, data, peer=booster, its=copy.deepcopy(objective), its_fit=FIT,
        losses=lambda: {"logit_mse": make("logit_mse")}, task=task_of("ctr"), alpha=0.4, **COMMON,
    ))  # fmt: skip


def test_light_and_booster_share_their_lower_layers() -> None:
    """(1 - alpha) H(y, light) + H(y, booster) + alpha (light - booster)², where the booster's own layers learn nothing
    of the last, and the shared ones only by way of the light net."""
    module = rocket()
    assert module.model.fields is module.peer.model.fields
    optimizer = module.configure_optimizers()
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(trained) == len({id(p) for p in trained}), "each once"
    terms, batch = terms_of(module), module.plan(0).batch(0).own
    with torch.no_grad():
        light, booster = (model(batch.rows).double() for model in (module.model, module.peer.model))
    y = batch.label.double()
    expected = {
        "logloss": F.binary_cross_entropy_with_logits(light, y),
        "logit_mse": (light - booster).square().mean() / 2,  # the mean over "no", whose logit is 0, and "yes"
        "teacher.logloss": F.binary_cross_entropy_with_logits(booster, y),
    }  # fmt: skip
    weight = module.soft["logit_mse"].weight
    assert module.coefficients == pytest.approx({"logloss": 0.6, "logit_mse": 0.4 * weight, "teacher.logloss": 1.0})
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-4), name
    shared = list(module.model.fields.parameters())
    only = [p for p in module.peer.model.parameters() if not any(p is q for q in shared)]
    assert all(g is None for g in torch.autograd.grad(terms["logit_mse"], only, retain_graph=True, allow_unused=True))
    for name in ("logit_mse", "teacher.logloss", "logloss"):
        assert any(bool(g.any()) for g in torch.autograd.grad(terms[name], shared, retain_graph=True)), name


def test_layers_of_other_sizes_can_not_be_shared() -> None:
    with pytest.raises(InputError, match="can't share 'fields'"):
        rocket(dim=5)


# The YAML files.


@every("teaching")
def test_composes_and_binds(option: str) -> None:
    text = files("teaching")[option].read_text(encoding="utf-8").splitlines()
    comments = [line for line in text if line.startswith("#") and "@package" not in line]
    assert len(comments) >= 3
    assert any(line.startswith("# Try: recdistill ") for line in comments)
    assert any(line.startswith("# Source: ") for line in comments)
    assert check_nodes(node("teaching", option), "teaching") == [] == problems("teaching", option)
