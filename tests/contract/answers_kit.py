"""Small data with a known right answer for sequences and tables, and the framework's training loop in a few lines."""

from __future__ import annotations

import math
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contract_kit import SOURCES, files, node
from omegaconf import OmegaConf
from torch import Tensor

from recdistill.config.compose import compose_config, hydra_session, resolve
from recdistill.config.importing import import_target
from recdistill.config.plugins import plugin_modules
from recdistill.data.csr import Csr
from recdistill.data.features import Features
from recdistill.data.interactions import Data, Dataset, Examples, Interactions, TableDataset
from recdistill.models.base import ClosedFormModel
from recdistill.models.build import build, instantiate
from recdistill.models.fit import Fit
from recdistill.models.given import ReadyMade
from recdistill.tasks.base import Task
from recdistill.tasks.batches import generator

TASKS = ("ranking", "sequence", "ctr", "rating", "classification")


def target(group: str, option: str) -> Any:
    """The class that a YAML names; looked up in the files, since composing all of them takes a while."""
    section = OmegaConf.load(files(group)[option])
    for named in (section, section.get("net", {})):
        if "_target_" in named:
            return import_target(named["_target_"], group, plugin_modules())
    for default in section.get("defaults", []):
        if isinstance(default, str) and default != "_self_":
            return target(group, default)
        if not isinstance(default, str) and "/model@net" in default:
            return target("model", default["/model@net"])
    return import_target(node(group, option)["net"]["_target_"], group, plugin_modules())


@cache
def serving(group: str, task: str) -> list[str]:
    """The options of a group whose model, or hard loss, serves a task; not those made of files or of other models."""
    found = {option: target(group, option) for option in files(group) if option != "none"}
    return [option for option, made in found.items() if task in made.tasks and not issubclass(made, ReadyMade)]


@cache
def task_of(name: str) -> Task:
    """The task of that name, small enough for the data here."""
    with hydra_session(SOURCES):
        chosen = resolve(compose_config([f"task={name}", "data=synthetic"]))["task"]
    section = {**chosen, **({"max_length": 12} if name == "sequence" else {})}
    if name == "ctr":
        section |= {"history": 5}
    task: Task = instantiate(section)
    return task


# Sequences: the items of a block in one order, over and over; a user begins anywhere.

BLOCKS, LENGTH = 3, 8
N_ITEMS = BLOCKS * LENGTH
SEQUENCE_USERS = 90


@cache
def walks() -> Dataset:
    rng = np.random.default_rng(1)
    parts: dict[str, list[tuple[int, int, int]]] = {"train": [], "valid": [], "test": []}
    for user in range(SEQUENCE_USERS):
        start, length = rng.integers(LENGTH), rng.integers(4, 7)
        path = [(user % BLOCKS) * LENGTH + (start + step) % LENGTH for step in range(length + 2)]
        for step, item in enumerate(path):
            name = "train" if step < length else "valid" if step == length else "test"
            parts[name].append((user, int(item), step))
    return Dataset(
        **{name: _events(rows) for name, rows in parts.items()},
        users=np.arange(SEQUENCE_USERS).astype(str).astype(object), items=np.arange(N_ITEMS).astype(str).astype(object),
        item_features=Features(vector={"look": _looks()}), report={},
        manifest={"holds_out_items": False, "parts": {}}, fingerprint="walks",
    )  # fmt: skip


def _events(rows: list[tuple[int, int, int]]) -> Interactions:
    user, item, time = torch.tensor(rows).T
    return Interactions(
        user, item, SEQUENCE_USERS, N_ITEMS, time=time, item_features=Features(vector={"look": _looks()})
    )


def _looks() -> torch.Tensor:
    """A vector of each item: its block, and where it stands on the way round."""
    item = torch.arange(N_ITEMS)
    angle = 2 * math.pi * (item % LENGTH) / LENGTH
    block = 2.0 * torch.nn.functional.one_hot(item // LENGTH)
    return torch.cat([block, angle.cos().unsqueeze(1), angle.sin().unsqueeze(1)], 1)


# Tables: a few fields of every kind, and labels that they tell.

N_ROWS, PIXELS = 1200, 64


@cache
def table(name: str) -> TableDataset:
    """Rows whose label follows from user, item, number, tags and history; of classes, from the brightest quarter."""
    torch.manual_seed(3)
    make = _images if name == "classification" else partial(_rows, name)
    parts = {part: make(N_ROWS) for part in ("train", "valid", "test")}
    return TableDataset(**parts, report={}, manifest={"parts": {}}, fingerprint=f"table {name}")


def _rows(name: str, n: int) -> Examples:
    user, item, genre = (torch.randint(1, size, (n,)) for size in (20, 15, 6))
    number = torch.randn(n)
    tags = Csr.from_pairs(torch.arange(n).repeat_interleave(2), torch.randint(1, 5, (2 * n,)), n)
    history = torch.randint(1, 15, (3 * n,))
    signal = 2.0 * (user.float() / 10 - 1) + 2.0 * (item.float() / 7.5 - 1) + number
    label = (signal > 0).float() if name == "ctr" else 3 + signal / 2
    return Examples(label, Features(
        {"user": user, "item": item, "genre": genre}, {"number": number},
        {"tags": tags, "history": Csr(torch.arange(0, 3 * n + 1, 3), history)},
        vocabularies={key: _words(size) for key, size in
                      (("user", 20), ("item", 15), ("genre", 6), ("tags", 5), ("history", 15))},
        moments={"number": (0.0, 1.0)},
    ), group=user)  # fmt: skip


def _words(size: int) -> Any:
    return np.array(["", *(f"v{number}" for number in range(1, size))], dtype=object)


def _images(n: int) -> Examples:
    side = int(PIXELS**0.5)
    label = torch.randint(4, (n,))
    images = torch.rand(n, side, side) * 0.5
    half = side // 2
    for quarter in range(4):
        row, column = divmod(quarter, 2)
        images[label == quarter, row * half : (row + 1) * half, column * half : (column + 1) * half] += 0.5
    return Examples(label.float(), Features(vector={"image": images.flatten(1)}))


def data_of(task: str) -> Data:
    return walks() if task == "sequence" else table(task)


def trained(net: dict[str, Any], objective: Any, fit: Fit, task: str, steps: int) -> Any:
    """A model that was trained for so many steps on the task's data here; in eval mode."""
    torch.manual_seed(0)
    own, data = task_of(task), data_of(task)
    model = build(net, own.schema(data))
    model.bind(data.train)
    if isinstance(model, ClosedFormModel):
        model.fit(data.train)
        return model.eval()
    objective.bind(data.train)
    part = own.prepare(data.train, torch.device("cpu"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=fit.lr, weight_decay=fit.weight_decay)
    model.train()
    done = epoch = 0
    while done < steps:
        plan = own.epoch(part, objective, seed=1, epoch=epoch, batch_size=fit.batch_size, queries=0)
        for step in range(plan.steps):
            batch = plan.batch(step)
            loss = objective(model, batch, own.batch_view(model, batch, part), generator("cpu", batch.seed))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
        epoch += 1
    return model.eval()


def answers(model: Any, task: str) -> Tensor:
    """The scores of some queries, ``[Q, C]``."""
    own, data = task_of(task), data_of(task)
    part = own.prepare(data.train, torch.device("cpu"))
    with torch.no_grad():
        return own.view(model, part, torch.arange(0, min(own.queries(part), 200))).scores()


def written(model: Any, net: dict[str, Any], task: str, folder: Path) -> Any:
    """The model saved and read back."""
    from recdistill.export.bundle import load_model, save_model

    save_model(folder, model, net)
    return load_model(folder, data_of(task).train)
