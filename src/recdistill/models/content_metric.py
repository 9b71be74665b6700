"""Content-kNN whose measure of likeness is learned: for items that nobody has taken yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval, Le
from torch import Tensor, nn
from torch.nn import functional as F

from recdistill.data.features import Features
from recdistill.data.interactions import Interactions, Schema
from recdistill.models.base import SequenceModel
from recdistill.models.content_knn import decayed, directed, means
from recdistill.models.fusion import chosen


class ContentMetric(SequenceModel):
    """Score = τ cos(f_q(h_l), f_v(c_i)) with h_l = Σ_{j ≤ l} γ^(l−j) c_j: how like an item is to those of a history,
    the latest of which count most, where c are :func:`~recdistill.models.content_knn.directions` of the items' vector
    features and f(x) = x + A x, or x + W₂ relu(W₁ x), each with weights of its own.

    A and W₂ start at 0, and weight decay draws them there: the model starts as content-kNN and departs from it as far
    as the training part bears out. Nothing is learned of an item itself, so that a new one is as good as any other;
    users are their histories.

    Source: our own; as DropoutNet (Volkovs et al., NIPS 2017) a map of content to a space that is learned from who took
    what, which starts as :class:`~recdistill.models.content_knn.ContentKNN`.

    Args:
        schema: sizes of the data.
        decay: γ; 1 for the mean of the history.
        hidden: width of the hidden layer of f; 0 for the linear one.
        dropout: share of the numbers of c that training leaves out.
        scale: τ at the start; it is learned.
        features: names of vector features; None for all.

    Raises:
        InputError: the items have no such vectors.
    """

    content: Tensor

    def __init__(
        self,
        schema: Schema,
        decay: Annotated[float, Gt(0), Le(1)] = 0.9,
        hidden: Annotated[int, Ge(0)] = 0,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        scale: Annotated[float, Gt(0)] = 8.0,
        features: Sequence[str] | None = None,
    ):
        super().__init__(schema)
        sizes = chosen(schema.item_features, features, "content_metric", ["vector"])["vector"]
        self.features, self.decay = list(sizes), decay
        width = sum(sizes.values())
        self.of_query, self.of_item = change(width, hidden), change(width, hidden)
        self.log_scale = nn.Parameter(torch.tensor(scale).log())
        self.dropout = nn.Dropout(dropout)

    def bind(self, train: Interactions) -> None:
        self._mean = means(train.item_features, self.features, self.schema.n_items)
        content = directed(train.item_features, self._mean)[: self.schema.n_items]
        self.register_buffer("content", content.to(self.log_scale.device), persistent=False)

    def forward(self, history: Tensor) -> Tensor:
        known = history < self.schema.n_items
        rows = self.dropout(F.embedding(history.where(known, 0), self.content)) * known.unsqueeze(-1)
        read = decayed(history.shape[1], self.decay, rows) @ rows
        return self.log_scale.exp() * F.normalize(read + self.of_query(read), dim=-1)

    def item_matrix(self) -> Tensor:
        return self._items(self.dropout(self.content))

    def new_item_vectors(self, features: Features, rows: int) -> Tensor:
        return self._items(directed(features, self._mean)[:rows].to(self.log_scale.device))

    def _items(self, content: Tensor) -> Tensor:
        return F.normalize(content + self.of_item(content), dim=-1)


def change(width: int, hidden: int) -> nn.Module:
    """A map of vectors of one width that starts as 0."""
    last = nn.Linear(hidden or width, width, bias=False)
    nn.init.zeros_(last.weight)
    return nn.Sequential(nn.Linear(width, hidden, bias=False), nn.ReLU(), last) if hidden else last
