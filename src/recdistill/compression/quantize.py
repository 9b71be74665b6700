"""Fewer bits per weight: half a float, or whole numbers and one scale per row."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from annotated_types import Ge

from recdistill.compression.base import Compressed, CompressionPass, tables
from recdistill.export.packing import Codec, best_clip
from recdistill.models.fit import Fit


class Quantize(CompressionPass):
    """Fewer bits for every table and linear layer. In 8 and 4 bits symmetric quantization by row, with the clipping
    that loses least per row; 16 is a float16, which has eleven significant bits and goes up to 65,504, and ``bf16`` a
    bfloat16, which has eight and the range of a float32: neither needs scales or clipping.

    Only what is stored has fewer bits; what is computed is float32. With ``finetune`` the forward pass sees the rounded
    weights, and the loss is that of the student's training: quantization-aware training with distillation.

    In 8 and 4 bits a layer with a single output would be one row, in which inputs of different scales would share few
    steps: it stays as it is, like a bias, and weighs as little.

    Source: Jacob et al., Quantization and training of neural networks for efficient integer-arithmetic-only
    inference, CVPR 2018, for the fine-tuning with rounding in the loop.

    Args:
        bits: per weight; 16 is a float16.
        clip_candidates: clippings that are tried per row; 1 keeps each row's largest value exactly.
        finetune: training with the rounding in the loop, None for none.
    """

    def __init__(
        self,
        bits: Literal[16, "bf16", 8, 4] = 8,
        clip_candidates: Annotated[int, Ge(1)] = 12,
        finetune: Fit | None = None,
    ):
        super().__init__(finetune)
        self.bits, self.clip_candidates = bits, clip_candidates

    @classmethod
    def strengths(cls, node: dict[str, Any]) -> list[dict[str, Any]]:
        return [{**node, "bits": bits} for bits in (16, 8, 4)]

    def apply(self, state: Compressed) -> Compressed:
        for name, weight in tables(state.model).items():
            whole_numbers = self.bits in (8, 4)
            if whole_numbers and len(weight) == 1:
                continue
            state.codecs[name] = replace(state.codecs.get(name, Codec()), bits=self.bits)
            if whole_numbers:
                state.clips[name] = best_clip(weight, int(self.bits), self.clip_candidates)
        return state
