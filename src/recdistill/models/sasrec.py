"""SASRec: a Transformer that reads a history from left to right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from recdistill.data.interactions import Schema
from recdistill.models.attention import Activation, TransformerBlock, block_pieces, head_length
from recdistill.models.encoders import table as random_table
from recdistill.models.fusion import Fusion
from recdistill.models.pieces import Kind, Pieces
from recdistill.models.tables.base import TableChoice
from recdistill.models.tied import TiedSequenceModel


class SASRec(TiedSequenceModel):
    """Score = h · e_i, where h is the vector at the last place, and e the vectors of the items.

    A place starts as √d e_i + p with a vector p for its number, counted from the oldest item. A block is
    x + Dropout(g(LN(x))) twice, with g causal self-attention, then a network of width d; a last layer norm gives h.

    Source: Kang and McAuley, Self-attentive sequential recommendation, ICDM 2018, section III; √d and the last layer
    norm are of the authors' code. Unlike there, the attention ends in the linear map of Vaswani et al.

    Args:
        schema: sizes of the data.
        dim: d, length of the vectors.
        layers: number of blocks.
        heads: of the attention; they must divide ``dim``.
        dropout: share that training drops, of the attention weights, of what the parts of a block give and of
            what the first block gets.
        activation: of the network.
        init_std: standard deviation of the initial vectors of items and places.
        hidden: width of the network in each block; None for ``dim``.
        head_dim: length of queries, keys and values in each head; None for ``dim / heads``.
        fusion, features, adapter, table: whether the items' vectors are made of their features, too, and how they are
            stored, see :class:`~recdistill.models.tied.TiedSequenceModel`.

    Raises:
        InputError: ``heads`` does not divide ``dim``.
    """

    trunk = "norm"
    cuttable: ClassVar[Mapping[Kind, str]] = {"heads": "heads", "feed_forward": "hidden", "layers": "layers"}

    def __init__(
        self,
        schema: Schema,
        dim: Annotated[int, Ge(1)] = 64,
        layers: Annotated[int, Ge(1)] = 2,
        heads: Annotated[int, Ge(1)] = 1,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
        activation: Activation = "relu",
        init_std: Annotated[float, Gt(0)] = 0.02,
        fusion: Fusion = "ids",
        features: Sequence[str] | None = None,
        adapter: Annotated[int, Ge(0)] = 0,
        hidden: Annotated[int, Ge(1)] | None = None,
        head_dim: Annotated[int, Ge(1)] | None = None,
        table: TableChoice = None,
    ):
        super().__init__(schema, dim, init_std, fusion, features, adapter, table)
        self.scale = dim**0.5
        self.position = random_table(schema.max_length, dim, init_std)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(dim, heads, hidden or dim, dropout, activation, pre_norm=True, head_dim=head_dim)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.attention = f"blocks.{layers - 1}.attention.weights"

    def pieces(self) -> list[Pieces]:
        return block_pieces("blocks", self.blocks)

    @classmethod
    def spelled_out(cls, net: dict[str, Any]) -> dict[str, Any]:
        lengths = {"hidden": net["dim"], "head_dim": head_length(net["dim"], net["heads"])}
        return net | {key: net[key] or value for key, value in lengths.items()}

    def forward(self, history: Tensor) -> Tensor:
        # Padding stands behind all items: what is causal can't see it.
        x = self._looked_up(history)
        for block in self.blocks:
            x = block(x)
        normed: Tensor = self.norm(x)
        return normed

    def query(self, history: Tensor) -> Tensor:
        watched = any(part._forward_hooks for part in self.modules())  # layers are recorded, of every place
        if self.training or watched or not history.shape[1] or not len(self.blocks):
            return super().query(history)
        length = (history < self.schema.n_items).sum(1)
        x = self._looked_up(history)
        *blocks, final = self.blocks
        for block in blocks:
            x = block(x)
        assert isinstance(final, TransformerBlock)
        last: Tensor = self.norm(final.at(x, (length - 1).clamp(min=0)))
        return last * (length > 0).unsqueeze(1)

    def _looked_up(self, history: Tensor) -> Tensor:
        found: Tensor = self.dropout(self.scale * self.look_up(history) + self.position.weight[: history.shape[1]])
        return found
