"""Weights as small integers inside a graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from recdistill.export.packing import Codec, pack, unpack
from recdistill.export.small import with_small_weights
from recdistill.models.blocks import hidden_layers


@pytest.mark.parametrize("bits", [8, 4, 16])
def test_a_normalisation_goes_into_the_scales(bits: Any) -> None:
    """Against the layers themselves, in float64, with means, variances and factors that are not 0 and 1."""
    torch.manual_seed(0)
    layers = hidden_layers(6, [5, 4], batch_norm=True).eval()
    whole = nn.Sequential(layers, nn.Linear(4, 2)).eval()
    codecs = {}
    for name, weight in whole.named_parameters():
        if weight.dim() > 1:
            codecs[name] = {"bits": bits}
            weight.data = unpack(pack(weight.data, Codec(bits)), Codec(bits), weight.shape)
    for part in layers.modules():
        if isinstance(part, nn.BatchNorm1d):
            for values in (part.weight, part.bias, part.running_mean):
                nn.init.normal_(values)  # type: ignore[arg-type]
            nn.init.uniform_(part.running_var, 0.1, 3.0)  # type: ignore[arg-type]
    x = torch.randn(7, 6)
    found = with_small_weights(whole, codecs)  # type: ignore[type-var, arg-type]
    torch.testing.assert_close(found(x).double(), whole.double()(x.double()), atol=1e-6, rtol=1e-5)
    norms = [part for part in found.modules() if isinstance(part, nn.BatchNorm1d)]
    assert len(norms) == (2 if bits == 16 else 0)
