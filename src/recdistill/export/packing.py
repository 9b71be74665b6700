"""How a tensor is stored: dense or sparse, in 32, 16, 8 or 4 bits per value.

16 bits are a float16 of IEEE 754, or with ``bf16`` a bfloat16, stored as the scales below are. In 8 and 4 bits rows are
quantized symmetrically, each with a scale of its own: value = code · scale. A scale is a bfloat16,
which has the range of a float32 in two bytes; it is stored as the int16 of the same bits, the upper half of
the float32, so that a reader without bfloat16 can decode it. Sparse tensors keep the values that are not zero, row
by row, and where these are: one bit per position, which pays from a sparsity of 1 / bits on, or where that takes less,
as for a few values in a hundred, the columns of each row (CSR: row n has those from ``indptr[n]`` to
``indptr[n + 1]``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from recdistill.data.csr import smallest_integer

Bits = Literal[32, 16, "bf16", 8, 4]
HALVES: dict[Any, torch.dtype] = {16: torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Codec:
    """Attributes:
    bits: per stored value.
    sparse: whether zeros are left out.

    Raises:
        ValueError: there is no such codec.
    """

    bits: Bits = 32
    sparse: bool = False

    def __post_init__(self) -> None:
        if self.bits not in (32, 16, "bf16", 8, 4) or not isinstance(self.sparse, bool):
            raise ValueError(f"there is no way to store {self.bits!r} bits, sparse={self.sparse!r}")


def rounded(weight: Tensor, bits: Bits, clip: Tensor | None = None) -> Tensor:
    """float32: the values that are stored. ``clip`` as in :func:`quantize_rows`, of 8 and 4 bits."""
    if bits in HALVES:
        return to_half(weight, bits).float()
    if bits == 32:
        return weight
    codes, scale = quantize_rows(weight, int(bits), clip)
    return codes * by_row(scale, codes)


def to_half(weight: Tensor, bits: Bits) -> Tensor:
    """In 16 bits, to the nearest; what is too large for them becomes the largest value that they have."""
    dtype = HALVES[bits]
    largest = torch.finfo(dtype).max
    return weight.clamp(-largest, largest).to(dtype)


def quantize_rows(weight: Tensor, bits: int, clip: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Codes and scales of symmetric quantization by row.

    Args:
        weight: float ``[n, d]``, or ``[n, ...]`` such as the kernels of a convolution: a row is all of one. Where that
            is a single number, all are one row: a scale for each would be larger than what it scales.
        bits: 8 or 4; codes are in ±(2^(bits-1) - 1).
        clip: share of each row's largest value that is still represented, ``[n]``; all of it by default.

    Returns:
        Integer-valued float codes of the weight's shape and float scales ``[rows]``, which a bfloat16 holds exactly.
    """
    top = 2 ** (bits - 1) - 1
    largest = as_rows(weight.detach()).abs().amax(1)
    scale = (largest if clip is None else largest * clip) / top
    scale = scale.bfloat16().float().clamp(min=torch.finfo(torch.bfloat16).tiny)
    return (weight / by_row(scale, weight)).round().clamp(-top, top), scale


def as_rows(weight: Tensor) -> Tensor:
    """``[n, ...]`` as ``[rows, d]``."""
    return weight.flatten(1) if count_rows(weight.shape) == len(weight) else weight.reshape(1, -1)


def count_rows(shape: Sequence[int]) -> int:
    """How many rows, each with a scale, a weight of this shape has."""
    return 1 if math.prod(shape[1:]) == 1 and shape[0] else shape[0]


def by_row(scale: Tensor, weight: Tensor) -> Tensor:
    """Scales ``[rows]`` in a shape that multiplies the rows of ``[n, ...]``."""
    return scale.view(-1, *[1] * (weight.dim() - 1))


def best_clip(weight: Tensor, bits: int, candidates: int = 12) -> Tensor:
    """The clip of each row with the least squared error among ``candidates`` between .5 and 1: ``[n]``."""
    best = torch.ones(count_rows(weight.shape), device=weight.device)
    least = torch.full_like(best, torch.inf)
    for share in torch.linspace(1.0, 0.5, candidates).tolist():
        codes, scale = quantize_rows(weight, bits, torch.full_like(best, share))
        error = as_rows(codes * by_row(scale, weight) - weight).square().sum(1)
        better = error < least
        best, least = torch.where(better, share, best), torch.where(better, error, least)
    return best


def pack(weight: Tensor, codec: Codec, clip: Tensor | None = None) -> dict[str, Tensor]:
    """The tensors to write for one weight; :func:`unpack` is the inverse, exact for a weight on the grid."""
    weight = weight.detach().cpu().float()
    stored: dict[str, Tensor] = {}
    values = weight
    if codec.bits in HALVES:
        values = to_half(weight, codec.bits)
    elif codec.bits != 32:
        codes, scale = quantize_rows(weight, int(codec.bits), clip)
        values = codes.to(torch.int8)
        stored["scale"] = scale.bfloat16().view(torch.int16)
    if codec.sparse:
        kept = values != 0
        stored |= pack_places(kept)
        values = values[kept]
    values = pack_nibbles(values.flatten()) if codec.bits == 4 else values.contiguous()
    stored["values"] = values.view(torch.int16) if codec.bits == "bf16" else values
    return stored


def unpack(stored: dict[str, Tensor], codec: Codec, shape: tuple[int, ...]) -> Tensor:
    """float32 of ``shape``.

    Raises:
        ValueError: what is stored does not have the size that the shape asks for; seen before anything is
            allocated.
    """
    count = math.prod(shape)
    kept = unpack_places(stored, shape) if codec.sparse else None
    scaled = codec.bits in (8, 4)
    if scaled:
        expect(stored, "scale", torch.int16, count_rows(shape))
    n_values = int(kept.sum()) if kept is not None else count
    expect(stored, "values", _STORED[codec.bits], -(-n_values // 2) if codec.bits == 4 else n_values)
    values = unpack_nibbles(stored["values"], n_values) if codec.bits == 4 else stored["values"]
    values = values.view(torch.bfloat16) if codec.bits == "bf16" else values
    if kept is None:
        full = values.float().reshape(shape)
    else:
        full = torch.zeros(count).masked_scatter_(kept, values.float().flatten()).reshape(shape)
    return full if not scaled else full * by_row(stored["scale"].view(torch.bfloat16).float(), full)


_STORED: dict[Bits, torch.dtype] = {
    32: torch.float32, 16: torch.float16, "bf16": torch.int16, 8: torch.int8, 4: torch.uint8,
}  # fmt: skip


def expect(stored: dict[str, Tensor], part: str, dtype: torch.dtype, count: int) -> None:
    """Raises ValueError where a stored part is missing or of another type or size."""
    found = stored.get(part)
    if found is None or found.dtype != dtype or found.numel() != count:
        seen = "nothing" if found is None else f"{found.numel()} × {found.dtype}"
        raise ValueError(f"{part}: {count} × {dtype} expected, {seen} found")


def pack_places(kept: Tensor) -> dict[str, Tensor]:
    """bool of a weight's shape to what takes fewer bytes: ``kept``, or ``indptr`` and ``columns``."""
    rows = kept.flatten(1) if kept.dim() > 1 else kept.unsqueeze(0)
    ends = torch.cat([torch.zeros(1, dtype=torch.int64), rows.sum(1).cumsum(0)])
    listed = {
        "indptr": ends.to(smallest_integer(int(ends[-1]))),
        "columns": rows.nonzero()[:, 1].to(smallest_integer(rows.shape[1])),
    }
    bits = pack_bits(kept.flatten())
    return listed if sum(part.nbytes for part in listed.values()) < bits.nbytes else {"kept": bits}


def unpack_places(stored: dict[str, Tensor], shape: tuple[int, ...]) -> Tensor:
    """bool ``[n]`` of all positions of a weight; the inverse of :func:`pack_places`.

    Raises:
        ValueError: they are not those of such a weight.
    """
    count = math.prod(shape)
    if "columns" not in stored:
        expect(stored, "kept", torch.uint8, -(-count // 8))
        return unpack_bits(stored["kept"], count)
    n_rows, width = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, count)
    n_kept = stored["columns"].numel()
    expect(stored, "columns", smallest_integer(width), n_kept)
    expect(stored, "indptr", smallest_integer(n_kept), n_rows + 1)
    columns, ends = stored["columns"].long(), stored["indptr"].long()
    lengths = ends.diff()
    sound = int(ends[0]) == 0 and int(ends[-1]) == n_kept and bool((lengths >= 0).all())
    if not sound or not bool(((columns >= 0) & (columns < width)).all()):
        raise ValueError(f"columns: not those of {n_rows} rows of {width}")
    kept = torch.zeros(count, dtype=torch.bool)
    kept[torch.repeat_interleave(torch.arange(n_rows), lengths) * width + columns] = True
    return kept


def pack_bits(flags: Tensor) -> Tensor:
    """bool ``[n]`` to uint8 ``[ceil(n / 8)]``."""
    return (_groups(flags.to(torch.uint8), 8) << torch.arange(8, dtype=torch.uint8)).sum(1).to(torch.uint8)


def unpack_bits(packed: Tensor, count: int) -> Tensor:
    return ((packed[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1).flatten()[:count].bool()


def pack_nibbles(values: Tensor) -> Tensor:
    """int8 in [-7, 7], ``[n]``, to uint8 ``[ceil(n / 2)]``."""
    low, high = (_groups(values, 2) + 8).to(torch.uint8).unbind(1)
    return low | (high << 4)


def unpack_nibbles(packed: Tensor, count: int) -> Tensor:
    return torch.stack([packed & 15, packed >> 4], 1).flatten()[:count].to(torch.int8) - 8


def _groups(values: Tensor, size: int) -> Tensor:
    """``[n]`` to ``[ceil(n / size), size]``, filled up with zeros."""
    count = -(-values.numel() // size)
    return torch.nn.functional.pad(values, (0, count * size - values.numel())).view(count, size)


def codec_json(codecs: dict[str, Codec]) -> dict[str, Any]:
    return {name: asdict(codec) for name, codec in codecs.items()}
