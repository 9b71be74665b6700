"""BERT4Rec: a Transformer that sees a history from both sides and fills in what is masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from recdistill.data.features import Features
from recdistill.data.interactions import Schema
from recdistill.models.attention import TransformerBlock, block_pieces, head_length
from recdistill.models.encoders import table as random_table
from recdistill.models.fusion import Fusion
from recdistill.models.pieces import Kind, Pieces
from recdistill.models.tables.base import TableChoice
from recdistill.models.tied import TiedSequenceModel


class BERT4Rec(TiedSequenceModel):
    """Score of item i at a masked place = GELU(x W + b) · e_i + b_i, with layer norm behind the GELU.

    A place starts as Dropout(LN(e_i + p)), with p of its number and one e for all masked places. A block is
    LN(x + Dropout(g(x))) twice, with g self-attention over all places, then a network of width 4 d with GELU. Its loss
    is objective=sequence_cloze.

    Source: Sun et al., BERT4Rec: Sequential recommendation with bidirectional encoder representations from Transformer,
    CIKM 2019, section 3; the layer norms at both ends are of the authors' code.

    Args:
        schema: sizes of the data.
        dim: d, length of the vectors of items.
        layers: number of blocks.
        heads: of the attention; they must divide ``dim``.
        dropout: share that training drops, of the attention weights, of what the parts of a block give and of
            what the first block gets.
        item_bias: learn b_i, a popularity offset per item.
        init_std: standard deviation of the initial vectors of items, places and the mask.
        hidden: width of the network in each block; None for ``4 dim``.
        head_dim: length of queries, keys and values in each head; None for ``dim / heads``.
        fusion, features, adapter, table: whether the items' vectors are made of their features, too, and how they are
            stored, see :class:`~recdistill.models.tied.TiedSequenceModel`.

    Raises:
        InputError: ``heads`` does not divide ``dim``.
    """

    causal = False
    cuttable: ClassVar[Mapping[Kind, str]] = {"heads": "heads", "feed_forward": "hidden", "layers": "layers"}

    def __init__(
        self,
        schema: Schema,
        dim: Annotated[int, Ge(1)] = 64,
        layers: Annotated[int, Ge(1)] = 2,
        heads: Annotated[int, Ge(1)] = 2,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
        item_bias: bool = True,
        init_std: Annotated[float, Gt(0)] = 0.02,
        fusion: Fusion = "ids",
        features: Sequence[str] | None = None,
        adapter: Annotated[int, Ge(0)] = 0,
        hidden: Annotated[int, Ge(1)] | None = None,
        head_dim: Annotated[int, Ge(1)] | None = None,
        table: TableChoice = None,
    ):
        super().__init__(schema, dim, init_std, fusion, features, adapter, table)
        self.position = random_table(schema.max_length, dim, init_std)
        self.mask = nn.Parameter(init_std * torch.randn(dim))
        self.norm, self.dropout = nn.LayerNorm(dim), nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(dim, heads, hidden or 4 * dim, dropout, "gelu", pre_norm=False, head_dim=head_dim)
            for _ in range(layers)
        )
        self.transform, self.transform_norm = nn.Linear(dim, dim), nn.LayerNorm(dim)
        self.bias = nn.Parameter(torch.zeros(schema.n_items)) if item_bias else None

    @property
    def mask_token(self) -> int:
        """What stands in a history in place of an item that is masked."""
        return self.schema.n_items + 1

    def pieces(self) -> list[Pieces]:
        return block_pieces("blocks", self.blocks)

    @classmethod
    def spelled_out(cls, net: dict[str, Any]) -> dict[str, Any]:
        lengths = {"hidden": 4 * net["dim"], "head_dim": head_length(net["dim"], net["heads"])}
        return net | {key: net[key] or value for key, value in lengths.items()}

    def forward(self, history: Tensor) -> Tensor:
        """A vector for each place, ``[B, L, d]``, or ``d + 1`` with the item bias; a history may hold masked places."""
        masked = (history == self.mask_token).unsqueeze(-1)
        x = torch.where(masked, self.mask, self.look_up(history)) + self.position.weight[: history.shape[1]]
        x = self.dropout(self.norm(x))
        visible = (history != self.schema.n_items)[:, None, None]  # [B, 1, 1, L]: padding is seen by nobody
        visible = visible | ~visible.any(-1, keepdim=True)  # what sees nothing would be NaN
        for block in self.blocks:
            x = block(x, visible)
        x = self.transform_norm(gelu(self.transform(x)))
        return x if self.bias is None else torch.cat([x, x.new_ones(*x.shape[:-1], 1)], -1)

    def query(self, history: Tensor) -> Tensor:
        """The vector ``[B, d]`` of each history as a whole: that of a masked place behind its last item, for which the
        oldest item is left out where the history has the longest length. Nothing but that place is a query too."""
        length = (history != self.schema.n_items).sum(1)
        asked = length.clamp(max=self.schema.max_length - 1)
        padded = pad(history, (0, 1), value=self.schema.n_items)
        places = torch.arange(min(padded.shape[1], self.schema.max_length), device=history.device)
        moved = padded.gather(1, places + (length - asked).unsqueeze(1))
        rows = torch.arange(history.shape[0], device=history.device)
        hidden: Tensor = self(moved.scatter(1, asked.unsqueeze(1), self.mask_token))
        return hidden[rows, asked]

    def item_matrix(self) -> Tensor:
        item = self.item_vectors()
        return item if self.bias is None else torch.cat([item, self.bias.unsqueeze(1)], 1)

    def new_item_vectors(self, features: Features, rows: int) -> Tensor | None:
        item = super().new_item_vectors(features, rows)
        return item if item is None or self.bias is None else torch.cat([item, self.bias.mean().expand(rows, 1)], 1)
