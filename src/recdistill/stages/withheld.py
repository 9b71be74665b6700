"""What a config withholds from students and baselines (:mod:`recdistill.data.withheld`): whether the rest of it goes
with that, and what is said of it."""

from __future__ import annotations

import logging
from typing import Any

from recdistill.data.interactions import Data
from recdistill.data.withheld import few_labels, labels_left, without_columns
from recdistill.distillers.schedules import Schedule
from recdistill.errors import InputError
from recdistill.models.build import instantiate
from recdistill.tasks.base import Task

log = logging.getLogger(__name__)


def label_share(cfg: dict[str, Any]) -> float:
    """Share of the training labels that students and baselines learn from."""
    return float((cfg.get("data") or {}).get("label_fraction", 1.0))


def withheld(cfg: dict[str, Any]) -> dict[str, Any]:
    """Arguments of :class:`~recdistill.stages.training.FitSpec` for students and baselines, and a part of their keys;
    nothing where all is given to everybody."""
    share, privileged = label_share(cfg), sorted((cfg.get("data") or {}).get("privileged") or [])
    return ({"labels": share} if share < 1 else {}) | ({"privileged": privileged} if privileged else {})


def given(data: Data, labels: float = 1.0, privileged: list[str] | None = None, *, seed: int) -> Any:
    """The data as students and baselines get them, with the arguments of :func:`withheld`."""
    return few_labels(without_columns(data, privileged or []), labels, seed)


def require_sound(cfg: dict[str, Any], task: Task) -> None:
    """Refuses what can't be learned with the labels that are left, before anything is read.

    Raises:
        InputError: features are made of labels, the student's hard loss needs all of them, or there are none and the
            student is not left to the teacher alone.
    """
    share = label_share(cfg)
    if share == 1:
        return
    task.require_few_labels()
    objective = cfg["student"].get("objective")
    if objective and not instantiate(objective).few_labels:
        raise InputError(
            f"{objective['_target_'].rpartition('.')[2]} needs the labels of all training rows",
            where="student.objective", why=f"data.label_fraction={share:g} leaves some of them",
            fix=f"objective@student.objective={task.plain_objective}, or data.label_fraction=1",
        )  # fmt: skip
    alpha = instantiate(cfg["alpha"]) if isinstance(cfg["alpha"], dict) else cfg["alpha"]
    least = alpha.extremes()[0] if isinstance(alpha, Schedule) else alpha
    if not share and (least < 1 or not cfg.get("distiller")):
        raise InputError(
            "without labels a student learns from the teacher alone", where="alpha",
            why="data.label_fraction=0, and the hard loss has a share of the loss" if cfg.get("distiller") else
            "data.label_fraction=0, and there is no distiller", fix="alpha=1 distiller=soft_label",
        )  # fmt: skip


def require_labels(cfg: dict[str, Any], what: str) -> None:
    """Raises InputError where ``what`` would have to learn from no label at all."""
    if not label_share(cfg):
        raise InputError(f"{what} has nothing to learn from", where="data.label_fraction", why="there are no labels",
                         fix="data.label_fraction=0.01, or leave it out")  # fmt: skip


def report_on(cfg: dict[str, Any], data: Data) -> dict[str, Any]:
    """The report of the data, and what of them is withheld.

    Args:
        data: as the task has them.
    """
    found = withheld(cfg)
    more: dict[str, Any] = {"privileged": found["privileged"]} if "privileged" in found else {}
    if "labels" in found:
        left, rows = labels_left(few_labels(data, found["labels"], cfg["seed"]).train)
        more["labels"] = f"{left:,} of {rows:,} in training are given to students and baselines"
    return data.report | more


def notes_on(cfg: dict[str, Any], data: Data) -> list[str]:
    """What a reader of a table must know of it."""
    report, said = report_on(cfg, data), []
    if "labels" in report and label_share(cfg):
        whole = "the teacher learned from other data, and its bridge knows no more" if cfg.get("transfer") else (
            "the teacher has all")  # fmt: skip
        said.append(f"labels: {report['labels']}; {whole}")
    elif "labels" in report:
        said.append("labels: none is given to students, so there is no student alone and there are no baselines")
    if "privileged" in report:
        said.append(f"only the teacher sees the columns {', '.join(report['privileged'])}")
    return said
