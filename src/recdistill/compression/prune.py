"""Fewer weights: the smallest are dropped, and the file keeps only the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from annotated_types import Interval

from recdistill.compression.base import Compressed, CompressionPass, tables
from recdistill.export.packing import Codec
from recdistill.models.fit import Fit


class Prune(CompressionPass):
    """Magnitude pruning of each table. Stored are one bit per position and the values that are left, so that
    the file shrinks from a sparsity of 1 / bits on; a dense matmul does not get faster.

    Source: Han et al., Learning both weights and connections, NeurIPS 2015.

    Args:
        sparsity: share of each table's weights that is dropped.
        finetune: training of the rest, None for none.
    """

    def __init__(self, sparsity: Annotated[float, Interval(gt=0, lt=1)] = 0.5, finetune: Fit | None = None):
        super().__init__(finetune)
        self.sparsity = sparsity

    def apply(self, state: Compressed) -> Compressed:
        for name, weight in tables(state.model).items():
            drop = round(weight.numel() * self.sparsity)
            if drop:
                # By rank, not by threshold: equal weights must not all go.
                smallest = weight.abs().flatten().topk(drop, largest=False).indices
                weight.view(-1)[smallest] = 0.0
            state.codecs[name] = replace(state.codecs.get(name, Codec()), sparse=True)
        return state
