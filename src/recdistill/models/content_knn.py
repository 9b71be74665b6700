"""Nearest neighbours by content: items like those of a history, whoever else took them."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt, Le
from torch import Tensor

from recdistill.data.features import Features
from recdistill.data.interactions import Interactions, Schema
from recdistill.models.base import ClosedFormModel, SequenceModel
from recdistill.models.fusion import chosen


class ContentKNN(ClosedFormModel, SequenceModel):
    """Score = q_l · v_i with q_l = Σ_{j ≤ l} γ^(l−j) v_j: the cosines of an item with those of a history, the latest of
    which counts most; v is :func:`directions` of the items' vector features.

    Nothing is learned from who took what, so that a rare item is known as well as any other. The vectors are stored
    with the model: whoever serves it needs neither the texts nor their encoder.

    Source: content-based neighbours as in Lops et al., Recommender Systems Handbook, 2011, chapter 3, with the decay of
    Ludewig and Jannach's session-based kNN (UMUAI 2018).

    Args:
        schema: sizes of the data.
        decay: γ; 1 for the mean of the history.
        features: names of vector features; None for all.

    Raises:
        InputError: the items have no such vectors.
    """

    vectors: Tensor

    def __init__(self, schema: Schema, decay: Annotated[float, Gt(0), Le(1)] = 0.7, features: list[str] | None = None):
        super().__init__(schema)
        sizes = chosen(schema.item_features, features, "content_knn", ["vector"])["vector"]
        self.features = list(sizes)
        self.decay = decay
        self.register_buffer("vectors", torch.zeros(schema.n_items, sum(sizes.values())))

    def fit(self, train: Interactions) -> None:
        self.vectors.copy_(directions(train.item_features, self.features, self.schema.n_items))

    def bind(self, train: Interactions) -> None:
        self._mean = means(train.item_features, self.features, self.schema.n_items)

    def new_item_vectors(self, features: Features, rows: int) -> Tensor:
        return directed(features, self._mean)[:rows]

    def forward(self, history: Tensor) -> Tensor:
        known = history < self.schema.n_items
        rows = self.vectors[history.where(known, 0)] * known.unsqueeze(-1)
        return decayed(history.shape[1], self.decay, rows) @ rows

    def item_matrix(self) -> Tensor:
        return self.vectors


def directions(features: Features, names: list[str], n_items: int) -> Tensor:
    """``[n_items, Σ d]``: the vectors of each feature less their mean over the catalogue, scaled to length 1, side by
    side; 0 where one is missing."""
    return directed(features, means(features, names, n_items))[:n_items]


def means(features: Features, names: list[str], n_items: int) -> dict[str, Tensor]:
    """The mean vector of each feature over the catalogue."""
    rows = {name: features.vector[name][:n_items] for name in names}
    return {name: own[own.isfinite().all(1)].mean(0) for name, own in rows.items()}


def directed(features: Features, mean: dict[str, Tensor]) -> Tensor:
    """:func:`directions` of all rows, by means that are given."""
    parts = []
    for name, own in mean.items():
        rows = features.vector[name]
        known = rows.isfinite().all(1, keepdim=True)
        parts.append(torch.nn.functional.normalize((rows - own).where(known, 0.0), dim=1))
    return torch.cat(parts, 1)


def decayed(length: int, decay: float, like: Tensor) -> Tensor:
    """``[L, L]``: the weight decay^(l−j) of place j at place l; 0 of later places."""
    place = torch.arange(length, device=like.device)
    gap = place.unsqueeze(1) - place
    return ((decay ** gap.clamp(min=0)) * (gap >= 0)).to(like.dtype)
