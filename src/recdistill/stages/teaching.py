"""How the teacher comes to what it knows, other than trained first and frozen: what a config says of it, what goes with
that, and the modules that train it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from operator import or_
from typing import Any

import torch

from recdistill.data.interactions import Data
from recdistill.distillers.base import Distiller, Needs
from recdistill.distillers.schedules import Schedule
from recdistill.distillers.signals import check_needs
from recdistill.distillers.weighting import Weighting
from recdistill.errors import InputError
from recdistill.models.base import ClosedFormModel, Model
from recdistill.models.build import instantiate
from recdistill.models.fit import Fit
from recdistill.modules.distillation import DistillationModule
from recdistill.modules.mean_teacher import AveragedTeacher, MeanTeacher, MeanTeacherModule
from recdistill.modules.mutual import Mutual, MutualModule, Peer, fit_along, share_layers
from recdistill.stages.nodes import class_of, given_files, is_assistant, is_made
from recdistill.stages.withheld import label_share, withheld
from recdistill.tasks.base import Task
from recdistill.tasks.objectives import Objective

Teaching = Mutual | MeanTeacher
Losses = Callable[[], dict[str, Distiller]]


def teaching_of(node: dict[str, Any] | None) -> Teaching | None:
    """What ``teaching`` of a config stands for; None for a frozen teacher.

    Raises:
        InputError: it is something else.
    """
    if not node:
        return None
    found = instantiate(node)
    if not isinstance(found, Mutual | MeanTeacher):
        raise InputError(f"{type(found).__name__} is no way of teaching", where="teaching",
                         fix="teaching=frozen; recdistill ls teaching shows all")  # fmt: skip
    return found


def learns_along(cfg: dict[str, Any]) -> bool:
    """Whether the teacher is trained together with the student."""
    soft = bool(cfg.get("distiller")) and cfg["alpha"] != 0
    return soft and isinstance(teaching_of(cfg.get("teaching")), Mutual)


def require_teaching(cfg: dict[str, Any]) -> None:
    """Refuses what does not go with a teacher that learns.

    Raises:
        InputError: nobody has labels, or a teacher that is trained along can't be, or sees columns of its own.
    """
    how = teaching_of(cfg.get("teaching"))
    if how is None:
        return
    if not label_share(cfg):
        raise InputError("a teacher that learns with its student needs labels", where="teaching",
                         why="data.label_fraction=0", fix="teaching=frozen")  # fmt: skip
    if isinstance(how, MeanTeacher):
        return
    if is_assistant(cfg["teacher"]):
        raise InputError("an assistant has learned when it teaches, and is not trained along", where="teaching",
                         fix="teaching=frozen, or another teacher")  # fmt: skip
    model = class_of(cfg["teacher"], "teacher")
    if is_made(cfg["teacher"], "teacher") or issubclass(model, ClosedFormModel):
        raise InputError(
            f"the teacher {model.__name__} is not trained step by step, so it can't be trained along",
            where="teaching", fix=f"teaching=frozen, or another teacher such as {' or '.join(_examples(cfg))}",
        )  # fmt: skip
    if "privileged" in withheld(cfg):
        raise InputError(
            "teacher and student that are trained together see the same columns", where="data.privileged",
            fix="teaching=frozen",
        )  # fmt: skip
    fit_along(instantiate(cfg["student"]["fit"]), instantiate(cfg["teacher"]["fit"]))


def _examples(cfg: dict[str, Any]) -> list[str]:
    task: Task = instantiate(cfg["task"])
    return [f"teacher={name}" for name in task.examples]


def teaching_spec(cfg: dict[str, Any]) -> dict[str, Any]:
    """Arguments of :class:`~recdistill.stages.training.FitSpec` for a student whose teacher learns."""
    along = {"peer": cfg["teacher"]} if learns_along(cfg) else {}
    return {"teaching": cfg["teaching"], **along}


def teaching_key(cfg: dict[str, Any]) -> dict[str, Any]:
    """All that :func:`teaching_spec` depends on."""
    spec = teaching_spec(cfg)
    files = given_files({"node": spec["peer"]}, "teacher") if "peer" in spec else {}
    return spec | ({"peer_files": files} if files else {})


def how_taught(cfg: dict[str, Any]) -> list[str]:
    """What a reader of a table must know of it."""
    if learns_along(cfg):
        return ["the teacher is trained alone here; the one that taught is 'teacher trained along', as it was at the "
                "student's best epoch"]  # fmt: skip
    if isinstance(teaching_of(cfg.get("teaching")), MeanTeacher):
        return ["the student was taught by the average of its own weights; the teacher here is its model, trained by "
                "labels alone"]  # fmt: skip
    return []


def self_taught(
    how: MeanTeacher, model: Model, objective: Objective, fit: Fit, data: Data, *, losses: Losses,
    alpha: float | Schedule, weighting: Weighting | None, task: Task, **common: Any,
) -> MeanTeacherModule:  # fmt: skip
    """The module of a student that the average of its weights teaches."""
    distillers = losses()
    needs = require_needs(model, distillers, weighting, data, task)
    teacher = AveragedTeacher(model, how.decay, task.view, needs.layers)
    return MeanTeacherModule(
        model, objective, fit, data, teacher=teacher, distillers=distillers, alpha=alpha, weighting=weighting,
        task=task, **common,
    )  # fmt: skip


def taught_along(
    how: Mutual, model: Model, objective: Objective, fit: Fit, data: Data, *, peer: Model, its: Objective, its_fit: Fit,
    losses: Losses, alpha: float | Schedule, weighting: Weighting | None, task: Task, **common: Any,
) -> MutualModule:  # fmt: skip
    """The module of a student and its teacher ``peer``, which has a hard loss and a fit of its own."""
    share_layers(model, peer, how.shared)
    forth, back = losses(), {name: loss for name, loss in losses().items() if loss.teaches}
    for loss in back.values():
        loss.swap()
    both: list[Needs] = [
        require_needs(teacher, soft, weighting, data, task) for teacher, soft in ((peer, forth), (model, back))
    ]
    weighs = weighting if any(loss.per_query for loss in back.values()) else None
    other = DistillationModule(
        peer, its, fit_along(fit, its_fit), data, teacher=Peer(model, task.view, list(both[1].layers)),
        distillers=back, alpha=how.back, weighting=weighs, task=task, **common,
    )  # fmt: skip
    return MutualModule(
        model, objective, fit, data, peer=other, teacher=Peer(peer, task.view, list(both[0].layers)),
        distillers=forth, alpha=alpha, weighting=weighting, task=task, **common,
    )  # fmt: skip


def require_needs(
    teacher: Model, distillers: dict[str, Distiller], weighting: Weighting | None, data: Data, task: Task
) -> Needs:
    """What a teacher that is asked live must give.

    Raises:
        InputError: it can't.
    """
    needs = reduce(or_, [loss.needs() for loss in distillers.values()], weighting.needs() if weighting else Needs())
    part = task.prepare(data.train, torch.device("cpu"))
    check_needs(teacher, replace(needs, scores=False), task.queries(part))  # scores are not stored
    return needs
