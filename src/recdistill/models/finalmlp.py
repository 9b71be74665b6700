"""FinalMLP: two perceptrons that see the fields through gates of their own, and a bilinear form of what they give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from recdistill.config.suggest import listing
from recdistill.data.interactions import Schema
from recdistill.data.rows import Rows
from recdistill.errors import InputError
from recdistill.models.blocks import Rate, Std, Width, Widths, hidden_layers, last_width
from recdistill.models.fields import Dims, FieldEmbedding, FieldModel, MaxRows
from recdistill.models.tables.base import TableChoice


class FinalMLP(FieldModel):
    """z = b + w_1 · o_1 + w_2 · o_2 + Σ_h o_1^h · W_h o_2^h, where o_s = MLP_s(2 σ(gate_s(x_s)) ∘ [e_1; …; e_F]) and
    o^h are its parts of equal length.

    Source: Mao et al., FinalMLP: an enhanced two-stream MLP model for CTR prediction, AAAI 2023: sections on
    stream-specific feature selection and on stream-level interaction aggregation. What a gate looks at, x_s, are the
    same vectors as the perceptrons see, where the authors' code has tables of its own for it.

    Args:
        schema: sizes of the fields.
        dim: length of the vectors.
        hidden_1: widths of the first perceptron.
        hidden_2: widths of the second.
        heads: parts of the bilinear form; must divide the last widths.
        gating: whether there are gates.
        context_1: fields that the first gate looks at, by name; none for a learned vector, the same for all rows.
        context_2: those of the second.
        gate_hidden: width of the gates' hidden layer.
        dropout: share of a layer's output that is dropped in training, 0 for none.
        batch_norm: normalise before the activation.
        dims: of single fields that have another length, by name.
        max_rows: rows of the table for a field, the rest of whose values, the rare ones, share; None for no limit.
        init_std: standard deviation of the initial vectors.
        table: how the vectors of large fields are stored, see :class:`~recdistill.models.fields.FieldEmbedding`.

    Raises:
        InputError: the heads do not divide the widths, or there is no field of a given name.
    """

    trunk = "streams.1"

    def __init__(
        self,
        schema: Schema,
        dim: Width = 16,
        hidden_1: Widths = (400,),
        hidden_2: Widths = (400, 400, 400),
        heads: Annotated[int, Ge(1)] = 8,
        gating: bool = True,
        context_1: Sequence[str] = (),
        context_2: Sequence[str] = (),
        gate_hidden: Width = 64,
        dropout: Rate = 0.0,
        batch_norm: bool = False,
        dims: Dims | None = None,
        max_rows: MaxRows | None = None,
        init_std: Std = 0.01,
        table: TableChoice = None,
    ):
        super().__init__(schema)
        self.fields = FieldEmbedding(schema.features, dim, dims, max_rows, init_std, table)
        width, names = self.fields.width, self.fields.names
        ends = last_width(width, hidden_1), last_width(width, hidden_2)
        if any(end % heads for end in ends):
            raise InputError(f"{heads} heads do not divide the last widths, {ends[0]} and {ends[1]}", where="net.heads",
                             fix="net.heads=1, or widths that are multiples of it")  # fmt: skip
        self.streams = nn.ModuleList(
            hidden_layers(width, hidden, dropout, batch_norm) for hidden in (hidden_1, hidden_2)
        )
        contexts = [
            [_place(names, name, f"net.context_{number}") for name in context]
            for number, context in ((1, context_1), (2, context_2))
        ]
        self.gates = nn.ModuleList(Gate(dim, context, gate_hidden, width) for context in contexts if gating)
        self.linear = nn.Linear(sum(ends), 1)
        self.fusion = Bilinear(*ends, heads)

    def forward(self, rows: Rows) -> Tensor:
        vectors = self.fields(rows)
        flat = vectors.flatten(1)
        seen = [flat * gate(vectors) for gate in self.gates] or [flat, flat]
        first, second = (stream(part) for stream, part in zip(self.streams, seen, strict=True))
        linear = self.linear(torch.cat([first, second], 1)).squeeze(1)
        logit: Tensor = self.start + linear + self.fusion(first, second)
        return logit


class Gate(nn.Module):
    """2 σ(MLP(x)), where x is what is known of some fields, or a learned vector."""

    def __init__(self, dim: int, context: list[int], hidden: int, width: int):
        super().__init__()
        self.context = context
        self.common = None if context else nn.Parameter(torch.zeros(dim))
        self.network = nn.Sequential(nn.Linear(dim * max(1, len(context)), hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self, vectors: Tensor) -> Tensor:
        """``[B, width]``, or ``[width]`` where it is the same for all rows; of vectors ``[B, F, dim]``."""
        seen = self.common if self.common is not None else vectors[:, self.context].flatten(1)
        return 2 * torch.sigmoid(self.network(seen))


class Bilinear(nn.Module):
    """Σ_h x^h · W_h y^h, where x^h and y^h are parts of equal length."""

    def __init__(self, n_x: int, n_y: int, heads: int):
        super().__init__()
        self.heads = heads
        # The matrices of the heads stand one below the other.
        self.weight = nn.Parameter(torch.empty(n_x, n_y // heads))
        for block in self.weight.data.chunk(heads):
            nn.init.xavier_normal_(block)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """``[B]``, of ``[B, n_x]`` and ``[B, n_y]``."""
        x, y = (part.reshape(part.shape[0], self.heads, -1).transpose(0, 1) for part in (x, y))  # [heads, B, ·]
        return (x @ self.weight.reshape(self.heads, x.shape[2], y.shape[2]) * y).sum((0, 2))


def _place(names: list[str], name: str, where: str) -> int:
    if name not in names:
        raise InputError(f"there is no field '{name}'", where=where, why=f"there are {listing(names)}",
                         fix=f"{where}=[], or names of those")  # fmt: skip
    return names.index(name)
