"""Hard losses on the labels of rows: click or not, a rating, a class."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor
from torch.nn import functional as F

from recdistill.models.base import TableModel
from recdistill.tasks.objectives.base import Objective
from recdistill.tasks.table_batches import TableBatch, TableView


class LogLoss(Objective):
    """-y log σ(z) - (1 - y) log(1 - σ(z)): the negative log-likelihood of clicks."""

    tasks = ("ctr",)
    name = "logloss"
    samples = "rows"

    def __call__(self, model: TableModel, batch: TableBatch, view: TableView, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        return F.binary_cross_entropy_with_logits(labelled(view, batch), batch.label)


class SquaredError(Objective):
    """(r - z)², the squared error of a rating; what shrinks the parameters is the weight decay of the fit.

    Source: Koren et al., Matrix factorization techniques for recommender systems, IEEE Computer 2009, eq. 5.
    """

    tasks = ("rating",)
    name = "squared_error"
    samples = "rows"

    def __call__(self, model: TableModel, batch: TableBatch, view: TableView, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        return F.mse_loss(labelled(view, batch), batch.label)


class CrossEntropy(Objective):
    """-log softmax(z)_y of the true class y.

    Source: Szegedy et al., Rethinking the Inception architecture, CVPR 2016, section 7, for the smoothing.

    Args:
        smoothing: share of the label that is spread over all classes; 0 for none.
    """

    tasks = ("classification",)
    name = "cross_entropy"
    samples = "rows"

    def __init__(self, smoothing: Annotated[float, Interval(ge=0, lt=1)] = 0.0):
        self.smoothing = smoothing

    def __call__(self, model: TableModel, batch: TableBatch, view: TableView, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        return F.cross_entropy(labelled(view, batch), batch.label, label_smoothing=self.smoothing)


def labelled(view: TableView, batch: TableBatch) -> Tensor:
    """What the model gives for the rows of a step that have a label, which come first."""
    return view.output()[: len(batch.label)]
