"""Item vectors that a sequence model both reads histories with and scores with."""

from __future__ import annotations

from torch import Tensor

from recdistill.data.interactions import Schema
from recdistill.models.base import SequenceModel
from recdistill.models.encoders import table


class TiedSequenceModel(SequenceModel):
    """A sequence model with one table of items.

    Args:
        schema: sizes of the data.
        dim: length of the vectors.
        init_std: standard deviation of the initial vectors.
    """

    def __init__(self, schema: Schema, dim: int, init_std: float):
        super().__init__(schema)
        self.item = table(schema.n_items, dim, init_std)

    def look_up(self, history: Tensor) -> Tensor:
        """The vectors of a history's items, ``[B, L, d]``; zeros for what is no item."""
        known = history < self.schema.n_items
        vectors: Tensor = self.item(history.where(known, 0))
        return vectors * known.unsqueeze(-1)

    def item_matrix(self) -> Tensor:
        return self.item.weight
