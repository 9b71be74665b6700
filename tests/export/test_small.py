"""Weights as small integers inside a graph."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

from recdistill.export.packing import Codec, pack, unpack
from recdistill.export.small import with_small_weights
from recdistill.models.blocks import BatchNorm, hidden_layers


def test_what_can_not_be_folded_stays() -> None:
    """A weight of one column, which has one scale; a normalisation without factors; layers with names."""
    torch.manual_seed(0)
    named = {"linear": nn.Linear(1, 3, bias=False), "norm": BatchNorm(3), "next": nn.Linear(3, 2),
             "bare": nn.BatchNorm1d(2, affine=False), "last": nn.Linear(2, 4), "own": BatchNorm(4)}  # fmt: skip
    layers = nn.Sequential(OrderedDict(named)).eval()
    codecs = {}
    for name, weight in layers.named_parameters():
        if weight.dim() > 1:
            codecs[name] = {"bits": 8}
            weight.data = unpack(pack(weight.data, Codec(8)), Codec(8), weight.shape)
    layers.own.running_mean.normal_()  # type: ignore[union-attr, operator]
    found = with_small_weights(layers, codecs)  # type: ignore[type-var, arg-type]
    x = torch.randn(5, 1)
    torch.testing.assert_close(found(x).double(), layers.double()(x.double()), atol=1e-6, rtol=1e-5)
    assert [name for name, part in found.named_modules() if isinstance(part, nn.Identity)] == ["own"]


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
