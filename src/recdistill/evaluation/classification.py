"""Classification: accuracy, and averages over classes that rare classes count in as much as common ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from recdistill.evaluation.tables import refuse_nan, warnings, widened


def confusion(predicted: Tensor, label: Tensor, n_classes: int) -> Tensor:
    """int64 ``[C, C]``: rows with true class (row) and predicted class (column); both int64 ``[N]``."""
    return torch.bincount(label * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def from_confusion(table: Tensor) -> dict[str, Tensor]:
    """``accuracy``, ``macro_f1`` and ``macro_recall``, float64 scalars; NaN without a row.

    Macro averages go over the classes that occur as a label or as a prediction; one that is predicted and never true
    counts as 0 (as scikit-learn and torchmetrics have it).
    """
    hit = table.diagonal().double()
    true, predicted = table.sum(1).double(), table.sum(0).double()
    occurs = true + predicted > 0
    recall = (hit / true.clamp(min=1))[occurs]
    f1 = (2 * hit / (true + predicted).clamp(min=1))[occurs]
    return {"accuracy": hit.sum() / true.sum(), "macro_f1": f1.mean(), "macro_recall": recall.mean()}


class ClassificationMetrics(Metric):
    """Accuracy, macro F1 and macro recall from a table of counts, over all rows of all processes.

    Args:
        n_classes: labels are in ``[0, n_classes)``.
        name: of the model, for errors and warnings.
        kwargs: of :class:`torchmetrics.Metric`.

    Attributes:
        warnings: names, after ``compute``.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    table: Tensor
    ends: Tensor

    def __init__(self, n_classes: int, name: str = "model", **kwargs: Any):
        super().__init__(**kwargs)
        self.name, self.n_classes = name, n_classes
        self.warnings: list[str] = []
        self.add_state("ends", torch.full((2, n_classes), torch.inf, dtype=torch.float64), dist_reduce_fx="min")
        self.add_state("table", torch.zeros(n_classes, n_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, label: Tensor) -> None:
        """Add rows: ``logits`` float ``[B, C]`` of any monotone scale, ``label`` int64 ``[B]``.

        Where classes tie, the true one loses.

        Raises:
            InputError: a logit is NaN.
        """
        refuse_nan(logits, self.name, int(self.table.sum()))
        own = logits.gather(1, label.unsqueeze(1))
        rivals = logits.scatter(1, label.unsqueeze(1), -torch.inf)
        best, rival = rivals.max(1)
        self.ends = widened(self.ends, logits)
        self.table += confusion(torch.where(best >= own.squeeze(1), rival, label), label, self.n_classes)

    def compute(self) -> dict[str, Tensor]:
        """``accuracy``, ``macro_f1``, ``macro_recall``: float64 scalars."""
        self.warnings = warnings(self.ends, int(self.table.sum()))
        return from_confusion(self.table)
