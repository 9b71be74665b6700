"""NeuMF for ratings: a product of vectors beside a network that looks at both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from recdistill.data.interactions import Schema
from recdistill.data.rows import Rows
from recdistill.models.blocks import Rate, Std, Width, Widths, hidden_layers, last_width
from recdistill.models.code_table import CodeTable
from recdistill.models.fields import FieldModel, column_of
from recdistill.models.pieces import Kind, Pieces, perceptron


class NeuMFRating(FieldModel):
    """r = μ + h · [p^G ∘ q^G ; MLP([p^M; q^M])] + b, where μ is the mean training rating.

    Source: He et al., Neural collaborative filtering, WWW 2017, eq. 12, without its last sigmoid and without
    pre-training; the product starts as a dot product.

    Args:
        schema: sizes of the fields.
        user: categorical column of the users.
        item: of the items.
        dim: length of the vectors of the product.
        deep_dim: length of those of the network.
        hidden: widths of the network's layers.
        dropout: share of a layer's output that is dropped in training, 0 for none.
        init_std: standard deviation of the initial vectors.

    Raises:
        InputError: there is no such column.
    """

    tasks = ("rating",)
    trunk = "deep"
    cuttable: ClassVar[Mapping[Kind, str]] = {"units": "hidden"}

    def __init__(
        self,
        schema: Schema,
        user: str = "user",
        item: str = "item",
        dim: Width = 16,
        deep_dim: Width = 32,
        hidden: Widths = (64, 32, 16),
        dropout: Rate = 0.0,
        init_std: Std = 0.1,
    ):
        super().__init__(schema)
        self.places = [column_of(schema, user, "net.user"), column_of(schema, item, "net.item")]
        known = schema.features["categorical"]
        sizes = {"user": known[user], "item": known[item]}
        self.vectors = CodeTable(sizes, dim, dim, init_std=init_std)
        self.deep_vectors = CodeTable(sizes, deep_dim, deep_dim, init_std=init_std)
        self.deep = hidden_layers(2 * deep_dim, hidden, dropout)
        self.out = nn.Linear(dim + last_width(2 * deep_dim, hidden), 1)
        with torch.no_grad():
            self.out.weight[:, :dim] = 1.0

    def pieces(self) -> list[Pieces]:
        return perceptron("deep", self.deep, [("out.weight", self.vectors.table.embedding_dim)])

    def forward(self, rows: Rows) -> Tensor:
        codes = rows.categorical[:, self.places]
        product = self.vectors.columns(codes).prod(1)
        deep = self.deep(self.deep_vectors.columns(codes).flatten(1))
        rating: Tensor = self.start + self.out(torch.cat([product, deep], 1)).squeeze(1)
        return rating
