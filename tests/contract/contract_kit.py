"""What all contract tests share: the parts they find by themselves, and a data set with a known right answer.

Parts are the YAML files of ``conf/<group>`` and of ``conf/<group>`` in each folder that RECDISTILL_PLUGINS
names; a new file is tested the moment it exists.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from recdistill.config.check import check_nodes
from recdistill.config.compose import compose_config, hydra_session, resolve
from recdistill.config.locate import find_sources
from recdistill.config.plugins import extend_path, plugin_folders, plugin_modules
from recdistill.data.features import Features, sizes_of
from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.base import Distiller, Moment, Setting
from recdistill.distillers.teacher import FrozenTeacher, LiveTeacher
from recdistill.distillers.views import ModelView
from recdistill.errors import InputError
from recdistill.models.base import ClosedFormModel, RankingModel, vector_size
from recdistill.models.build import build
from recdistill.models.fit import Fit
from recdistill.tasks.batches import generator
from recdistill.tasks.objectives import Objective, Softmax
from recdistill.tasks.ranking import Ranking

extend_path()
SOURCES = find_sources([], [str(folder) for folder in plugin_folders()])
NO_SECTION = ("model", "objective", "sampler", "fit")  # groups that only others place

BLOCKS, USERS, ITEMS = 4, 60, 200


def files(group: str) -> dict[str, Path]:
    """The YAML of each option, the user's before the shipped one."""
    found: dict[str, Path] = {}
    for folder in SOURCES.folders:
        for file in sorted((folder / group).glob("*.yaml")):
            found.setdefault(file.stem, file)
    return found


def every(group: str, *, empty: bool = False) -> pytest.MarkDecorator:
    """Parametrize a test by the options of a group, without those that choose nothing."""
    return pytest.mark.parametrize("option", [name for name in files(group) if empty or name != "none"])


@cache
def node(group: str, option: str) -> dict[str, Any]:
    """The composed and resolved section of one option."""
    together = _sections(group)
    return together[option] if option in together else compose_option(group, option)


@cache
def _sections(group: str) -> dict[str, dict[str, Any]]:
    """All options of a group that stand by themselves, in one go: Hydra's time goes into the rest of the config."""
    plain = [name for name, file in files(group).items() if name != "none" and "${" not in file.read_text("utf-8")]
    try:
        with hydra_session(SOURCES):
            config = resolve(compose_config([f"+{group}@probe.{name}={name}" for name in plain]))
    except InputError:  # one is broken: each by itself, so that only its own tests fail
        return {}
    return dict(config.get("probe", {}))


def compose_option(group: str, option: str) -> dict[str, Any]:
    """The section of an option as a user chooses it."""
    override = f"+{group}@probe={option}" if group in NO_SECTION else f"{group}={option}"
    if group not in NO_SECTION and group in ("distiller", "compression", "baselines"):
        override = f"{group}=[{option}]"
    with hydra_session(SOURCES):
        config = resolve(compose_config([override]))
    found: dict[str, Any] = config["probe" if group in NO_SECTION else group]
    return found


def problems(group: str, option: str) -> list[str]:
    """What does not fit the constructors that an option names."""
    return [str(problem) for problem in check_nodes(node(group, option), group, plugins=plugin_modules())]


def check_header(group: str, option: str) -> None:
    """Every YAML says what it is and how to try it."""
    comments = [line for line in files(group)[option].read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert comments, f"{group}/{option}.yaml needs a comment that says what it is"
    assert any(line.startswith("# Try: recdistill ") for line in comments), "# Try: recdistill ..."


# The checkerboard: users like the items of their own block, and have seen seven in ten of them.


@dataclass(frozen=True)
class Board:
    """Attributes:
    train: the seen pairs, with stars, and a vector "look" of each item that hints at its block.
    own: bool ``[USERS, ITEMS]``, whether the item is of the user's block.
    """

    train: Interactions
    own: Tensor

    @property
    def schema(self) -> Schema:
        return Schema(USERS, ITEMS, item_features=sizes_of(self.train.item_features))


@cache
def board() -> Board:
    own = torch.arange(USERS)[:, None] % BLOCKS == torch.arange(ITEMS) % BLOCKS
    seen = own & (torch.rand(USERS, ITEMS, generator=torch.Generator().manual_seed(1)) < 0.7)
    user, item = seen.nonzero(as_tuple=True)
    look = own[:BLOCKS].T + 0.5 * torch.randn(ITEMS, BLOCKS, generator=torch.Generator().manual_seed(2))
    stars = 1.0 + (user + item) % 5
    return Board(Interactions(user, item, USERS, ITEMS, stars, item_features=Features(vector={"look": look})), own)


def recovery(scores: Tensor) -> float:
    """How often an unseen item of the user's block is above one of another: .5 by chance, 1 is right."""
    b, shares = board(), []
    train = b.train
    seen = torch.zeros(USERS, ITEMS, dtype=torch.bool)
    seen[train.user, train.item] = True
    for row, own, known in zip(scores.detach(), b.own, seen, strict=True):
        above = row[own & ~known][:, None] - row[~own]
        shares.append(((above > 0).double() + 0.5 * (above == 0)).mean().item())
    return sum(shares) / len(shares)


def all_scores(model: RankingModel) -> Tensor:
    with torch.no_grad():
        return model.scores(torch.arange(USERS)).clone()


def is_personal(model: RankingModel) -> bool:
    scores = all_scores(model)
    return not torch.equal(scores, scores[:1].expand_as(scores))


def optimizer_of(parameters: Any, fit: Fit) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=fit.lr, weight_decay=fit.weight_decay)


def train_model(model: RankingModel, objective: Objective, fit: Fit, steps: int = 40) -> list[float]:
    """The training loop of the framework in a few lines; the losses."""
    train, losses = board().train, []
    optimizer = optimizer_of(model.parameters(), fit)
    model.train()
    epoch = 0
    while len(losses) < steps:
        plan = Ranking().epoch(train, objective, seed=1, epoch=epoch, batch_size=fit.batch_size, queries=0)
        for step in range(plan.steps):
            batch = plan.batch(step)
            view = ModelView(model, batch.query, train.csr)
            loss = objective(model, batch, view, generator("cpu", batch.seed))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        epoch += 1
    model.eval()
    return losses


def fitted(
    net: dict[str, Any], objective: Objective | None = None, fit: Fit | None = None, steps: int = 60
) -> RankingModel:
    """A model that has learned the board, by its own closed form or by gradient descent."""
    torch.manual_seed(0)
    model = build(net, board().schema)
    model.bind(board().train)
    if isinstance(model, ClosedFormModel):
        model.fit(board().train)
        return model.eval()
    train_model(model, objective or Softmax(), fit or Fit(lr=0.05, batch_size=64), steps)
    return model


@cache
def _good_mf() -> RankingModel:
    model = fitted({"_target_": "recdistill.models.mf.MF", "dim": 12, "init_std": 0.1})
    model.zero_grad()
    return model


def good_mf() -> RankingModel:
    """A factorisation that knows the board; the caller's own."""
    return copy.deepcopy(_good_mf())


def ready(distiller: Distiller, student: RankingModel, teacher: FrozenTeacher) -> None:
    """What is done with a distiller before its first step."""
    train = board().train
    distiller.prepare(Setting(vector_size(student), teacher.dim, train=train, queries=USERS))
    answers = LiveTeacher(copy.deepcopy(student), train)
    distiller.start_epoch(Moment(0, 10, USERS, answers.view, teacher.view, generator("cpu", 0)))
    distiller.advance(0.0)


def soft_loss(
    distiller: Distiller, student: RankingModel, teacher: FrozenTeacher, users: Tensor, seed: int = 1
) -> Tensor:
    """The mean loss over users."""
    loss = distiller(ModelView(student, users, board().train.csr), teacher.view(users), generator("cpu", seed))
    assert loss.dim() == distiller.per_query
    return loss.mean()


def distil(distiller: Distiller, student: RankingModel, teacher: FrozenTeacher, steps: int) -> list[float]:
    """Trains the student on the soft loss alone; the losses."""
    ready(distiller, student, teacher)
    users = torch.arange(USERS)
    optimizer = torch.optim.Adam([*student.parameters(), *distiller.parameters()], lr=0.05)
    losses = []
    for step in range(steps):
        loss = soft_loss(distiller, student, teacher, users, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
