"""What the tests of losses on lists share."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor

from recdistill.data.interactions import Interactions
from recdistill.distillers.base import Distiller, Moment, Setting
from recdistill.distillers.teacher import LiveTeacher, QuietView
from recdistill.distillers.views import ModelView
from recdistill.models.base import FactorModel
from recdistill.tasks.batches import generator

INF = math.inf


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softmax(z: list[float], t: float = 1.0) -> list[float]:
    e = [math.exp((x - max(z)) / t) for x in z]
    return [x / sum(e) for x in e]


def views(
    student: FactorModel, teacher: FactorModel, train: Interactions, users: Tensor
) -> tuple[ModelView, ModelView]:
    live = LiveTeacher(teacher, train).view(users).inner
    assert isinstance(live, ModelView)
    return ModelView(student, users, train.csr), live


def ready(
    distiller: Distiller, student: FactorModel, teacher: FactorModel, train: Interactions, epoch: int = 0,
    teacher_changes: bool = False,
) -> None:  # fmt: skip
    """What is done with a distiller at the start of an epoch, and before the first one."""
    if not epoch:
        distiller.prepare(Setting(4, 4, train=train, queries=train.n_users))
    frozen, asked = LiveTeacher(teacher, train), copy.deepcopy(student)

    def answer(users: Tensor) -> Any:
        return QuietView(ModelView(asked, users, train.csr))

    distiller.start_epoch(
        Moment(epoch, 10, train.n_users, answer, frozen.view, generator("cpu", epoch), teacher_changes)
    )
    distiller.advance(epoch / 10)


def value_of(
    distiller: Distiller, student: FactorModel, teacher: FactorModel, train: Interactions, users: Tensor, seed: int = 1
) -> Tensor:
    """The loss of each user."""
    loss: Tensor = distiller(*views(student, teacher, train, users), generator("cpu", seed))
    return loss


def ranking(scores: Tensor, train: Interactions, user: int, k: int) -> list[int]:
    """The user's best items that are not in training, by sorting."""
    seen = set(train.item[train.user == user].tolist())
    row = scores[user].tolist()
    return sorted((i for i in range(train.n_items) if i not in seen), key=lambda i: -row[i])[:k]
