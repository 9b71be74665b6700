"""DCN-V2: layers that cross all fields with what came before, and a perceptron."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from recdistill.data.interactions import Schema
from recdistill.data.rows import Rows
from recdistill.models.blocks import Rate, Std, Width, Widths, hidden_layers, last_width
from recdistill.models.fields import Dims, FieldEmbedding, FieldModel, MaxRows
from recdistill.models.pieces import Cut, Kind, Layers, Pieces, first_reader, perceptron, places
from recdistill.models.tables.base import TableChoice


class DCNv2(FieldModel):
    """x_{l+1} = x_0 ∘ (W_l x_l + b_l) + x_l over x_0 = [e_1; …; e_F], beside or before a perceptron.

    Source: Wang et al., DCN V2: improved deep & cross network and practical lessons for web-scale learning to rank
    systems, WWW 2021, eq. 1, for ``rank`` eq. 2 (W = U Vᵀ), and section 3.4 for the two structures. The mixture of
    experts of eq. 3 is left out.

    Args:
        schema: sizes of the fields.
        dim: length of the vectors.
        cross_layers: how many; the output is a polynomial of one degree more.
        rank: of the matrices of the cross layers, None for full ones.
        structure: "parallel", both parts see x_0 and the logit is linear in the two outputs, or "stacked", the
            perceptron sees what the cross layers give.
        hidden: widths of the perceptron; empty for cross layers alone.
        dropout: share of a layer's output that is dropped in training, 0 for none.
        batch_norm: normalise before the activation.
        dims: of single fields that have another length, by name.
        max_rows: rows of the table for a field, the rest of whose values, the rare ones, share; None for no limit.
        init_std: standard deviation of the initial vectors.
        table: how the vectors of large fields are stored, see :class:`~recdistill.models.fields.FieldEmbedding`.
    """

    trunk = "deep"
    cuttable: ClassVar[Mapping[Kind, str]] = {"units": "hidden", "dims": "dim", "layers": "cross_layers"}

    def __init__(
        self,
        schema: Schema,
        dim: Width = 16,
        cross_layers: Annotated[int, Ge(1)] = 3,
        rank: Width | None = None,
        structure: Literal["parallel", "stacked"] = "parallel",
        hidden: Widths = (400, 400, 400),
        dropout: Rate = 0.0,
        batch_norm: bool = False,
        dims: Dims | None = None,
        max_rows: MaxRows | None = None,
        init_std: Std = 0.01,
        table: TableChoice = None,
    ):
        super().__init__(schema)
        self.fields = FieldEmbedding(schema.features, dim, dims, max_rows, init_std, table)
        width = self.fields.width
        self.cross = nn.ModuleList(crossing(width, rank) for _ in range(cross_layers))
        self.deep = hidden_layers(width, hidden, dropout, batch_norm)
        self.parallel = structure == "parallel" and bool(hidden)
        self.out = nn.Linear(last_width(width, hidden) + (width if self.parallel else 0), 1)

    def pieces(self) -> list[Pieces]:
        count, width = len(self.fields.names), self.fields.width
        flat = places(self.fields.dim, times=count)
        last, first = ("1.", "0.weight") if isinstance(self.cross[0], nn.Sequential) else ("", "weight")
        crossed = [Cut(f"cross.{layer}.{name}", dim, flat) for layer in range(len(self.cross))
                   for name, dim in ((first, 1), (f"{last}weight", 0), (f"{last}bias", 0))]  # fmt: skip
        readers = {first_reader("deep", self.deep, "out.weight"), *(["out.weight"] if self.parallel else [])}
        return [
            *perceptron("deep", self.deep, [("out.weight", width if self.parallel else 0)]),
            *self.fields.dims("fields", [(reader, count) for reader in sorted(readers)], crossed),
            Layers("layers", len(self.cross), (), "cross", (f"{last}weight", f"{last}bias")),
        ]

    def forward(self, rows: Rows) -> Tensor:
        start = self.fields(rows).flatten(1)
        crossed = start
        for layer in self.cross:
            crossed = start * layer(crossed) + crossed
        last = torch.cat([crossed, self.deep(start)], 1) if self.parallel else self.deep(crossed)
        logit: Tensor = self.start + self.out(last).squeeze(1)
        return logit


def crossing(width: int, rank: int | None) -> nn.Module:
    """x ↦ W x + b, where W has the rank, if one is given."""
    if rank is None:
        return nn.Linear(width, width)
    return nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))
