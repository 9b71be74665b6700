"""How a tensor is stored: dense or sparse, in 32, 8 or 4 bits per value.

Rows are quantized symmetrically, each with a float16 scale: value = code · scale. Sparse tensors keep one bit per
position and the values that are not zero, which pays from a sparsity of 1 / bits on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Bits = Literal[32, 8, 4]


@dataclass(frozen=True)
class Codec:
    """Attributes:
    bits: per stored value.
    sparse: whether zeros are left out.
    """

    bits: Bits = 32
    sparse: bool = False


def quantize_rows(weight: Tensor, bits: int, clip: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Codes and scales of symmetric quantization by row.

    Args:
        weight: float ``[n, d]``.
        bits: 8 or 4; codes are in ±(2^(bits-1) - 1).
        clip: share of each row's largest value that is still represented, ``[n]``; all of it by default.

    Returns:
        Integer-valued float codes ``[n, d]`` and float scales ``[n]``, which a float16 holds exactly.
    """
    top = 2 ** (bits - 1) - 1
    largest = weight.detach().abs().amax(1)
    scale = (largest if clip is None else largest * clip) / top
    scale = scale.half().float().clamp(min=torch.finfo(torch.float16).tiny)
    return (weight / scale[:, None]).round().clamp(-top, top), scale


def best_clip(weight: Tensor, bits: int, candidates: int = 12) -> Tensor:
    """The clip of each row with the least squared error among ``candidates`` between .5 and 1: ``[n]``."""
    best = torch.ones(len(weight), device=weight.device)
    least = torch.full_like(best, torch.inf)
    for share in torch.linspace(1.0, 0.5, candidates).tolist():
        codes, scale = quantize_rows(weight, bits, torch.full_like(best, share))
        error = (codes * scale[:, None] - weight).square().sum(1)
        better = error < least
        best, least = torch.where(better, share, best), torch.where(better, error, least)
    return best


def pack(weight: Tensor, codec: Codec, clip: Tensor | None = None) -> dict[str, Tensor]:
    """The tensors to write for one weight; :func:`unpack` is the inverse, exact where the weight is on the grid."""
    weight = weight.detach().cpu()
    stored: dict[str, Tensor] = {}
    values = weight
    if codec.bits != 32:
        codes, scale = quantize_rows(weight, codec.bits, clip)
        values = codes.to(torch.int8)
        stored["scale"] = scale.half()
    if codec.sparse:
        kept = values != 0
        stored["kept"] = pack_bits(kept.flatten())
        values = values[kept]
    stored["values"] = pack_nibbles(values.flatten()) if codec.bits == 4 else values.contiguous()
    return stored


def unpack(stored: dict[str, Tensor], codec: Codec, shape: tuple[int, ...]) -> Tensor:
    """float32 of ``shape``."""
    count = int(torch.Size(shape).numel())
    kept = unpack_bits(stored["kept"], count) if codec.sparse else None
    n_values = int(kept.sum()) if kept is not None else count
    values = unpack_nibbles(stored["values"], n_values) if codec.bits == 4 else stored["values"]
    if kept is None:
        full = values.float().reshape(shape)
    else:
        full = torch.zeros(count).masked_scatter_(kept, values.float().flatten()).reshape(shape)
    return full if codec.bits == 32 else full * stored["scale"].float()[:, None]


def pack_bits(flags: Tensor) -> Tensor:
    """bool ``[n]`` to uint8 ``[ceil(n / 8)]``."""
    padded = torch.nn.functional.pad(flags.to(torch.uint8), (0, -flags.numel() % 8)).view(-1, 8)
    return (padded << torch.arange(8, dtype=torch.uint8)).sum(1).to(torch.uint8)


def unpack_bits(packed: Tensor, count: int) -> Tensor:
    return ((packed[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1).flatten()[:count].bool()


def pack_nibbles(values: Tensor) -> Tensor:
    """int8 in [-7, 7], ``[n]``, to uint8 ``[ceil(n / 2)]``."""
    padded = (torch.nn.functional.pad(values, (0, values.numel() % 2)) + 8).to(torch.uint8).view(-1, 2)
    return padded[:, 0] | (padded[:, 1] << 4)


def unpack_nibbles(packed: Tensor, count: int) -> Tensor:
    return torch.stack([packed & 15, packed >> 4], 1).flatten()[:count].to(torch.int8) - 8


def codec_json(codecs: dict[str, Codec]) -> dict[str, Any]:
    return {name: asdict(codec) for name, codec in codecs.items()}
