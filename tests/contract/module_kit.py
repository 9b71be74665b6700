"""The distillation module on the small data of each task, with any distillers, and some of its steps."""

from __future__ import annotations

from typing import Any

import torch
from answers_kit import data_of, task_of
from contract_kit import board, node

from recdistill.distillers.base import Distiller
from recdistill.distillers.teacher import LiveTeacher
from recdistill.models.build import build, instantiate
from recdistill.models.fit import Fit
from recdistill.modules.distillation import DistillationModule
from recdistill.modules.supervised import weighted_sum

MODELS = {
    "ranking": ("mf", "mf"), "sequence": ("sasrec", "gru4rec"), "ctr": ("dcnv2", "dnn"),
    "rating": ("neumf_rating", "neumf_rating"), "classification": ("mlp", "mlp"),
}  # fmt: skip
SHORT = {"k": 6, "pool": 8}


def beside(option: str) -> dict[str, Distiller]:
    """It, and soft labels where it teaches nothing by itself."""
    distiller = make(option)
    return {option: distiller} | ({} if distiller.teaches else {"soft_label": make("soft_label")})


class Board:
    """The checkerboard as a data set: what a training reads of one."""

    def __init__(self) -> None:
        self.train, self.schema = board().train, board().schema


def make(option: str) -> Distiller:
    """That of the YAML, with lists that fit into the smallest catalogue here."""
    given = node("distiller", option)[option]
    distiller = instantiate({key: min(value, SHORT.get(key, value)) if key in SHORT else value
                             for key, value in given.items()})  # fmt: skip
    assert isinstance(distiller, Distiller)
    return distiller


def model_of(task: str, role: str, option: str, data: Any) -> tuple[Any, Any]:
    section = node(role, option)
    torch.manual_seed(len(role))
    model = build(section["net"], task_of(task).schema(data))
    model.bind(data.train)
    return model, instantiate(section["objective"])


def module_of(
    task: str, distillers: dict[str, Distiller], fit: Fit | None = None, **more: Any
) -> DistillationModule:  # fmt: skip
    own, data = task_of(task), Board() if task == "ranking" else data_of(task)
    teacher, student = MODELS[task]
    if any("attention" in distiller.layers for distiller in distillers.values()):
        student = teacher  # most students have none
    teaching, _ = model_of(task, "teacher", teacher, data)
    taught, objective = model_of(task, "student", student, data)
    layers = sorted({name for distiller in distillers.values() for name in distiller.needs().layers})
    module = DistillationModule(
        taught, objective, fit or Fit(batch_size=64, queries=16, every=1), data, seed=1, ks=[10], task=own,  # type: ignore[arg-type]
        teacher=LiveTeacher(teaching, None, own.view, layers), distillers=distillers, **{"alpha": 0.5, **more},
    )  # fmt: skip
    module.train_part = own.prepare(data.train, torch.device("cpu"))
    module.teacher.to(torch.device("cpu"), module.train_part)
    return module


def steps(module: DistillationModule, count: int = 2) -> list[dict[str, float]]:
    """The terms of some steps, after the first of which the weights have moved."""
    optimizer = module.configure_optimizers()
    plan = module.task.epoch(module.train_part, module.objective, seed=1, epoch=0, batch_size=64, queries=16)
    module.start_epoch(0)
    found = []
    for step in range(count):
        module.advance(step / count)
        torch.manual_seed(step)  # of dropout, as a training does
        optimizer.zero_grad()
        terms = module.loss_terms(plan.batch(step % plan.steps))
        weighted_sum(terms, module.coefficients).backward()
        optimizer.step()
        found.append({name: term.item() for name, term in terms.items()})
    return found
