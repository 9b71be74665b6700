"""What is particular to a task: its data, the batches of an epoch, what a model answers, what evaluating means.

A task is one class below this folder and one YAML under ``conf/task``. Training, distillation, compression and reports
know tasks by this interface alone.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torchmetrics import Metric

from recdistill.config.listing import alike, serving
from recdistill.config.locate import find_sources
from recdistill.config.plugins import plugin_folders
from recdistill.config.suggest import listing
from recdistill.data import store
from recdistill.data.interactions import Data, Schema
from recdistill.data.sources.base import PARTS
from recdistill.distillers.base import Distiller, View
from recdistill.errors import InputError
from recdistill.models.base import Model
from recdistill.tasks.objectives.base import Objective


class Batch(Protocol):
    """One step, or one process's share of it.

    Attributes:
        weight: this process's share of the step's samples times the number of processes, so that the average
            over processes of weight times local mean is the mean over the whole step. A process for which no
            sample is left takes one at weight 0: its mean stays finite and its gradients are there to average.
        query_weight: the same for ``query``.
        query: int64 ``[Q]``, what is distilled in this step; see :meth:`Task.view`.
        seed: for what a loss draws in this step; equal on all processes.
    """

    @property
    def weight(self) -> float: ...
    @property
    def query_weight(self) -> float: ...
    @property
    def query(self) -> Tensor: ...
    @property
    def seed(self) -> int: ...


class Epoch(Protocol):
    """One pass over the training part."""

    @property
    def steps(self) -> int: ...

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Any:
        """One process's share of a step, a :class:`Batch`."""


class Result(Protocol):
    """What an evaluation found.

    Attributes:
        warnings: names of what makes the figures doubtful.
    """

    @property
    def warnings(self) -> list[str]: ...

    def means(self) -> dict[str, float]:
        """Each metric."""

    def add_to(self, metrics: Any) -> None:
        """Count what was found into the running metrics of a validation."""


class Task:
    """Base of all tasks.

    Args:
        metric: what a checkpoint is chosen by and a table is about, unless ``evaluation.metric`` says otherwise.

    Attributes:
        name: of the task.
        examples: models that serve it, for messages.
        metrics_known: families of metrics, the names before ``@``, that it computes.
        unit: what is evaluated one by one, "user" or "row".
        plain_objective: the usual hard loss, for messages.
    """

    name: ClassVar[str]
    examples: ClassVar[tuple[str, ...]] = ()
    metrics_known: ClassVar[tuple[str, ...]] = ()
    unit: ClassVar[str] = "user"
    plain_objective: ClassVar[str] = "softmax"

    def __init__(self, metric: str):
        self.metric = metric

    # Data.

    def load(self, folder: Path, parts: tuple[str, ...]) -> Data:
        """The prepared data, with the parts that are asked for; raises what :meth:`adapt` does."""
        return self.adapt(store.load(folder, parts), parts)

    def adapt(self, data: Data, parts: tuple[str, ...] = PARTS) -> Data:
        """Prepared data as the task sees them.

        Args:
            parts: those that are there.

        Raises:
            InputError: the data have not what the task needs.
        """
        raise NotImplementedError

    def schema(self, data: Any) -> Schema:
        """What a model must know of the data before it is built."""
        raise NotImplementedError

    # Training. ``train`` is what :meth:`prepare` gave.

    def prepare(self, train: Any, device: torch.device) -> Any:
        """The training part as batches are cut from it, where they are wanted."""
        raise NotImplementedError

    def epoch(self, train: Any, objective: Objective, *, seed: int, epoch: int, batch_size: int, queries: int) -> Epoch:
        """The batches of one epoch, a function of (seed, epoch) alone.

        Args:
            batch_size: samples per step over all processes.
            queries: how many answers are distilled per step over all processes, 0 for none.
        """
        raise NotImplementedError

    def batch_view(self, model: Any, batch: Any, train: Any) -> View:
        """The answers for ``batch.query`` of the model in training; what the hard loss computes too is shared."""
        raise NotImplementedError

    def queries(self, train: Any) -> int:
        """How many different queries there are; they are numbered from 0."""
        raise NotImplementedError

    def view(self, model: Any, train: Any, query: Tensor) -> View:
        """The answers of any model for queries int64 ``[Q]``."""
        raise NotImplementedError

    def look(self, model: Any, train: Any, query: Tensor) -> View:
        """The answers of a model in training where all queries are looked at, many numbers in a row at a time. They may
        be such as :meth:`batch_view` gives, where those of :meth:`view` are dearer."""
        return self.view(model, train, query)

    # Evaluation.

    def evaluate(
        self, model: Any, data: Any, part: str, ks: list[int], *, name: str = "model", rank: int = 0, world: int = 1
    ) -> Any:
        """What the model is worth on a part, "valid" or "test"; of several processes each does its share.

        Returns:
            A :class:`Result`.
        """
        raise NotImplementedError

    def metrics(self, data: Any, ks: list[int]) -> Metric:
        """Running metrics, to be filled by :meth:`Result.add_to`."""
        raise NotImplementedError

    def request(self, model: Any, data: Any, k: int) -> tuple[Callable[[Tensor], object], Tensor]:
        """What answering some requests computes, and the numbers of those to choose from, int64 ``[N]``."""
        raise NotImplementedError

    def scorer(
        self, model: Any, data: Any, part: str = "test", new: Tensor | None = None
    ) -> Callable[[Tensor], Tensor]:
        """What recommends to users when ``part`` is evaluated, "test" for those who are served after validation: a
        function from users (CPU, ``[B]``) to scores (CPU, ``[B, n_items + n]``) of the catalogue and, behind it, of
        items that training lacked, by their vectors ``new`` (``[n, d]``, see
        :meth:`~recdistill.models.base.Model.new_item_vectors`). Of tasks that rank."""
        raise NotImplementedError

    # Whether parts fit the task.

    def require_model(self, model: type, where: str) -> None:
        """Raises InputError for a model of another task."""
        serves = getattr(model, "tasks", ())
        if not issubclass(model, Model) or self.name not in serves:
            others = [f"task={name}" for name in serves]
            group = where.partition(".")[0]
            own = f"{group}={'standard' if group == 'baselines' else ' or '.join(self._instead_of(model, group))}"
            raise InputError(
                f"{model.__name__} is a model for {' and '.join(serves) or 'no task'}, not for {self.name}",
                where=where,
                fix=own + (f"; or {' or '.join(others)}, with data for it" if others else ""),
            )

    def _instead_of(self, model: type, group: str) -> list[str]:
        """The options of a group to choose instead of those that name a model."""
        sources = find_sources([], [str(folder) for folder in plugin_folders()])
        named = alike(group, f"{model.__module__}.{model.__qualname__}", self.name, sources.folders, sources.home)
        return list(dict.fromkeys([*self.examples, *named]))

    def require_few_labels(self) -> None:
        """Raises InputError where what models read is made of labels that students may not know."""

    def require_objective(self, objective: type, where: str) -> None:
        """Raises InputError for a hard loss of another task."""
        serves = getattr(objective, "tasks", ())
        if self.name not in serves:
            raise InputError(
                f"{objective.__name__} is a hard loss for {' and '.join(serves) or 'no task'}, not for {self.name}",
                where=where,
                fix=f"objective@{where}={self.plain_objective}",
            )

    def require_distiller(self, distiller: Distiller, where: str) -> None:
        """Raises InputError for a soft loss of another task; ``where`` it is in the config."""
        other = distiller.otherwise
        if self.name not in distiller.tasks and other and self.name in other.tasks:
            raise InputError(
                f"distiller={where.rpartition('.')[2]} is, as it is set, a soft loss for {listing(distiller.tasks)},"
                f" not for {self.name}", where=where, why=f"{other.what}, and is one for {listing(other.tasks)}",
                fix=shlex.quote(f"{where}.{other.setting}"),
            )  # fmt: skip
        if self.name not in distiller.tasks:
            sources = find_sources([], [str(folder) for folder in plugin_folders()])
            others = serving("distiller", self.name, sources.folders, sources.home)
            raise InputError(
                f"distiller={where.rpartition('.')[2]} is a soft loss for {listing(distiller.tasks)}, not for"
                f" {self.name}", where=where, why=f"those for {self.name} are: {listing(others)}",
                fix="distiller=soft_label; recdistill ls distiller says what each is",
            )  # fmt: skip

    def require_evaluation(self, data: Any, metric: str, negatives: int | None) -> None:
        """Raises InputError where these data, as :meth:`adapt` gave them, can't be measured as is asked for.

        Args:
            metric: ``evaluation.metric``.
            negatives: ``evaluation.sampled``.
        """

    def require_metric(self, metric: str) -> None:
        """Raises InputError for a metric of another task."""
        if metric.partition("@")[0] not in self.metrics_known:
            raise InputError(
                f"{metric} is no metric of {self.name}", where="evaluation.metric",
                why=f"there are {', '.join(self.metrics_known)}", fix=f"evaluation.metric={self.metric}",
            )  # fmt: skip
