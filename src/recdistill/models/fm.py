"""Factorisation machine: a weight for each value, and for each pair of fields the dot product of their vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from recdistill.data.interactions import Schema
from recdistill.data.rows import Rows
from recdistill.models.blocks import Std, Width
from recdistill.models.fields import Dims, FieldEmbedding, FieldModel, LinearTerm, MaxRows
from recdistill.models.pieces import Kind, Pieces
from recdistill.models.tables.base import TableChoice


class FM(FieldModel):
    """z = b + w · x + Σ_{f<g} e_f · e_g.

    A set is one field, the mean of its members' vectors, and its members are not crossed with each other.

    Source: Rendle, Factorization machines, ICDM 2010, eq. 1; the sum over pairs in linear time by lemma 3.1.

    Args:
        schema: sizes of the fields.
        dim: length of the vectors.
        dims: of single fields that have another length, by name.
        max_rows: rows of a table for a field, the rest of whose values, the rare ones, share; None for no limit.
        init_std: standard deviation of the initial vectors.
        table: how the vectors of large fields are stored, see :class:`~recdistill.models.fields.FieldEmbedding`.
    """

    cuttable: ClassVar[Mapping[Kind, str]] = {"dims": "dim"}

    def __init__(
        self,
        schema: Schema,
        dim: Width = 16,
        dims: Dims | None = None,
        max_rows: MaxRows | None = None,
        init_std: Std = 0.01,
        table: TableChoice = None,
    ):
        super().__init__(schema)
        self.linear = LinearTerm(schema.features, max_rows)
        self.fields = FieldEmbedding(schema.features, dim, dims, max_rows, init_std, table)

    def pieces(self) -> list[Pieces]:
        return self.fields.dims("fields")

    def forward(self, rows: Rows) -> Tensor:
        logit: Tensor = self.start + self.linear(rows) + pairs(self.fields(rows))
        return logit


def pairs(vectors: Tensor) -> Tensor:
    """Σ_{f<g} e_f · e_g = ½ Σ_k ((Σ_f e_fk)² - Σ_f e_fk²), ``[B]``, of vectors ``[B, F, d]``."""
    return 0.5 * (vectors.sum(1).square() - vectors.square().sum(1)).sum(1)
