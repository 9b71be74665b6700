"""R14 for every distiller and task: what its formula promises, in float64, whatever the formula is.

The formulas themselves are compared with loops in tests/distillers.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from contract_kit import files
from torch import Tensor, nn
from view_kit import ALL, few, loss_of, prepared, tensors, view

from recdistill.distillers.base import TABLES, Distiller
from recdistill.tasks.batches import generator

SHIPPED = Path(__file__).parents[2] / "conf"
# Forms of a formula that are not that of the YAML; without ``authors_code`` of htd, whose gradient is not of its value.
FORMS: dict[str, list[dict[str, Any]]] = {
    "aldi": [{"embedding": 0.5}],
    "cd": [{"guide": "student"}, {"shift": 0.7}], "clid": [{"form": "pointwise"}], "dcd": [{"candidates": "list"}],
    "dist": [{"others": 9}], "dllm2rec": [{"loss": "bce"}, {"negatives": 7}], "entropy": [{"towards": "sharp"}],
    "gated_ensemble": [{"negatives": 7}], "graph_filtered": [{"cosine": True}],
    "hetcomp": [{"until": 0.0}, {"families": 3}],
    "hint": [{"mapper": "mlp"}, {"side": "user"}], "hint_layers": [{"mapper": "mlp"}],
    "htd": [{"level": "group"}], "rank_distil": [{"variant": "B"}, {"variant": "M"}],
    "rd": [{"normalised": False}], "rlmrec": [{"mode": "generative"}], "rrd": [{"position_temperature": 0.0}],
    "skew_kl": [{"reverse": True}], "topk_kl": [{"negatives": 7}],
    "teacher_assistants": [{"mapping": "de"}, {"rank": None}],
    **{name: [{"others": 7}] for name in ("jsd", "reverse_kl", "logit_standardised", "dkd")},
    **{name: [{"layers": {"trunk": "trunk"}}] for name in ("rkd", "similarity_preserving", "cka")},
}  # fmt: skip
CASES = [
    pytest.param(option, task, changes, id="-".join([option, task, *(f"{k}={v}" for k, v in changes.items())]))
    for option in files("distiller") if option != "none"
    for changes in ({}, *FORMS.get(option, []))
    for task in few(option, **changes).tasks
]  # fmt: skip
every_form = pytest.mark.parametrize(("option", "task", "changes"), CASES)


def leaves(given: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone().requires_grad_() for name, tensor in given.items()}


def gradient(distiller: Distiller, task: str, student: dict[str, Tensor], teacher: dict[str, Tensor]) -> Tensor:
    """Of the loss for everything that the student answers with, in one vector."""
    own = leaves(student)
    loss_of(distiller, task, own, teacher).backward()
    return torch.cat([x.grad.flatten() for x in own.values() if x.grad is not None])


@every_form
@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_gradcheck(option: str, task: str, changes: dict[str, Any], progress: float) -> None:
    """For the student's answers and for the weights of the distiller, along a random direction."""
    student, teacher = tensors(task, 1), tensors(task, 11, dim=6)
    distiller = prepared(few(option, **changes), task, student, teacher, progress)
    # A choice of experts that has grown cold is a step, which differences can't follow.
    weights = dict(distiller.named_parameters()) if not progress else {}
    own = leaves(student)

    def loss(*given: Tensor) -> Tensor:
        answers = dict(zip(own, given, strict=False))
        held = dict(zip(weights, given[len(own) :], strict=True))
        seen = view(task, answers), view(task, teacher), generator("cpu", 1)
        return torch.as_tensor(torch.func.functional_call(distiller, held, seen)).mean()

    given = [*own.values(), *(w.detach().clone().requires_grad_() for w in weights.values())]
    assert torch.autograd.gradcheck(loss, given, fast_mode=True, atol=1e-6, rtol=1e-4)
    grads = torch.autograd.grad(loss(*given), given, allow_unused=True)
    assert any(grad is not None and bool(grad.any()) for grad in grads), "there was nothing to compare"


# Where, of the methods shipped, the gradient is not 0 though the student answers as the teacher does.
GOES_ON = {
    "topk_kl": "the student gives mass to the rest of the catalogue, the teacher's list none",
    "gated_ensemble": "as topk_kl; of rows it has nothing to learn",
    "rrd": "an order is never sure enough", "ir_rrd": "as rrd", "rank_distil": "as rrd", "unkd": "as rrd",
    "hetcomp": "as rrd", "dllm2rec": "as topk_kl, with other weights",
    "entropy": "it is about the student alone", "aux_sentiment": "it is about reviews",
    "de": "maps begin at random", "phr": "as de", "teacher_assistants": "as de", "htd": "as de, beside its topology",
    "rlmrec": "as de",
}  # fmt: skip
OF_LISTS = ("gated_ensemble",)  # of those, whose loss of rows is another
SETTLED: dict[str, dict[str, Any]] = {
    "cd": {"temperature": 1.0, "shift": 0.0},
    "consistency": {"share": 0.0, "noise": 0.0},
}


def settle(distiller: Distiller, answers: dict[str, Tensor]) -> None:
    """Maps between the two models are the identity, and a second head is the first."""
    with torch.no_grad():
        for module in distiller.modules():
            if isinstance(module, nn.Linear) and module.in_features == module.out_features:
                nn.init.eye_(module.weight)
                nn.init.zeros_(module.bias)
        head = getattr(distiller, "head", None)
        if isinstance(head, nn.Linear):
            head.weight.zero_()[0, 0] = 1.0
            head.bias.zero_()
            answers["trunk"][:, 0] = answers["all"][:, 0]


@every_form
def test_a_student_that_is_the_teacher_has_nothing_to_learn(option: str, task: str, changes: dict[str, Any]) -> None:
    if SHIPPED not in files("distiller")[option].parents:
        pytest.skip("what its formula says is not known here")
    teacher = tensors(task, 11)
    teacher["others"] = teacher["all" if "all" in teacher else "user"].expand_as(teacher["others"])
    changes = changes | SETTLED.get(option, {})

    def left(student: dict[str, Tensor]) -> float:
        distiller = prepared(few(option, **changes), task, student, teacher, progress=0.5)
        settle(distiller, teacher)
        return gradient(distiller, task, student, teacher).abs().max().item()

    found, size = left(teacher), left(tensors(task, 1))
    goes_on = option in GOES_ON and not (option in OF_LISTS and task in TABLES)
    assert size > 0
    assert (found > 1e-3 * size) if goes_on else (found < 1e-7 * size), (found, size)


@every_form
def test_a_gradient_that_a_high_temperature_does_not_shrink(option: str, task: str, changes: dict[str, Any]) -> None:
    """T² everywhere: it tends to a limit, which is not 0."""
    if not hasattr(few(option), "temperature"):
        return
    student, teacher = tensors(task, 1), tensors(task, 11)
    distiller, found = prepared(few(option, **changes), task, student, teacher), []
    for temperature in (1.0, 1e3, 2e3):
        vars(distiller)["temperature"] = temperature
        found.append(gradient(distiller, task, student, teacher))
    usual, high, higher = found
    torch.testing.assert_close(high, higher, rtol=0.01, atol=0.01 * high.abs().max().item())
    assert high.norm() > 1e-2 * usual.norm()


@every_form
def test_the_loss_is_a_mean(option: str, task: str, changes: dict[str, Any]) -> None:
    """The same queries five times over: the same loss. Where it draws, the same on average, within four errors."""
    student, teacher = tensors(task, 1), tensors(task, 11)
    distiller = prepared(few(option, **changes), task, student, teacher, progress=0.5)
    with torch.no_grad():
        values = torch.tensor([
            [loss_of(distiller, task, student, teacher, ALL.repeat(times), seed).item() for seed in range(20)]
            for times in (1, 5)
        ], dtype=torch.float64)  # fmt: skip
    one, five = values.mean(1).tolist()
    error = values.std(1).div(math.sqrt(20)).norm().item()
    # Pairs of the same query add distances of 0 to a mean over pairs; and 1 - q of a list depends on how long it is.
    allowed = {"rkd": 0.3, "clid": 0.1 if changes else 0.0}.get(option, 0.0) * abs(one) + 1e-9 * abs(one)
    assert abs(one - five) <= 4 * error + allowed, (one, five, error)
    assert 4 * error < 0.5 * abs(one), "too noisy to tell a sum from a mean"


# The form in which all members teach at once.
ENSEMBLES: dict[str, dict[str, Any]] = {
    "ctr_ensemble": {}, "confidence_ensemble": {}, "gated_ensemble": {}, "hetcomp": {"families": 3},
}  # fmt: skip


@pytest.mark.parametrize("option", ENSEMBLES)
def test_each_member_of_an_ensemble_is_heard(option: str) -> None:
    distiller = few(option, **ENSEMBLES[option])
    task = distiller.tasks[0]
    student, teacher = tensors(task, 1), tensors(task, 11)
    prepared(distiller, task, student, teacher)
    values = {loss_of(distiller, task, student, teacher).item()}
    for member in range(len(teacher["others"])):
        changed = teacher["others"].clone()
        changed[member] = tensors(task, 31)["others"][member]
        values.add(loss_of(distiller, task, student, teacher | {"others": changed}).item())
    assert len(values) == 1 + len(teacher["others"])


def test_ensembles_are_those_that_ask_for_members() -> None:
    assert {*ENSEMBLES} == {option for option in files("distiller") if option != "none" and few(option).needs().members}


def test_each_shipped_class_has_tests_of_its_own() -> None:
    """Among them the loop that its formula is compared with."""
    text = "".join(file.read_text(encoding="utf-8") for file in (SHIPPED.parent / "tests" / "distillers").glob("*.py"))
    kinds = {type(few(option)).__name__ for option, file in files("distiller").items()
             if option != "none" and SHIPPED in file.parents}  # fmt: skip
    assert len(kinds) > 30
    assert not {kind for kind in kinds if not re.search(rf"\b{kind}\(", text)}
