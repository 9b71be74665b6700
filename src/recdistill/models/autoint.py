"""AutoInt: the fields attend to each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn

from recdistill.data.interactions import Schema
from recdistill.data.rows import Rows
from recdistill.models.blocks import Rate, Std, Width, Widths, hidden_layers, last_width
from recdistill.models.fields import Dims, FieldEmbedding, FieldModel, MaxRows
from recdistill.models.pieces import Cut, Kind, Pieces, first_reader, perceptron, places
from recdistill.models.tables.base import TableChoice


class AutoInt(FieldModel):
    """z = w · [e'_1; …; e'_F] + b, where e' comes from layers of multi-head attention between the fields; with
    ``hidden``, plus w_deep · MLP([e_1; …; e_F]), the paper's AutoInt+.

    Source: Song et al., AutoInt: automatic feature interaction learning via self-attentive neural networks, CIKM 2019,
    eq. 5 to 9; three layers, two heads and width 32 as there.

    Args:
        schema: sizes of the fields.
        dim: length of the vectors.
        layers: of attention.
        heads: of each layer.
        head_dim: length of queries, keys and values in each head.
        hidden: widths of a perceptron beside the attention; empty for none.
        dropout: share of the perceptron's outputs that is dropped in training, 0 for none.
        batch_norm: normalise before the perceptron's activations.
        dims: of single fields that have another length, by name.
        max_rows: rows of the table for a field, the rest of whose values, the rare ones, share; None for no limit.
        init_std: standard deviation of the initial vectors.
        table: how the vectors of large fields are stored, see :class:`~recdistill.models.fields.FieldEmbedding`.
    """

    trunk = "interacting"
    cuttable: ClassVar[Mapping[Kind, str]] = {"units": "hidden", "heads": "heads", "dims": "dim"}

    def __init__(
        self,
        schema: Schema,
        dim: Width = 16,
        layers: Annotated[int, Ge(1)] = 3,
        heads: Annotated[int, Ge(1)] = 2,
        head_dim: Width = 32,
        hidden: Widths = (),
        dropout: Rate = 0.0,
        batch_norm: bool = False,
        dims: Dims | None = None,
        max_rows: MaxRows | None = None,
        init_std: Std = 0.01,
        table: TableChoice = None,
    ):
        super().__init__(schema)
        self.fields = FieldEmbedding(schema.features, dim, dims, max_rows, init_std, table)
        widths = [dim] + [heads * head_dim] * layers
        self.interacting = nn.Sequential(*(FieldAttention(width, heads, head_dim) for width in widths[:-1]))
        self.out = nn.Linear(len(self.fields.names) * widths[-1], 1)
        self.deep = hidden_layers(self.fields.width, hidden, dropout, batch_norm)
        self.deep_out = nn.Linear(last_width(self.fields.width, hidden), 1, bias=False) if hidden else None

    def pieces(self) -> list[Pieces]:
        fields = len(self.fields.names)
        layers = [layer for layer in self.interacting if isinstance(layer, FieldAttention)]
        found = perceptron("deep", self.deep, [("deep_out.weight", 0)])
        for number, layer in enumerate(layers):
            heads, width = layer.heads, layer.maps.out_features // (4 * layer.heads)
            last = number + 1 == len(layers)
            reader = "out.weight" if last else f"interacting.{number + 1}.maps.weight"
            read = places(heads, width=width, times=fields if last else 1)
            own = Cut(f"interacting.{number}.maps.weight", 0, places(heads, width=width, times=4))
            found.append(Pieces("heads", heads, (own, Cut(reader, 1, read, gate=True))))
        readers = [("interacting.0.maps.weight", 1)]
        readers += [(first_reader("deep", self.deep, ""), fields)] if len(self.deep) else []
        return [*found, *self.fields.dims("fields", readers)]

    def forward(self, rows: Rows) -> Tensor:
        vectors = self.fields(rows)
        logit: Tensor = self.start + self.out(self.interacting(vectors).flatten(1)).squeeze(1)
        if self.deep_out is not None:
            logit = logit + self.deep_out(self.deep(vectors.flatten(1))).squeeze(1)
        return logit


class FieldAttention(nn.Module):
    """e'_m = relu([ẽ_m^1; …; ẽ_m^H] + W_res e_m) with ẽ_m^h = Σ_l softmax_l(q_m^h · k_l^h) v_l^h.

    The dot products are not divided by the root of their length.
    """

    def __init__(self, dim: int, heads: int, head_dim: int):
        super().__init__()
        self.heads = heads
        self.maps = nn.Linear(dim, 4 * heads * head_dim, bias=False)  # of queries, keys, values, residual

    def forward(self, vectors: Tensor) -> Tensor:
        """``[B, F, heads * head_dim]``, from ``[B, F, dim]``."""
        query, key, value, residual = self.maps(vectors).chunk(4, -1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        share = torch.softmax(query @ key.transpose(-1, -2), -1)  # [B, heads, F, F]
        mixed: Tensor = (share @ value).transpose(1, 2).flatten(2) + residual
        return mixed.relu()
