"""Views in float64 whose answers follow from tensors that a test holds, and any distiller made ready for them.

They stand for models, so that a test can ask how a loss depends on every answer that a distiller may look at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from contract_kit import node
from torch import Tensor

from recdistill.data.interactions import Interactions
from recdistill.distillers.base import TABLES, Distiller, Moment, Setting
from recdistill.models.build import instantiate
from recdistill.tasks.batches import generator

QUERIES, CATALOGUE, DIM, WIDTH = 12, 30, 4, 5
MEMBERS = 3  # of a teacher that is an ensemble, which it is itself the first of
CLASSES = {"ctr": 2, "rating": 1, "classification": 4}
LAYERS = ("trunk", "attention")
FEW = {
    "k": 4, "pool": 6, "others": 7, "negatives": 7, "uninteresting": 7, "samples": 7, "users": 3, "user_pool": 4,
    "items": 8, "uninteresting_users": 5, "experts": 3, "groups": 3, "triples": 6, "neighbours": 3, "pairs": 6,
    "rows": 64,
}  # fmt: skip


@dataclass(frozen=True)
class Answers:
    """A view of rows of a table: logits ``[N, C]``, or a number, and the outputs of layers ``[N, w]``."""

    users: Tensor
    all: Tensor
    layers: dict[str, Tensor]
    label: Tensor
    others: Tensor  # of the other members, [M - 1, N, C]
    regression: bool = False

    def of(self, users: Tensor) -> Any:
        return replace(self, users=users)

    def scores(self) -> Tensor:
        return self.all[self.users]

    def layer(self, name: str, rows: Tensor | None = None) -> Tensor:
        return self.layers[name][self.users if rows is None else self.users[rows]]

    def target(self) -> Tensor:
        return self.label[self.users]

    def members(self) -> list[Any]:
        return [self, *(replace(self, all=own) for own in self.others)]

    def augmented(self, share: float, noise: float, rng: torch.Generator) -> Any:
        drawn = torch.randn(self.all.shape, generator=rng, dtype=torch.float64)
        return replace(self, all=self.all * (1 + (share + noise) * drawn))


@dataclass(frozen=True)
class Ranked:
    """A view of users, or histories, that rank a catalogue: dot products of vectors ``[N, d]`` and ``[I, d]``."""

    users: Tensor
    user: Tensor
    item: Tensor
    seen: Tensor
    layers: dict[str, Tensor]
    label: Tensor
    others: Tensor  # vectors of the users by the other members, [M - 1, N, d]
    regression = False

    @property
    def n_items(self) -> int:
        return len(self.item)

    def of(self, users: Tensor) -> Any:
        return replace(self, users=users)

    def flipped(self, items: Tensor) -> Any:
        swapped = replace(self, users=items, user=self.item, item=self.user, seen=self.seen.T)
        return replace(swapped, others=self.others[:0])

    def scores(self, items: Tensor | None = None) -> Tensor:
        z = self.user[self.users] @ self.item.T
        if items is None:
            return z
        return z[:, items] if items.dim() == 1 else z.gather(1, items)

    def log_normaliser(self, temperature: float = 1.0) -> Tensor:
        return (self.scores() / temperature).logsumexp(-1)

    def ranked_scores(self) -> Tensor:
        return self.scores().detach()

    def top_items(self, k: int) -> tuple[Tensor, Tensor]:
        values, items = self.scores().detach().masked_fill(self.seen[self.users], -torch.inf).topk(k)
        return items, values

    def log_tail(self, k: int, temperature: float) -> Tensor:
        items, scores = self.top_items(k)
        return self.log_rest(items, scores > -torch.inf, temperature).detach()

    def log_rest(self, items: Tensor, listed: Tensor, temperature: float) -> Tensor:
        hidden = self.seen[self.users].scatter(1, items, listed) | self.seen[self.users]
        return (self.scores() / temperature).masked_fill(hidden, -1e9).logsumexp(-1)

    def seen_pairs(self) -> tuple[Tensor, Tensor]:
        row, item = self.seen[self.users].nonzero(as_tuple=True)
        return row, item

    def user_vectors(self) -> Tensor:
        return self.user[self.users]

    def item_vectors(self, items: Tensor) -> Tensor:
        return self.item[items]

    def layer(self, name: str, rows: Tensor | None = None) -> Tensor:
        return self.layers[name][self.users if rows is None else self.users[rows]]

    def target(self) -> Tensor:
        return self.label[self.users]

    def members(self) -> list[Any]:
        return [self, *(replace(self, user=own) for own in self.others)]

    def augmented(self, share: float, noise: float, rng: torch.Generator) -> Any:
        drawn = torch.randn(self.user.shape, generator=rng, dtype=torch.float64)
        return replace(self, user=self.user * (1 + (share + noise) * drawn))


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def tensors(task: str, seed: int, dim: int = DIM, queries: int = QUERIES, items: int = CATALOGUE) -> dict[str, Tensor]:
    """All that a model of the task answers with, and the other members where it is an ensemble; drawn anew for each
    seed."""
    layers = {"trunk": randn(queries, WIDTH, seed=seed + 1), "attention": randn(queries, 6, seed=seed + 2).softmax(-1)}
    own, others = ("all", 1.5) if task in TABLES else ("user", 1.0), (MEMBERS - 1, queries)
    width = CLASSES[task] - (task == "ctr") if task in TABLES else dim
    given = {own[0]: own[1] * randn(queries, width, seed=seed), "others": own[1] * randn(*others, width, seed=seed + 4)}
    return given | ({} if task in TABLES else {"item": randn(items, dim, seed=seed + 3)}) | layers


@cache
def train_of(queries: int, items: int) -> Interactions:
    """About a seventh of all pairs, at most 30 items of each user; with stars."""
    seen = torch.rand(queries, items, generator=torch.Generator().manual_seed(8)) < min(0.15, 30 / items)
    user, item = seen.nonzero(as_tuple=True)
    return Interactions(user, item, queries, items, 1.0 + (user + item) % 5)


@cache
def seen_of(queries: int, items: int) -> Tensor:
    """bool ``[queries, items]``."""
    seen, train = torch.zeros(queries, items, dtype=torch.bool), train_of(queries, items)
    seen[train.user, train.item] = True
    return seen


ALL = torch.arange(QUERIES)


def view(task: str, given: dict[str, Tensor], users: Tensor = ALL) -> Any:
    """The answers that follow from :func:`tensors`; of clicks the logits are 0 and z."""
    layers = {name: given[name] for name in LAYERS}
    if task not in TABLES:
        seen = seen_of(len(given["user"]), len(given["item"]))
        free = (~seen).long().argmax(-1)  # the next item of each history, and nothing behind the last
        label = torch.cat([free[:-1], torch.tensor([-1])])
        return Ranked(users, given["user"], given["item"], seen, layers, label, given["others"])
    z, others = given["all"], given["others"]
    if task == "ctr":
        z, others = (torch.cat([torch.zeros_like(x), x], -1) for x in (z, others))
    label = torch.arange(len(z)) % CLASSES[task] if task != "rating" else randn(len(z), seed=99)
    return Answers(users, z, layers, label, others, task == "rating")


def few(option: str, **changes: Any) -> Distiller:
    """That of the YAML, with lists and draws that fit into what is here."""
    given = {key: min(value, FEW[key]) if key in FEW and value is not None else value
             for key, value in node("distiller", option)[option].items()}  # fmt: skip
    distiller = instantiate({**given, **changes})
    assert isinstance(distiller, Distiller)
    return distiller


def prepared(
    distiller: Distiller, task: str, student: dict[str, Tensor], teacher: dict[str, Tensor], progress: float = 0.0
) -> Distiller:
    """What is done with a distiller before its first step, in float64."""
    widths = [{name: given[name].shape[1] for name in LAYERS} for given in (student, teacher)]
    dims = [given["user"].shape[1] if "user" in given else 0 for given in (student, teacher)]
    torch.manual_seed(5)
    queries, items = len(student["trunk"]), len(student.get("item", ALL))
    classes = CLASSES[task] if task == "classification" else 1
    distiller.prepare(
        Setting(*dims, *widths, train=train_of(queries, items), queries=queries, members=MEMBERS, outputs=classes)
    )
    distiller.double()
    with torch.no_grad():
        ask: list[Callable[[Tensor], Any]] = [lambda q, g=given: view(task, g, q) for given in (student, teacher)]
        distiller.start_epoch(Moment(0, 10, queries, *ask, generator("cpu", 3)))
    distiller.advance(progress)
    return distiller


def loss_of(
    distiller: Distiller, task: str, student: dict[str, Tensor], teacher: dict[str, Tensor],
    users: Tensor = ALL, seed: int = 1,
) -> Tensor:  # fmt: skip
    """The mean over the queries."""
    both = view(task, student, users), view(task, teacher, users)
    return torch.as_tensor(distiller(*both, generator("cpu", seed))).mean()
