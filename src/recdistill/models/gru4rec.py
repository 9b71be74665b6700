"""GRU4Rec: a recurrent network that reads a history item by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from recdistill.data.interactions import Schema
from recdistill.models.fusion import Fusion
from recdistill.models.pieces import Cut, Kind, Pieces, places
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
    cuttable: ClassVar[Mapping[Kind, str]] = {"units": "hidden", "dims": "dim"}

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

    @classmethod
    def resizable(cls, net: dict[str, Any]) -> dict[Kind, tuple[str, ...]]:
        tied = net["hidden"] == net["dim"]  # number n of a state meets number n of an item
        return {"dims": ("dim", "hidden")} if tied else super().resizable(net)

    def pieces(self) -> list[Pieces]:
        layers, hidden, dim = self.gru.num_layers, self.gru.hidden_size, self.gru.input_size
        projected = isinstance(self.project, nn.Linear)
        found = []
        for layer in range(layers):
            rows = places(hidden, times=3)
            cuts = [Cut(f"gru.{part}_l{layer}", 0, rows) for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            readers = [f"gru.weight_hh_l{layer}", *([f"gru.weight_ih_l{layer + 1}"] if layer + 1 < layers else [])]
            readers += ["project.weight"] if projected and layer + 1 == layers else []
            cuts += [Cut(reader, 1, places(hidden), gate=True) for reader in readers]
            found.append(Pieces("units", hidden, tuple(cuts)))
        own = (Cut("item.weight", 1, places(dim), gate=True), Cut("gru.weight_ih_l0", 1, places(dim)))
        if projected:
            return [*found, Pieces("dims", dim, (*own, Cut("project.weight", 0, places(dim))))]
        return [Pieces("dims", dim, (*own, *(cut for units in found for cut in units.cuts)))]

    def forward(self, history: Tensor) -> Tensor:
        states, _ = self.gru(self.dropout(self.look_up(history)))
        projected: Tensor = self.project(self.dropout(states))
        return projected
