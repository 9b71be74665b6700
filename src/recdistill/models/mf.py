"""Matrix factorisation: a vector per user and per item."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from recdistill.data.interactions import Schema
from recdistill.models.base import FactorModel


class MF(FactorModel):
    """Score = p_u · q_i (+ b_i).

    Source: Koren et al., Matrix factorization techniques for recommender systems, IEEE Computer 2009.

    Args:
        schema: sizes of the data.
        dim: length of the vectors.
        item_bias: learn a popularity offset per item.
        init_std: standard deviation of the initial weights.
        normalise: give the vectors length 1, so that p_u · q_i is their cosine.
    """

    def __init__(
        self,
        schema: Schema,
        dim: Annotated[int, Ge(1)] = 64,
        item_bias: bool = False,
        init_std: Annotated[float, Gt(0)] = 0.01,
        normalise: bool = False,
    ):
        super().__init__(schema)
        self.normalise = normalise
        self.user = nn.Embedding(schema.n_users, dim)
        self.item = nn.Embedding(schema.n_items, dim)
        self.bias = nn.Parameter(torch.zeros(schema.n_items)) if item_bias else None
        nn.init.normal_(self.user.weight, std=init_std)
        nn.init.normal_(self.item.weight, std=init_std)

    def raw_factors(self) -> tuple[Tensor, Tensor]:
        return self.user.weight, self.item.weight

    def factors(self) -> tuple[Tensor, Tensor]:
        user, item = self.user.weight, self.item.weight
        if self.normalise:
            user, item = nn.functional.normalize(user, dim=-1), nn.functional.normalize(item, dim=-1)
        if self.bias is None:
            return user, item
        return torch.cat([user, user.new_ones(len(user), 1)], 1), torch.cat([item, self.bias.unsqueeze(1)], 1)
