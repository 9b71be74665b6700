"""Matrix factorisation: a vector per user and per item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from recdistill.data.features import Features
from recdistill.data.interactions import Interactions, Schema
from recdistill.models.base import FactorModel
from recdistill.models.fusion import Fusion, fusion_of, vectors_of
from recdistill.models.pieces import Cut, Kind, Pieces, places
from recdistill.models.tables.base import Table, TableChoice, count_rows, require_plain, table_of


class MF(FactorModel):
    """Score = p_u · q_i (+ b_i).

    Source: Koren et al., Matrix factorization techniques for recommender systems, IEEE Computer 2009.

    Args:
        schema: sizes of the data.
        dim: length of the vectors.
        item_bias: learn a popularity offset per item.
        init_std: standard deviation of the initial weights.
        normalise: give the vectors length 1, so that p_u · q_i is their cosine.
        fusion: how q_i is made of the item's id and its features, see :class:`~recdistill.models.fusion.ItemFusion`;
            ``ids`` for a table alone.
        features: names of the features to look at; None for all.
        adapter: width of the hidden layer over the features, 0 for none.
        table: how the vectors of users and items are stored, see :mod:`recdistill.models.tables.base`; None for a row
            of numbers each.

    Raises:
        InputError: the items have no such features, or they are to be fused with a table that is no plain one.
    """

    cuttable: ClassVar[Mapping[Kind, str]] = {"dims": "dim"}

    def __init__(
        self,
        schema: Schema,
        dim: Annotated[int, Ge(1)] = 64,
        item_bias: bool = False,
        init_std: Annotated[float, Gt(0)] = 0.01,
        normalise: bool = False,
        fusion: Fusion = "ids",
        features: Sequence[str] | None = None,
        adapter: Annotated[int, Ge(0)] = 0,
        table: TableChoice = None,
    ):
        super().__init__(schema)
        require_plain(table, fusion)
        self.normalise = normalise
        self.user = table_of(table, schema.n_users, dim, init_std)
        self.item = table_of(table, schema.n_items, dim, init_std) if fusion != "features" else None
        self.bias = nn.Parameter(torch.zeros(schema.n_items)) if item_bias else None
        for part in (self.user, self.item):
            if isinstance(part, nn.Embedding):
                nn.init.normal_(part.weight, std=init_std)
        self.fused = fusion_of(schema.item_features, dim, fusion, features, adapter, init_std)

    def bind(self, train: Interactions) -> None:
        count_rows(self.user, train.user)
        count_rows(self.item, train.item)
        if self.fused is not None:
            self.fused.attach(train.item_features, self.schema.n_items)

    def pieces(self) -> list[Pieces]:
        dim = int(self.user.embedding_dim)
        return [
            Pieces("dims", dim, tuple(Cut(f"{side}.weight", 1, places(dim), gate=True) for side in ("user", "item")))
        ]

    def raw_factors(self) -> tuple[Tensor, Tensor]:
        return self.user.weight, self.item_vectors() if self.item is None else self.item.weight

    def factors(self) -> tuple[Tensor, Tensor]:
        item = self.item_vectors()
        if self.normalise:
            item = nn.functional.normalize(item, dim=-1)
        return self._queries(self.user.weight), item if self.bias is None else torch.cat(
            [item, self.bias.unsqueeze(1)], 1
        )

    def _queries(self, user: Tensor) -> Tensor:
        """Factors ``[n, d]`` of vectors of users."""
        user = nn.functional.normalize(user, dim=-1) if self.normalise else user
        return user if self.bias is None else torch.cat([user, user.new_ones(len(user), 1)], 1)

    def user_factors(self, users: Tensor) -> Tensor:
        # A compressed table is asked for these alone.
        return self._queries(self.user(users)) if isinstance(self.user, Table) else super().user_factors(users)

    def new_item_vectors(self, features: Features, rows: int) -> Tensor | None:
        item = None if self.fused is None else self.fused.new_items(features, rows)
        if item is None:
            return None
        item = nn.functional.normalize(item, dim=-1) if self.normalise else item
        # Nobody knows how popular they will be.
        return item if self.bias is None else torch.cat([item, self.bias.mean().expand(rows, 1)], 1)

    def item_vectors(self) -> Tensor:
        """Of the items, ``[n_items, d]``: those of the table, or what the fusion makes of them."""
        return vectors_of(self.item, self.fused)
