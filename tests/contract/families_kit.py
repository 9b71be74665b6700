"""One distiller of each family in the training module of its task, for rows R8 to R14 of the acceptance sheet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from contract_kit import ITEMS, USERS, board, node
from module_kit import make, module_of
from torch import nn

from recdistill.data.interactions import Dataset, Interactions
from recdistill.distillers.base import Distiller
from recdistill.distillers.discrepancy import DCD
from recdistill.distillers.hetcomp import HetComp
from recdistill.distillers.lists import RRD
from recdistill.distillers.response import SoftLabel
from recdistill.distillers.schedules import Cosine, Linear
from recdistill.distillers.teacher import LiveTeacher
from recdistill.distillers.weighting import Confidence
from recdistill.models.ensemble import RankingEnsemble, TableEnsemble
from recdistill.models.fit import Fit
from recdistill.modules.distillation import DistillationModule
from recdistill.stages.training import FitSpec, make_trainer, quiet_lightning, run_trainer


@dataclass(frozen=True)
class Family:
    """Attributes:
    task: that it is tried with.
    make: gives its distillers by name.
    more: arguments of the module.
    equal: whether several processes give the gradient of one; others compare what a process has with each other.
    """

    task: str
    make: Callable[[], dict[str, Distiller]]
    more: dict[str, Any] = field(default_factory=dict)
    equal: bool = True


def option(name: str) -> Callable[[], dict[str, Distiller]]:
    return lambda: {name: make(name)}


FAMILIES = {
    "response": Family("ranking", option("soft_label")),
    "weighted response": Family("ranking", option("soft_label"), {"weighting": Confidence(k=6)}),
    "list": Family("ranking", lambda: {"rrd": RRD(k=6, pool=6, position_temperature=0.0)}),
    # With all of a list drawn, chance has no say; without an item side, whose items are those of a process's own lists.
    "list looked up by epoch": Family(
        "ranking", lambda: {"dcd": DCD(k=6, pool=6, users=4, user_pool=4, item_weight=0.0)}
    ),
    "feature": Family("ranking", option("hint")),
    # Angles between the users of a step: those of one process with those of another are not looked at.
    "topology": Family("ranking", option("htd"), equal=False),
    "ctr": Family("ctr", option("debiased")),
    "sequence": Family("sequence", option("hint_attention")),
    "layer": Family("classification", option("hint_layers")),
    "rating": Family("rating", option("teacher_bounded")),
    "ensemble": Family("ctr", option("ctr_ensemble")),
    "lists of several": Family("ranking", lambda: {"hetcomp": HetComp(k=6, every=1, until=1.0, uninteresting=8)}),
    "schedule": Family("ranking", lambda: {"soft_label": SoftLabel(Cosine(4.0, 1.0), weight=Linear(0.5, 2.0))},
                       {"alpha": Linear(0.9, 0.2)}),
}  # fmt: skip
# Of teachers that are several models: the class, and options whose nets are its members.
MEMBERS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "ensemble": (TableEnsemble, ("dcnv2", "deepfm")),
    "lists of several": (RankingEnsemble, ("mf", "lightgcn")),
}


@cache
def ranking_data() -> Dataset:
    """The checkerboard, with items of their block that users have not seen for validation."""
    train, own = board().train, board().own.clone()
    own[train.user, train.item] = False
    user, item = own.nonzero(as_tuple=True)
    valid = Interactions(user, item, USERS, ITEMS)
    names = torch.arange(max(USERS, ITEMS)).numpy().astype(str).astype(object)
    return Dataset(train, valid, valid, names[:USERS], names[:ITEMS], {}, {"parts": {}}, "board",
                   item_features=train.item_features)  # fmt: skip


def build(name: str, seed: int = 0, **more: Any) -> DistillationModule:
    """The module of a family, whose teacher was never told to be in eval mode.

    Args:
        seed: of the teacher's weights, 0 for those that it has.
    """
    family = FAMILIES[name]
    module = module_of(family.task, family.make(), **{**family.more, **more})
    if family.task == "ranking":
        module.data = ranking_data()
    assert isinstance(module.teacher, LiveTeacher)
    model = module.teacher.model
    if name in MEMBERS:
        kind, members = MEMBERS[name]
        nets = {member: {"net": node("teacher", member)["net"]} for member in members}
        torch.manual_seed(1)
        model = kind(model.schema, nets)
        model.bind(module.data.train)
    model.extra = nn.ModuleDict({"dropout": nn.Dropout(0.5), "norm": nn.BatchNorm1d(3)})
    if seed:
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    own = module.task
    module.teacher = LiveTeacher(model.train(), module.train_part, own.view, module.teacher.layers)
    if name in MEMBERS:  # what they prepare is as wide as there are members
        module.prepare_distillers()
    return module


def student_alone(name: str, **more: Any) -> DistillationModule:
    return build(name, **{**more, "alpha": 0.0})


def trained(module: DistillationModule, folder: Path, **trainer: Any) -> pl.Trainer:
    """Trains it by the trainer of the stages, from the checkpoint that is there; a checkpoint after each step."""
    quiet_lightning()
    folder.mkdir(parents=True, exist_ok=True)
    given = {"_target_": "pytorch_lightning.Trainer", "accelerator": "cpu", "devices": 1, **trainer}
    fit = {"_target_": "recdistill.models.fit.Fit", **vars(module.fit_config)}
    spec = FitSpec(
        title="x", role="student", node={"fit": fit}, data="", folder=str(folder), seed=1, ks=[10],
        monitor=module.task.metric, trainer=given, every_seconds=0.0,
    )  # fmt: skip
    found = make_trainer(spec, validates=True)
    run_trainer(found, module, folder)
    return found


def fit(**more: Any) -> Fit:
    return Fit(**{"batch_size": 12, "queries": 6, "every": 1, "epochs": 2, "lr": 0.01, **more})
