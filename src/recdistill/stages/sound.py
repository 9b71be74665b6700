"""What a config must be for its line to come to an end, looked at before anything is read or trained."""

from __future__ import annotations

import logging
from typing import Any

from recdistill.compression.base import CompressionPass
from recdistill.distillers.base import Distiller, Needs
from recdistill.errors import InputError
from recdistill.models.base import SequenceModel, VectorModel
from recdistill.models.build import instantiate, instantiate_at
from recdistill.modules.distillation import require_sound
from recdistill.stages import tune, withheld
from recdistill.stages.assistant import require_assistant
from recdistill.stages.budget import require_budget
from recdistill.stages.launch import processes
from recdistill.stages.nodes import Member, class_of, target_of, with_members
from recdistill.stages.teaching import require_teaching
from recdistill.stages.training import number
from recdistill.stages.transfer import require_transfer, weighting_of
from recdistill.tasks.base import Task
from recdistill.tasks.ranking import Ranking

log = logging.getLogger(__name__)
USUAL_TEMPERATURE = 2.0  # of conf/config.yaml


def require_line(cfg: dict[str, Any], task: Task, needs: Needs) -> None:
    """Refuses what only fails at the end of the line.

    Args:
        needs: of the distillers.

    Raises:
        InputError: the trainer's devices are not there, a distiller wants vectors that the teacher or student has not,
            a pass can't be applied in its place, or a part is of another task.
    """
    processes(cfg["trainer"])
    if "max_epochs" in cfg["trainer"]:
        raise InputError(
            "each training has its own number of epochs", where="trainer.max_epochs",
            fix="teacher.fit.epochs=20, student.fit.epochs=20",
        )  # fmt: skip
    task.require_metric(cfg["evaluation"]["metric"])
    withheld.require_sound(cfg, task)
    require_assistant(cfg)
    require_transfer(cfg, task)
    require_teaching(cfg)
    soft: dict[str, Distiller] = {
        name: instantiate_at(f"distiller.{name}", node) for name, node in dict(cfg.get("distiller") or {}).items()
    }
    for name, distiller in soft.items():
        task.require_distiller(distiller, f"distiller.{name}")
    warn_of_temperature(cfg)
    weighting = weighting_of(cfg)
    require_sound(number(cfg["alpha"]), soft, instantiate(weighting) if weighting else None, task.name)
    for name, node in dict(cfg.get("baselines") or {}).items():
        tune.combinations(node, f"baselines.{name}")
        task_for(node, name, cfg, task)
    for role in ("teacher", "student"):
        for part in with_members(Member(role, cfg[role], cfg["task"])):
            tune.stated(part.node, part.key)
            of_part: Task = instantiate(part.task)
            of_part.require_model(class_of(part.node, part.key), f"{part.key}.net")
            if part.node.get("objective"):
                objective = target_of(part.node["objective"], f"{part.key}.objective")
                of_part.require_objective(objective, f"{part.key}.objective")
        model = class_of(cfg[role], role)
        asking = [name for name, distiller in soft.items() if distiller.needs().embeddings]
        if cfg["alpha"] and needs.embeddings and not issubclass(model, SequenceModel | VectorModel):
            raise InputError(
                f"the {role} {model.__name__} has no user and item vectors, which a distiller needs",
                where="distiller", fix=f"leave out {' and '.join(asking)}, or choose {role}=mf or {role}=lightgcn",
            )  # fmt: skip
    require_budget(cfg)
    net, earlier = dict(cfg["student"]["net"]), list[CompressionPass]()
    for name, node in dict(cfg.get("compression") or {}).items():
        step: CompressionPass = instantiate_at(f"compression.{name}", node)
        net = step.check(net, earlier)
        earlier.append(step)


def task_for(node: dict[str, Any], name: str, cfg: dict[str, Any], task: Task) -> dict[str, Any]:
    """The task that a baseline trains for: that of the line or, where it ranks by users alone and the line by
    histories, ranking.

    Raises:
        InputError: it serves neither.
    """
    model = target_of(node["net"], f"baselines.{name}.net")
    if task.name == "sequence" and Ranking.name in model.tasks:
        return {"_target_": f"{Ranking.__module__}.{Ranking.__name__}"}
    task.require_model(model, "baselines")
    return dict(cfg["task"])


def warn_of_temperature(cfg: dict[str, Any]) -> None:
    """Says so where the temperature of the run is nobody's: many soft losses have one of their own, or none."""
    nodes, given = dict(cfg.get("distiller") or {}), cfg.get("temperature")
    own = [name for name, node in nodes.items() if "temperature" in node]
    if nodes and given not in (USUAL_TEMPERATURE, *(nodes[name]["temperature"] for name in own)):
        named = f", but {', '.join(f'distiller.{name}.temperature' for name in own)} is" if own else ""
        log.warning("temperature is read by none of the distillers%s", named)
