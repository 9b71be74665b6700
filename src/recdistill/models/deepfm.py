"""DeepFM: a factorisation machine beside a perceptron, over the same vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from recdistill.data.interactions import Schema
from recdistill.data.rows import Rows
from recdistill.models.blocks import Rate, Std, Width, Widths, hidden_layers, last_width
from recdistill.models.fields import Dims, FieldEmbedding, FieldModel, LinearTerm, MaxRows
from recdistill.models.fm import pairs
from recdistill.models.pieces import Kind, Pieces, first_reader, perceptron
from recdistill.models.tables.base import TableChoice


class DeepFM(FieldModel):
    """z = b + w · x + Σ_{f<g} e_f · e_g + w_deep · MLP([e_1; …; e_F]).

    Source: Guo et al., DeepFM: a factorization-machine based neural network for CTR prediction, IJCAI 2017, eq. 1 and
    2.

    Args:
        schema: sizes of the fields.
        dim: length of the vectors.
        hidden: widths of the layers.
        dropout: share of a layer's output that is dropped in training, 0 for none.
        batch_norm: normalise before the activation.
        dims: of single fields that have another length, by name.
        max_rows: rows of a table for a field, the rest of whose values, the rare ones, share; None for no limit.
        init_std: standard deviation of the initial vectors.
        table: how the vectors of large fields are stored, see :class:`~recdistill.models.fields.FieldEmbedding`.
    """

    trunk = "deep"
    cuttable: ClassVar[Mapping[Kind, str]] = {"units": "hidden", "dims": "dim"}

    def __init__(
        self,
        schema: Schema,
        dim: Width = 16,
        hidden: Widths = (400, 400, 400),
        dropout: Rate = 0.0,
        batch_norm: bool = False,
        dims: Dims | None = None,
        max_rows: MaxRows | None = None,
        init_std: Std = 0.01,
        table: TableChoice = None,
    ):
        super().__init__(schema)
        self.linear = LinearTerm(schema.features, max_rows)
        self.fields = FieldEmbedding(schema.features, dim, dims, max_rows, init_std, table)
        self.deep = hidden_layers(self.fields.width, hidden, dropout, batch_norm)
        self.out = nn.Linear(last_width(self.fields.width, hidden), 1, bias=False)  # the linear term has one

    def pieces(self) -> list[Pieces]:
        reader = first_reader("deep", self.deep, "out.weight")
        dims = self.fields.dims("fields", [(reader, len(self.fields.names))])
        return [*perceptron("deep", self.deep, [("out.weight", 0)]), *dims]

    def forward(self, rows: Rows) -> Tensor:
        vectors = self.fields(rows)
        deep = self.out(self.deep(vectors.flatten(1))).squeeze(1)
        logit: Tensor = self.start + self.linear(rows) + pairs(vectors) + deep
        return logit
