"""Weights as small integers or halves of floats inside a graph: a file stays as small as the model on disk.

Small integers are read as code · scale of the row, which a runtime computes when it loads the file. Zeros that pruning
made are stored as any number is: graphs know no sparse weights.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from recdistill.export.packing import HALVES, Bits, Codec, by_row, pack_nibbles, quantize_rows, to_half
from recdistill.models.base import Model


class Small(nn.Module):
    """Reads a weight from codes and scales.

    Args:
        bits: 8, or 4, two of which share a byte.
        shape: of the weight.
    """

    def __init__(self, bits: int, shape: torch.Size):
        super().__init__()
        self.bits, self.shape = bits, shape

    def forward(self, codes: Tensor, scale: Tensor) -> Tensor:
        if self.bits == 4:  # by division, since runtimes differ in which integers they shift
            pairs = codes.int()
            high = pairs.div(16, rounding_mode="floor")
            codes = torch.stack([pairs - 16 * high, high], 1).flatten()[: self.shape.numel()].view(self.shape) - 8
        return codes.float() * scale

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        codes, scale = quantize_rows(weight, self.bits)
        small = codes.to(torch.int8)
        return pack_nibbles(small.flatten()) if self.bits == 4 else small, by_row(scale, weight)


class Half(nn.Module):
    """Reads a weight from a float16 or a bfloat16."""

    def __init__(self, bits: Bits):
        super().__init__()
        self.bits = bits

    def forward(self, half: Tensor) -> Tensor:
        return half.float()

    def right_inverse(self, weight: Tensor) -> tuple[Tensor]:
        return (to_half(weight, self.bits),)  # a tensor by itself may not have another type


def with_small_weights(model: Model, codecs: Mapping[str, Mapping[str, Any]]) -> Model:
    """A copy whose quantized weights are small, in eval mode and without gradients.

    Args:
        model: as :func:`~recdistill.export.bundle.load_model` gives it: its weights are on the grid, so that rounding
            them again changes nothing.
        codecs: how its tensors are stored, of ``model.json``.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    parameters = dict(model.named_parameters())
    for name, stored in codecs.items():
        codec = Codec(**stored)
        if codec.bits == 32 or name not in parameters:
            continue
        path, _, leaf = name.rpartition(".")
        rule = Half(codec.bits) if codec.bits in HALVES else Small(int(codec.bits), parameters[name].shape)
        parametrize.register_parametrization(model.get_submodule(path), leaf, rule, unsafe=True)
    for layers in [part for part in model.modules() if isinstance(part, nn.Sequential)]:
        _fold_norms(layers)
    return model


def _fold_norms(layers: nn.Sequential) -> None:
    """Batch normalisation behind a linear layer of small integers becomes a part of its scales and bias; behind others
    the exporter folds it."""
    for (_, linear), (name, norm) in pairwise(list(layers.named_children())):
        if isinstance(linear, nn.Linear) and isinstance(norm, nn.BatchNorm1d) and _is_small(linear) and norm.affine:
            scale = linear.get_parameter("parametrizations.weight.original1")
            if norm.running_mean is None or norm.running_var is None or len(scale) != linear.out_features:
                continue  # a weight of one column has one scale
            factor = norm.weight * (norm.running_var + norm.eps).rsqrt()
            before = -norm.running_mean if linear.bias is None else linear.bias - norm.running_mean
            scale.mul_(factor.unsqueeze(1))
            linear.bias = nn.Parameter(norm.bias + factor * before, requires_grad=False)
            setattr(layers, name, nn.Identity())


def _is_small(linear: nn.Linear) -> bool:
    return any(isinstance(part, Small) for part in linear.modules())
