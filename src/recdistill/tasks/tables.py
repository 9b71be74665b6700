"""What the tasks on the rows of a table share: click prediction, rating, classification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from recdistill.config.metrics import BY_USER
from recdistill.data.interactions import Data, Dataset, Examples, Schema, TableDataset
from recdistill.data.rows import Rows
from recdistill.data.sources.base import PARTS
from recdistill.data.withheld import column_names, only
from recdistill.errors import InputError
from recdistill.evaluation.table_result import TableResult, predict
from recdistill.models.base import TableModel
from recdistill.tasks.base import Task
from recdistill.tasks.objectives.base import Objective
from recdistill.tasks.table_batches import Output, TableBatch, TableEpoch, TablePart, TableView, table_epoch


class TableTask(Task):
    """A task whose samples are rows. A query is a row of the training part, and all rows of a step are distilled.

    Attributes:
        output: what a model's output is.
    """

    unit = "row"
    output: ClassVar[Output]

    # What a task adds.

    def of_pairs(self, data: Dataset) -> TableDataset:  # noqa: ARG002
        """Interactions of users with items as a table.

        Raises:
            InputError: they can't be one.
        """
        raise InputError(
            f"{self.name} needs a table of labelled rows; these are interactions of users with items",
            where="data", fix="recdistill ls data shows what there is",
        )  # fmt: skip

    def check_labels(self, label: Tensor) -> None:
        """Raises InputError for labels that the task can't have."""

    def prediction(self, output: Tensor) -> Tensor:
        """What is measured, from a model's output."""
        return output.double()

    # The interface.

    def adapt(self, data: Data, parts: tuple[str, ...] = PARTS) -> TableDataset:
        if isinstance(data, Dataset):
            data = self.of_pairs(data)
        for name in parts:
            self.check_labels(getattr(data, name).label)
        return data

    def schema(self, data: TableDataset) -> Schema:
        return data.schema

    def labels(self, examples: Examples) -> Tensor:
        """As the hard loss wants them."""
        return examples.label

    def groups(self, examples: Examples) -> Tensor | None:
        """Whose row each is, for metrics by user."""
        return examples.group

    def prepare(self, train: Examples, device: torch.device) -> TablePart:
        label, rows = self.labels(train), Rows.of(train.features, len(train)).to(device)
        if train.labelled is None:
            return TablePart(rows, label.to(device))
        # What a student must not know is nowhere on its side.
        label = label.masked_fill(~train.labelled, torch.nan if label.is_floating_point() else -1)
        return TablePart(rows, label.to(device), train.labelled.to(device))

    def epoch(
        self, train: TablePart, objective: Objective, *,  # noqa: ARG002
        seed: int, epoch: int, batch_size: int, queries: int,  # noqa: ARG002
    ) -> TableEpoch:  # fmt: skip
        return table_epoch(train, seed=seed, epoch=epoch, batch_size=batch_size)

    def batch_view(self, model: TableModel, batch: TableBatch, train: TablePart) -> TableView:
        return TableView(model, batch.rows, batch.query, self.output, train)

    def queries(self, train: Examples | TablePart) -> int:
        return len(train)

    def view(self, model: TableModel, train: TablePart, query: Tensor) -> TableView:
        return TableView(model, train.rows.take(query), query, self.output, train)

    def evaluate(
        self, model: TableModel, data: TableDataset, part: str, ks: list[int], *, name: str = "model",
        rank: int = 0, world: int = 1,
    ) -> TableResult:  # fmt: skip
        """Predicts the rows of a part, of several processes each every ``world``-th."""
        examples: Examples = getattr(data, part)
        rows = torch.arange(len(examples))[rank::world]
        device = next(iter(model.state_dict().values())).device
        output = predict(model, rows_for(model, examples).take(rows), device)
        groups = self.groups(examples)
        group = None if groups is None else groups[rows]
        result = TableResult(self.prediction(output), self.labels(examples)[rows], group, {})
        if world > 1:  # the share of one process has no metrics of its own
            return result
        metrics: Any = self.metrics(data, ks, name)
        result.add_to(metrics)
        found = {
            key: float(value) for key, value in metrics.compute().items() if key not in BY_USER or groups is not None
        }
        return replace(result, found=found, warnings=list(metrics.warnings))

    def metrics(self, data: TableDataset, ks: list[int], name: str = "model") -> Metric:
        raise NotImplementedError

    def request(self, model: TableModel, data: TableDataset, k: int) -> tuple[Callable[[Tensor], object], Tensor]:  # noqa: ARG002
        rows = rows_for(model, data.train)
        return lambda some: model(rows.take(some)), torch.arange(len(data.train))

    def require_evaluation(self, data: TableDataset, metric: str, negatives: int | None) -> None:
        if negatives is not None:
            raise InputError(
                f"sampled metrics are of lists of items, which {self.name} has not", where="evaluation.sampled",
                fix="evaluation.sampled=null evaluation.best_by=full",
            )  # fmt: skip
        if metric in BY_USER and self.groups(data.train) is None:
            raise InputError(
                f"{metric} is an average over users, and nothing says whose a row is", where="evaluation.metric",
                fix=f"name the column of users: data.group=...; or evaluation.metric={self.metrics_known[0]}",
            )  # fmt: skip


def rows_for(model: TableModel, examples: Examples) -> Rows:
    """Rows with the columns that the model was built for: the data may have others, which only a teacher sees."""
    features = examples.features
    wanted = {name for sizes in model.schema.features.values() for name in sizes}
    if wanted and wanted != set(column_names(features)):
        features = only(features, wanted)
    return Rows.of(features, len(examples))
