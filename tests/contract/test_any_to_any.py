"""Any teacher teaches any student of its task: two steps of every pair, through the distillation module."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from answers_kit import TASKS, data_of, serving, task_of
from contract_kit import board, node

from recdistill.distillers.response import SoftLabel
from recdistill.distillers.teacher import LiveTeacher
from recdistill.models.base import ClosedFormModel
from recdistill.models.build import build, instantiate
from recdistill.models.fit import Fit
from recdistill.modules.distillation import DistillationModule
from recdistill.modules.supervised import weighted_sum

PAIRS = [
    (task, teacher, student)
    for task in TASKS
    for teacher in serving("teacher", task)
    for student in serving("student", task)
]


class _Board:
    """The checkerboard as a data set: what a training reads of one."""

    def __init__(self) -> None:
        self.train, self.schema = board().train, board().schema


def made(task: str, role: str, option: str, data: Any) -> tuple[Any, Any]:
    """A new model, and its hard loss: its own, or of the task where its YAML is for another one."""
    section = node(role, option)
    model = build(section["net"], task_of(task).schema(data))
    model.bind(data.train)
    if isinstance(model, ClosedFormModel):
        model.fit(data.train)
        return model, None
    objective = instantiate(section["objective"])
    if task not in objective.tasks:
        objective = instantiate(node("objective", {"ctr": "logloss", "rating": "squared_error"}[task]))
    return model, objective


@pytest.mark.parametrize(("task", "teacher", "student"), PAIRS)
def test_every_pair_takes_two_steps(task: str, teacher: str, student: str) -> None:
    torch.manual_seed(0)
    own, data = task_of(task), _Board() if task == "ranking" else data_of(task)
    (taught, objective), (teaching, _) = made(task, "student", student, data), made(task, "teacher", teacher, data)
    module = DistillationModule(
        taught, objective, Fit(batch_size=64, queries=16), data, seed=1, ks=[10], task=own,  # type: ignore[arg-type]
        teacher=LiveTeacher(teaching, None, own.view), distillers={"soft_label": SoftLabel()}, alpha=0.5,
    )  # fmt: skip
    module.train_part = own.prepare(data.train, torch.device("cpu"))
    module.teacher.to(torch.device("cpu"), module.train_part)
    before = {name: tensor.clone() for name, tensor in teaching.state_dict().items()}
    optimizer = module.configure_optimizers()
    plan = own.epoch(module.train_part, objective, seed=1, epoch=0, batch_size=64, queries=16)
    for step in range(2):
        optimizer.zero_grad()
        terms = module.loss_terms(plan.batch(step % plan.steps))
        assert set(terms) == {objective.name, "soft_label"}
        assert all(bool(term.isfinite()) and term.dim() == 0 for term in terms.values())
        weighted_sum(terms, module.coefficients).backward()
        if step == 0 and terms["soft_label"] > 0:
            alone = module.loss_terms(plan.batch(step % plan.steps))["soft_label"]
            reached = torch.autograd.grad(alone, list(taught.parameters()), allow_unused=True)
            assert any(bool(grad.any()) for grad in reached if grad is not None), "the soft loss reaches no weight"
        optimizer.step()
    assert all(bool(p.isfinite().all()) for p in taught.parameters())
    after = teaching.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), "the teacher has changed"
