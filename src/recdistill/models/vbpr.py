"""VBPR: matrix factorisation beside a second one whose items are known by their pictures, sounds or texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from recdistill.data.features import Features
from recdistill.data.interactions import Interactions, Schema
from recdistill.models.base import FactorModel
from recdistill.models.encoders import FeatureEncoder, table
from recdistill.models.fusion import centred, chosen
from recdistill.models.kept import Kept


class VBPR(FactorModel):
    """Score = γ_u · γ_i + θ_u · (E f_i) + β_i + β' · f_i, where f_i holds all vectors of the item side by side.

    Source: He and McAuley, VBPR: Visual Bayesian personalized ranking from implicit feedback, AAAI 2016, eq. 4, whose
    α and β_u are the same for all items of a user. The vectors are centred and scaled, see
    :func:`~recdistill.models.fusion.centred`; one that is missing is 0.

    Args:
        schema: sizes of the data, and of the features of items.
        dim: length of γ.
        content_dim: length of θ.
        features: names of the vectors to look at; None for all.
        init_std: standard deviation of the initial γ and θ.

    Raises:
        InputError: the items have no such vectors.
    """

    def __init__(
        self,
        schema: Schema,
        dim: Annotated[int, Ge(1)] = 64,
        content_dim: Annotated[int, Ge(1)] = 64,
        features: Sequence[str] | None = None,
        init_std: Annotated[float, Gt(0)] = 0.1,
    ):
        super().__init__(schema)
        sizes = chosen(schema.item_features, features, "VBPR", ("vector",))
        self.user = table(schema.n_users, dim, init_std)
        self.item = table(schema.n_items, dim, init_std)
        self.taste = table(schema.n_users, content_dim, init_std)
        self.content = FeatureEncoder(sizes, content_dim, init_std)
        self.bias = nn.Parameter(torch.zeros(schema.n_items))
        self.content_bias = FeatureEncoder(sizes, 1, init_std)
        self._kept = Kept[tuple[Tensor, Tensor]]()

    def bind(self, train: Interactions) -> None:
        rows = self.schema.n_items
        even = Features(vector={name: centred(vectors[:rows]) for name, vectors in train.item_features.vector.items()})
        self.content.attach(even, rows)
        self.content_bias.attach(even, rows)
        self._kept = Kept()

    def factors(self) -> tuple[Tensor, Tensor]:
        return self._kept.of(self.parameters(), self._factors)

    def _factors(self) -> tuple[Tensor, Tensor]:
        user = torch.cat([self.user.weight, self.taste.weight], 1)
        bias = self.bias.unsqueeze(1) + self.content_bias()
        item = torch.cat([self.item.weight, self.content(), bias], 1)
        return torch.cat([user, user.new_ones(len(user), 1)], 1), item

    def raw_factors(self) -> tuple[Tensor, Tensor]:
        user = torch.cat([self.user.weight, self.taste.weight], 1)
        return user, torch.cat([self.item.weight, self.bias.unsqueeze(1)], 1)
