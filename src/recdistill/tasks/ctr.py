"""Click prediction: how likely a row's answer is yes."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from recdistill.data.interactions import Data, Dataset, TableDataset
from recdistill.data.sources.base import PARTS
from recdistill.errors import InputError
from recdistill.evaluation.ctr import CtrMetrics
from recdistill.tasks.examples import as_table, with_logarithms
from recdistill.tasks.tables import TableTask


class Ctr(TableTask):
    """Click prediction, on a table of labelled rows or on interactions with values.

    Args:
        metric: what a checkpoint is chosen by.
        threshold: of interactions, the least value that is a yes; None where values are 0 and 1 already.
        history: of interactions, how many earlier items that the user said yes to are a feature of the row; 0 for none.
        logarithms: whether numbers enter as sign(x) · log(1 + |x|), as counts of a long tail should.
    """

    name = "ctr"
    examples = ("dcnv2", "deepfm", "lr")
    plain_objective = "logloss"
    metrics_known = ("auc", "gauc", "logloss", "ne")
    output = "click"

    def __init__(
        self,
        metric: str = "auc",
        threshold: float | None = None,
        history: Annotated[int, Ge(0)] = 0,
        logarithms: bool = False,
    ):
        super().__init__(metric)
        self.threshold, self.history, self.logarithms = threshold, history, logarithms

    def adapt(self, data: Data, parts: tuple[str, ...] = PARTS) -> TableDataset:
        data = super().adapt(data, parts)
        if len(labels := torch.unique(data.train.label)) < 2:
            raise InputError(
                f"every label of the training part is {labels[0]:g}: there is nothing to tell apart", where="data",
                fix="another data.split, or another task.threshold",
            )  # fmt: skip
        return with_logarithms(data) if self.logarithms else data

    def require_evaluation(self, data: TableDataset, metric: str, negatives: int | None) -> None:
        super().require_evaluation(data, metric, negatives)
        if metric != "logloss" and len(data.valid) and len(torch.unique(data.valid.label)) < 2:
            raise InputError(
                f"{metric} has no value on the validation part: all its labels are alike", where="evaluation.metric",
                fix="another data.split, or evaluation.metric=logloss",
            )  # fmt: skip

    def require_few_labels(self) -> None:
        if self.history:
            raise InputError(
                "the feature 'history' is made of labels, of which students are given some", where="task.history",
                fix="task.history=0, or data.label_fraction=1",
            )  # fmt: skip

    def of_pairs(self, data: Dataset) -> TableDataset:
        return as_table(data, self.threshold, self.history)

    def check_labels(self, label: Tensor) -> None:
        wrong = label[(label != 0) & (label != 1)]
        if len(wrong):
            raise InputError(
                f"a click is 0 or 1; {len(wrong):,} of {len(label):,} labels are not, such as {wrong[0]:g}",
                where="data", fix="task.threshold=4 makes a yes of 4 and above; or task=rating",
            )  # fmt: skip

    def prediction(self, output: Tensor) -> Tensor:
        return output.double().sigmoid()

    def metrics(self, data: TableDataset, ks: list[int], name: str = "model") -> CtrMetrics:  # noqa: ARG002
        return CtrMetrics(name, users=data.train.group is not None)
