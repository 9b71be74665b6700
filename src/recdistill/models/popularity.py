"""The most popular items for everybody: the baseline that a personal model must beat."""

from __future__ import annotations

import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.interactions import Interactions, Schema
from recdistill.models.base import ClosedFormModel, RankingModel


class Popularity(ClosedFormModel, RankingModel):
    """Score = the number of users who interacted with the item in the training part."""

    count: Tensor

    def __init__(self, schema: Schema):
        super().__init__(schema)
        self.register_buffer("count", torch.zeros(schema.n_items))

    def fit(self, train: Interactions) -> None:
        self.count = torch.bincount(train.csr.indices, minlength=train.n_items).float()

    def scores(self, users: Tensor, items: Tensor | None = None) -> Tensor:
        if items is None:
            return self.count.expand(users.numel(), -1)
        return self.count[items].expand(users.numel(), items.shape[-1])

    def fold_in(self, history: Csr) -> Tensor:
        return self.count.expand(len(history.counts()), -1)
