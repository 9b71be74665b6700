"""Classification: which of a few classes a row is of."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from recdistill.data.interactions import Data, Examples, Schema, TableDataset
from recdistill.data.sources.base import PARTS
from recdistill.errors import InputError
from recdistill.evaluation.classification import ClassificationMetrics
from recdistill.tasks.tables import TableTask

MOST_CLASSES = 10_000


class Classification(TableTask):
    """Classification; labels are whole numbers from 0 on.

    Args:
        metric: what a checkpoint is chosen by.
    """

    name = "classification"
    examples = ("mlp", "cnn")
    plain_objective = "cross_entropy"
    metrics_known = ("accuracy",)
    output = "classes"

    def __init__(self, metric: str = "accuracy"):
        super().__init__(metric)

    def check_labels(self, label: Tensor) -> None:
        wrong = label[(label != label.floor()) | (label < 0) | (label >= MOST_CLASSES)]
        if len(wrong):
            raise InputError(
                f"a class is a whole number from 0 on; {len(wrong):,} of {len(label):,} labels are not, such as "
                f"{wrong[0]:g}",
                where="data", fix="number the classes 0, 1, 2, ...; or task=rating",
            )  # fmt: skip

    def adapt(self, data: Data, parts: tuple[str, ...] = PARTS) -> TableDataset:
        data = super().adapt(data, parts)
        known = self.schema(data).n_outputs
        for name in parts:
            label = getattr(data, name).label
            if len(label) and int(label.max()) >= known:
                raise InputError(
                    f"class {int(label.max())} occurs in the {name} part and not in training, which has classes "
                    f"0 to {known - 1}",
                    where="data.split", fix="another split, or another seed of it",
                )  # fmt: skip
        return data

    def schema(self, data: TableDataset) -> Schema:
        return replace(data.schema, n_outputs=int(data.train.label.max()) + 1)

    def labels(self, examples: Examples) -> Tensor:
        return examples.label.to(torch.int64)

    def groups(self, examples: Examples) -> None:  # noqa: ARG002
        return None

    def metrics(self, data: TableDataset, ks: list[int], name: str = "model") -> ClassificationMetrics:  # noqa: ARG002
        return ClassificationMetrics(self.schema(data).n_outputs, name)
