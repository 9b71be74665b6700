"""Matrix factorisation of ratings, with biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from recdistill.data.interactions import Schema
from recdistill.data.rows import Rows
from recdistill.models.blocks import Std, Width
from recdistill.models.code_table import CodeTable
from recdistill.models.fields import FieldModel, column_of
from recdistill.models.pieces import Cut, Kind, Pieces, places


class BiasedMF(FieldModel):
    """r = μ + b_u + b_i + p_u · q_i, where μ is the mean training rating.

    Bias and vector of an unknown user or item are zero, so that an unknown user gets μ + b_i.

    Source: Koren et al., Matrix factorization techniques for recommender systems, IEEE Computer 2009, eq. 4; the weight
    decay of the fit stands in for the penalty of its eq. 5.

    Args:
        schema: sizes of the fields.
        user: categorical column of the users.
        item: of the items.
        dim: length of the vectors.
        init_std: standard deviation of the initial vectors.

    Raises:
        InputError: there is no such column.
    """

    tasks = ("rating",)
    cuttable: ClassVar[Mapping[Kind, str]] = {"dims": "dim"}

    def __init__(
        self,
        schema: Schema,
        user: str = "user",
        item: str = "item",
        dim: Width = 64,
        init_std: Std = 0.1,
    ):
        super().__init__(schema)
        self.places = [column_of(schema, user, "net.user"), column_of(schema, item, "net.item")]
        known = schema.features["categorical"]
        sizes = {"user": known[user], "item": known[item]}
        self.biases = CodeTable(sizes, 1, 1, init_std=0.0)
        self.vectors = CodeTable(sizes, dim, dim, init_std=init_std)

    def pieces(self) -> list[Pieces]:
        dim = self.vectors.table.embedding_dim
        return [Pieces("dims", dim, (Cut("vectors.table.weight", 1, places(dim), gate=True),))]

    def forward(self, rows: Rows) -> Tensor:
        codes = rows.categorical[:, self.places]
        product = self.vectors.columns(codes).prod(1).sum(1)
        rating: Tensor = self.start + self.biases.columns(codes).sum((1, 2)) + product
        return rating
