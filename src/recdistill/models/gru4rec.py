"""GRU4Rec: a recurrent network that reads a history item by item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from recdistill.data.interactions import Schema
from recdistill.models.fusion import Fusion
from recdistill.models.tables.base import TableChoice
from recdistill.models.tied import TiedSequenceModel


class GRU4Rec(TiedSequenceModel):
    """Score = W h · e_i, where h is the state of a gated recurrent unit behind the last item, and e the vectors of the
    items; without W where h is as long as e.

    Source: Hidasi et al., Session-based recommendations with recurrent neural networks, ICLR 2016, with the same
    vectors of items for input and output; its losses and batches are not part of the model.

    Args:
        schema: sizes of the data.
        dim: length of the vectors of items.
        hidden: length of h.
        layers: of the recurrent network.
        dropout: share of its input and of each layer's output that training drops.
        init_std: standard deviation of the initial vectors.
        fusion, features, adapter, table: whether the items' vectors are made of their features, too, and how they are
            stored, see :class:`~recdistill.models.tied.TiedSequenceModel`.
    """

    trunk = "gru"

    def __init__(
        self,
        schema: Schema,
        dim: Annotated[int, Ge(1)] = 64,
        hidden: Annotated[int, Ge(1)] = 128,
        layers: Annotated[int, Ge(1)] = 1,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
        init_std: Annotated[float, Gt(0)] = 0.15,
        fusion: Fusion = "ids",
        features: Sequence[str] | None = None,
        adapter: Annotated[int, Ge(0)] = 0,
        table: TableChoice = None,
    ):
        super().__init__(schema, dim, init_std, fusion, features, adapter, table)
        self.gru = nn.GRU(dim, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(hidden, dim, bias=False) if hidden != dim else nn.Identity()

    def forward(self, history: Tensor) -> Tensor:
        states, _ = self.gru(self.dropout(self.look_up(history)))
        projected: Tensor = self.project(self.dropout(states))
        return projected
