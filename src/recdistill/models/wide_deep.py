"""Wide & Deep: a linear model that remembers, beside a perceptron that generalises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from recdistill.data.interactions import Schema
from recdistill.data.rows import Rows
from recdistill.models.blocks import Rate, Std, Width, Widths, hidden_layers, last_width
from recdistill.models.fields import Dims, FieldEmbedding, FieldModel, LinearTerm, MaxRows, column_of
from recdistill.models.pieces import Kind, Pieces, first_reader, perceptron
from recdistill.models.tables.base import TableChoice


class WideDeep(FieldModel):
    """z = b + w_wide · [x; φ(x)] + w_deep · MLP([e_1; …; e_F]), where φ crosses two categorical fields: each pair of
    their values has a weight.

    Source: Cheng et al., Wide & deep learning for recommender systems, DLRS 2016, eq. 1 to 3; both parts are trained by
    one optimizer here.

    Args:
        schema: sizes of the fields.
        dim: length of the vectors.
        hidden: widths of the layers.
        dropout: share of a layer's output that is dropped in training, 0 for none.
        batch_norm: normalise before the activation.
        crosses: pairs of names of categorical fields.
        cross_rows: most weights of a cross; where there are more pairs of values, they share by their remainder.
        dims: of single fields that have another length, by name.
        max_rows: rows of a table for a field, the rest of whose values, the rare ones, share; None for no limit.
        init_std: standard deviation of the initial vectors.
        table: how the vectors of large fields are stored, see :class:`~recdistill.models.fields.FieldEmbedding`.

    Raises:
        InputError: a cross names a column that is not there.
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
        crosses: Sequence[tuple[str, str]] = (),
        cross_rows: Width = 1 << 18,
        dims: Dims | None = None,
        max_rows: MaxRows | None = None,
        init_std: Std = 0.01,
        table: TableChoice = None,
    ):
        super().__init__(schema)
        sizes = schema.features
        self.wide = LinearTerm(sizes, max_rows)
        self.crosses = nn.ModuleList(
            Cross(
                (column_of(schema, first, "net.crosses"), column_of(schema, second, "net.crosses")),
                (sizes["categorical"][first], sizes["categorical"][second]),
                cross_rows,
            )
            for first, second in crosses
        )
        self.fields = FieldEmbedding(sizes, dim, dims, max_rows, init_std, table)
        self.deep = hidden_layers(self.fields.width, hidden, dropout, batch_norm)
        self.out = nn.Linear(last_width(self.fields.width, hidden), 1, bias=False)  # the wide part has one

    def pieces(self) -> list[Pieces]:
        reader = first_reader("deep", self.deep, "out.weight")
        dims = self.fields.dims("fields", [(reader, len(self.fields.names))])
        return [*perceptron("deep", self.deep, [("out.weight", 0)]), *dims]

    def forward(self, rows: Rows) -> Tensor:
        logit: Tensor = self.start + self.wide(rows) + self.out(self.deep(self.fields(rows).flatten(1))).squeeze(1)
        for cross in self.crosses:
            logit = logit + cross(rows.categorical)
        return logit


class Cross(nn.Module):
    """A weight for each pair of values of two columns; all start at zero.

    Args:
        places: of the columns.
        sizes: their numbers of codes.
        rows: most weights.
    """

    def __init__(self, places: tuple[int, int], sizes: tuple[int, int], rows: int):
        super().__init__()
        self.places, self.size = places, sizes[1]
        self.weight = nn.Embedding(min(sizes[0] * sizes[1], rows), 1)
        nn.init.zeros_(self.weight.weight)

    def forward(self, codes: Tensor) -> Tensor:
        """``[B]``, of codes int64 ``[B, F]``."""
        first, second = self.places
        pair = codes[:, first] * self.size + codes[:, second]
        weight: Tensor = self.weight(pair % self.weight.num_embeddings)
        return weight.squeeze(1)
