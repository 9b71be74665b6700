"""Two towers: one network makes vectors of users, another of items, from what is known of them."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from recdistill.data.features import Features, Sizes
from recdistill.data.interactions import Interactions, Schema
from recdistill.errors import InputError
from recdistill.models.base import FactorModel
from recdistill.models.encoders import FeatureEncoder, table


class TwoTower(FactorModel):
    """Score = T_u(x_u) · T_i(x_i), with T(x) = x + W₂ relu(W₁ x + b₁) + b₂, where x is the sum of the vectors of the id
    and of each feature.

    Source: Yi et al., Sampling-bias-corrected neural modeling for large corpus item recommendations, RecSys 2019,
    section 3, with a residual layer; its loss is objective=sampled_softmax with in-batch negatives.

    Args:
        schema: sizes of the data, and of the features of users and items.
        dim: length of the vectors.
        hidden: width of the hidden layer, 0 for T(x) = x.
        ids: whether users and items have vectors of their own. Without, an item is its features alone; a side of
            which there are no features keeps its ids.
        init_std: standard deviation of the initial tables.

    Raises:
        InputError: there are neither ids nor features.
    """

    def __init__(
        self,
        schema: Schema,
        dim: Annotated[int, Ge(1)] = 64,
        hidden: Annotated[int, Ge(0)] = 0,
        ids: bool = True,
        init_std: Annotated[float, Gt(0)] = 0.1,
    ):
        super().__init__(schema)
        if not (ids or schema.user_features or schema.item_features):
            raise InputError(
                "a two-tower model without ids has nothing to look at", where="net.ids",
                why="the data have no features of users or items", fix="net.ids=true, or data with features",
            )  # fmt: skip
        users, items = schema.user_features, schema.item_features
        self.user = table(schema.n_users, dim, init_std) if ids or not users else None
        self.item = table(schema.n_items, dim, init_std) if ids or not items else None
        self.user_tower = Tower(users, dim, hidden, init_std)
        self.item_tower = Tower(items, dim, hidden, init_std)

    def bind(self, train: Interactions) -> None:
        self.user_tower.attach(train.user_features, self.schema.n_users)
        self.item_tower.attach(train.item_features, self.schema.n_items)

    def factors(self) -> tuple[Tensor, Tensor]:
        return self.user_tower(self.user), self.item_tower(self.item)

    def new_item_vectors(self, features: Features, rows: int) -> Tensor | None:
        return self.item_tower.of(features, rows) if self.item is None else None


class Tower(nn.Module):
    """From the ids' table, where there is one, and the features that were attached to vectors ``[rows, dim]``."""

    def __init__(self, sizes: Sizes, dim: int, hidden: int, init_std: float):
        super().__init__()
        self.features = FeatureEncoder(sizes, dim, init_std) if sizes else None
        self.deep = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim)) if hidden else None

    def attach(self, features: Features, rows: int) -> None:
        """Keep the features of the first ``rows`` rows."""
        if self.features is not None:
            self.features.attach(features, rows)

    def forward(self, ids: nn.Embedding | None) -> Tensor:
        parts = [] if ids is None else [ids.weight]
        if self.features is not None:
            parts.append(self.features())
        return self._through(torch.stack(parts).sum(0))

    def of(self, features: Features, rows: int) -> Tensor:
        """The vectors ``[rows, dim]`` of rows that were not attached, by their features alone."""
        assert self.features is not None
        return self._through(self.features.of(features, rows))

    def _through(self, x: Tensor) -> Tensor:
        return x if self.deep is None else x + self.deep(x)
