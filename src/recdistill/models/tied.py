"""Item vectors that a sequence model both reads histories with and scores with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from recdistill.data.features import Features
from recdistill.data.interactions import Interactions, Schema
from recdistill.models.base import SequenceModel
from recdistill.models.fusion import Fusion, fusion_of, vectors_of
from recdistill.models.tables.base import TableChoice, count_rows, require_plain, table_of


class TiedSequenceModel(SequenceModel):
    """A sequence model with one table of items, which may be joined with their features.

    Args:
        schema: sizes of the data, and of the features of items.
        dim: length of the vectors.
        init_std: standard deviation of the initial vectors.
        fusion: how an item's vector is made of its id and its features, see
            :class:`~recdistill.models.fusion.ItemFusion`; ``ids`` for the table alone.
        features: names of the features to look at; None for all.
        adapter: width of the hidden layer over the features, 0 for none.
        table: how the vectors are stored, see :mod:`recdistill.models.tables.base`; None for a row of numbers each.

    Raises:
        InputError: the items have no such features, or they are to be fused with a table that is no plain one.
    """

    def __init__(
        self, schema: Schema, dim: int, init_std: float, fusion: Fusion = "ids",
        features: Sequence[str] | None = None, adapter: int = 0, table: TableChoice = None,
    ):  # fmt: skip
        super().__init__(schema)
        require_plain(table, fusion)
        self.item = table_of(table, schema.n_items, dim, init_std) if fusion != "features" else None
        if isinstance(self.item, nn.Embedding):
            nn.init.normal_(self.item.weight, std=init_std)
        self.fused = fusion_of(schema.item_features, dim, fusion, features, adapter, init_std)

    def bind(self, train: Interactions) -> None:
        count_rows(self.item, train.item)
        if self.fused is not None:
            self.fused.attach(train.item_features, self.schema.n_items)

    def look_up(self, history: Tensor) -> Tensor:
        """The vectors of a history's items, ``[B, L, d]``; zeros for what is no item."""
        known = history < self.schema.n_items
        items = history.where(known, 0)
        vectors = F.embedding(items, self.item_vectors()) if self.item is None or self.fused else self.item(items)
        return vectors * known.unsqueeze(-1)

    def item_vectors(self) -> Tensor:
        """Of the items, ``[n_items, d]``: those of the table, or what the fusion makes of them."""
        return vectors_of(self.item, self.fused)

    def item_matrix(self) -> Tensor:
        return self.item_vectors()

    def new_item_vectors(self, features: Features, rows: int) -> Tensor | None:
        return None if self.fused is None else self.fused.new_items(features, rows)
