"""Fewer bits per weight: whole numbers and one scale per row."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from annotated_types import Ge

from recdistill.compression.base import Compressed, CompressionPass, tables
from recdistill.export.packing import Codec, best_clip
from recdistill.models.fit import Fit


class Quantize(CompressionPass):
    """Symmetric quantization by row of every table and linear layer, with the clipping that loses least per
    row.

    A layer with a single output is one row, in which inputs of different scales would share few steps: it stays as
    it is, like a bias, and weighs as little.

    Source: Jacob et al., Quantization and training of neural networks for efficient integer-arithmetic-only
    inference, CVPR 2018, for the fine-tuning with rounding in the loop.

    Args:
        bits: per weight.
        clip_candidates: clippings that are tried per row; 1 keeps each row's largest value exactly.
        finetune: training with the rounding in the loop, None for none.
    """

    def __init__(
        self,
        bits: Literal[8, 4] = 8,
        clip_candidates: Annotated[int, Ge(1)] = 12,
        finetune: Fit | None = None,
    ):
        super().__init__(finetune)
        self.bits, self.clip_candidates = bits, clip_candidates

    def apply(self, state: Compressed) -> Compressed:
        for name, weight in tables(state.model).items():
            if len(weight) == 1:
                continue
            state.codecs[name] = replace(state.codecs.get(name, Codec()), bits=self.bits)
            state.clips[name] = best_clip(weight, self.bits, self.clip_candidates)
        return state
