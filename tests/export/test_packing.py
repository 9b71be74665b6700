"""Stored and read back: exact on the grid, within half a step off it, for every shape."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recdistill.export.packing import (
    HALVES,
    Bits,
    Codec,
    as_rows,
    best_clip,
    codec_json,
    pack,
    pack_bits,
    pack_nibbles,
    quantize_rows,
    rounded,
    unpack,
    unpack_bits,
    unpack_nibbles,
)

BITS: tuple[Bits, ...] = (32, 16, "bf16", 8, 4)
CODECS = [Codec(bits, sparse) for bits in BITS for sparse in (False, True)]
TOP = {8: 127, 4: 7}


def random_table(rows: int, columns: int, seed: int, sparsity: float, exponent: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    table = torch.randn(rows, columns, generator=rng) * 10.0**exponent
    # Rows of very different sizes, and a row of nothing.
    table *= torch.logspace(-2, 2, rows)[:, None] if rows else 1.0
    table[torch.rand(rows, columns, generator=rng) < sparsity] = 0.0
    if rows > 2:
        table[1] = 0.0
    return table


def size_of(stored: dict[str, Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in stored.values())


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(CODECS), st.integers(0, 9), st.integers(1, 11), st.integers(0, 999),
    st.sampled_from([0.0, 0.3, 0.9, 1.0]), st.sampled_from([-35, -9, -4, 0, 5, 9, 30]), st.booleans(),
)  # fmt: skip
def test_round_trip(
    codec: Codec, rows: int, columns: int, seed: int, sparsity: float, exponent: int, clipped: bool
) -> None:
    table = random_table(rows, columns, seed, sparsity, exponent)
    clip = best_clip(table, int(codec.bits)) if clipped and codec.bits in (8, 4) else None
    first = unpack(pack(table, codec, clip), codec, (rows, columns))
    assert first.dtype == torch.float32
    assert bool(first.isfinite().all())
    if codec.bits == 32:
        assert torch.equal(first, table)
        return
    if codec.bits in HALVES:
        assert torch.equal(first, rounded(table, codec.bits))
        assert torch.equal(unpack(pack(first, codec), codec, (rows, columns)), first)
        return
    codes, scale = quantize_rows(table, int(codec.bits), clip)
    assert torch.equal(first, codes * scale[:, None])
    # What is on the grid is stored as it is, also without the clip that brought it there.
    assert torch.equal(unpack(pack(first, codec), codec, (rows, columns)), first)
    if clip is None:
        error = (first - table).abs()
        assert bool((error <= scale[:, None] * 0.5000001 + 1e-37).all())
        largest = as_rows(table).abs().amax(1) if rows else torch.zeros(0)
        assert bool((scale <= largest / TOP[codec.bits] * (1 + 2**-8) + 2e-38).all())


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e-3, 1.0, 1e6, 1e30])
def test_rows_of_any_size_keep_the_same_precision(bits: Bits, size: float) -> None:
    table = torch.linspace(-1, 1, 33)[None, :]
    small = unpack(pack(table * size, Codec(bits)), Codec(bits), (1, 33))
    assert float((small / size - table).abs().max()) < 0.51 / TOP[bits]


def test_int8_uses_its_whole_range() -> None:
    codes, _ = quantize_rows(torch.randn(50, 20), 8)
    assert float(codes.abs().amax(1).min()) == 127
    assert bool((codes == codes.round()).all())


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([8, 4]), st.integers(1, 6), st.integers(1, 30), st.integers(0, 999), st.integers(1, 15))
def test_the_best_clip_is_never_worse_than_none(bits: Bits, rows: int, columns: int, seed: int, tries: int) -> None:
    table = random_table(rows, columns, seed, 0.2)
    clip = best_clip(table, bits, tries)
    errors = []
    for share in (clip, torch.ones_like(clip)):
        codes, scale = quantize_rows(table, bits, share)
        errors.append(as_rows(codes * scale[:, None] - table).square().sum(1))
    assert bool((errors[0] <= errors[1]).all())
    assert bool(((clip >= 0.5) & (clip <= 1)).all())
    assert torch.equal(best_clip(table, bits, 1), torch.ones(rows if columns > 1 else 1))


def test_clipping_an_outlier_pays() -> None:
    table = torch.randn(1, 200)
    table[0, 0] = 5.5
    assert float(best_clip(table, 4)) < 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), max_size=40), st.lists(st.integers(-7, 7), max_size=40))
def test_bits_and_nibbles(flags: list[bool], values: list[int]) -> None:
    packed = pack_bits(torch.tensor(flags, dtype=torch.bool))
    assert packed.numel() == -(-len(flags) // 8)
    assert packed.tolist() == np.packbits(np.array(flags, dtype=bool), bitorder="little").tolist()
    assert unpack_bits(packed, len(flags)).tolist() == flags
    nibbles = pack_nibbles(torch.tensor(values, dtype=torch.int8))
    assert nibbles.numel() == -(-len(values) // 2)
    assert unpack_nibbles(nibbles, len(values)).tolist() == values


@pytest.mark.parametrize(
    ("codec", "sparsity", "ratio"),
    [
        (Codec(8), 0.0, (20 + 2) / 80), (Codec(4), 0.0, (10 + 2) / 80), (Codec(32, True), 0.5, 0.5 + 1 / 32),
        (Codec(8, True), 0.5, (10 + 2.5 + 2) / 80), (Codec(4, True), 0.5, (5 + 2.5 + 2) / 80),
    ],
)  # fmt: skip
def test_bytes_per_table(codec: Codec, sparsity: float, ratio: float) -> None:
    table = torch.randn(400, 20)
    table.view(-1)[table.abs().flatten().topk(int(8000 * sparsity), largest=False).indices] = 0.0
    stored = size_of(pack(table, codec)) / (400 * 20 * 4)
    # A value that rounds to zero is left out, too.
    assert stored == pytest.approx(ratio, rel=0.002) if not (codec.sparse and codec.bits < 32) else stored <= ratio


def test_a_scale_can_be_read_without_bfloat16() -> None:
    table = torch.randn(5, 4)
    stored = pack(table, Codec(8))
    scale = (stored["scale"].numpy().astype(np.int64) & 0xFFFF).astype(np.uint32) << 16
    decoded = stored["values"].numpy().astype(np.float32) * scale.view(np.float32)[:, None]
    np.testing.assert_array_equal(decoded, unpack(stored, Codec(8), (5, 4)))


@pytest.mark.parametrize("codec", CODECS)
def test_a_shape_that_does_not_fit_allocates_nothing(codec: Codec) -> None:
    stored = pack(torch.randn(6, 5), codec)
    for shape in ((6, 6), (5, 5), (10**6, 10**7), (0, 5)):
        with pytest.raises(ValueError, match="expected"):
            unpack(stored, codec, shape)
    with pytest.raises(ValueError, match="nothing found"):
        unpack({k: v for k, v in stored.items() if k != "values"}, codec, (6, 5))
    with pytest.raises(ValueError, match="expected"):
        unpack({**stored, "values": stored["values"].double()}, codec, (6, 5))


def test_codecs_are_plain_and_checked() -> None:
    assert codec_json({"a": Codec(4, True)}) == {"a": {"bits": 4, "sparse": True}}
    for bad in ((2, False), (8, "yes"), ("8", False)):
        with pytest.raises(ValueError, match="no way"):
            Codec(*bad)  # type: ignore[arg-type]


def test_other_precisions_are_stored_as_float32() -> None:
    table = torch.randn(3, 4).double()
    for codec in CODECS:
        assert unpack(pack(table, codec), codec, (3, 4)).dtype == torch.float32


def test_single_numbers_share_a_scale() -> None:
    """A scale for each would take twice the bytes of what it scales."""
    weights = torch.linspace(-3, 3, 101)[:, None]
    stored = pack(weights, Codec(8))
    assert sum(tensor.nbytes for tensor in stored.values()) == 101 + 2
    back = unpack(stored, Codec(8), (101, 1))
    assert float((back - weights).abs().max()) <= 3 / 127 / 2 * 1.01


@pytest.mark.parametrize("codec", CODECS)
def test_kernels_of_a_convolution_are_stored_like_their_rows(codec: Codec) -> None:
    kernels = random_table(6, 27, 3, 0.2).view(6, 3, 3, 3)
    stored, flat = pack(kernels, codec), pack(kernels.flatten(1), codec)
    back = unpack(stored, codec, (6, 3, 3, 3))
    assert torch.equal(back.flatten(1), unpack(flat, codec, (6, 27)))
    assert all(torch.equal(stored[name].flatten(), flat[name].flatten()) for name in flat)
    clip = best_clip(kernels, 4)
    assert torch.equal(clip, best_clip(kernels.flatten(1), 4))


# A few values in a hundred.


def scattered(rows: int, columns: int, share: float, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    kept = torch.rand(rows, columns, generator=rng) < share
    return torch.randn(rows, columns, generator=rng) * kept


@given(
    rows=st.integers(1, 40), columns=st.integers(1, 300), share=st.sampled_from([0.0, 0.004, 0.03, 0.5]),
    seed=st.integers(0, 10**6), bits=st.sampled_from([32, 8, 4]),
)  # fmt: skip
def test_few_values_come_back(rows: int, columns: int, share: float, seed: int, bits: Bits) -> None:
    table = scattered(rows, columns, share, seed)
    stored = pack(table, Codec(bits, sparse=True))
    back = unpack(stored, Codec(bits, sparse=True), (rows, columns))
    assert torch.equal(back, unpack(pack(table, Codec(bits)), Codec(bits), (rows, columns)))
    places = sum(stored[name].nbytes for name in ("kept", "indptr", "columns") if name in stored)
    assert places <= -(-table.numel() // 8)


def test_few_values_are_stored_as_scipy_does() -> None:
    table = scattered(300, 2000, 0.02)
    stored, theirs = pack(table, Codec(32, sparse=True)), sp.csr_matrix(table.numpy())
    np.testing.assert_array_equal(stored["indptr"].numpy(), theirs.indptr)
    np.testing.assert_array_equal(stored["columns"].numpy(), theirs.indices)
    np.testing.assert_array_equal(stored["values"].numpy(), theirs.data)
    assert [stored[name].dtype for name in ("indptr", "columns")] == [torch.int16, torch.int16]
    assert size_of(stored) == 301 * 2 + theirs.nnz * 6


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("indptr", lambda x: x.flip(0)), ("indptr", lambda x: x + 1), ("indptr", lambda x: x[:-1]),
        ("indptr", lambda x: x.float()), ("columns", lambda x: x + 1000), ("columns", lambda x: x - 1000),
        ("columns", lambda x: x * 0), ("columns", lambda x: x[:-1]), ("columns", lambda x: x.double()),
    ],
)  # fmt: skip
def test_damaged_places_are_refused(part: str, change: Callable[[Tensor], Tensor]) -> None:
    codec = Codec(32, sparse=True)
    stored = pack(scattered(50, 1000, 0.02), codec)
    with pytest.raises(ValueError, match=r"columns|indptr|values"):
        unpack({**stored, part: change(stored[part])}, codec, (50, 1000))


def test_sixteen_bits_are_those_of_numpy() -> None:
    """To the nearest, ties to even, with small numbers below the normal ones; the largest instead of infinity."""
    table = torch.cat([random_table(40, 30, 0, 0.1), torch.tensor([[1e-8, 6e-8, 1e-5, 2049.0, 2051.0] * 6])])
    with np.errstate(over="ignore"):
        wanted = table.numpy().astype(np.float16)
    stored = pack(table, Codec(16))["values"]
    assert stored.dtype == torch.float16
    assert np.array_equal(stored.numpy(), wanted)
    assert stored.nbytes * 2 == table.nbytes
    assert unpack(pack(torch.tensor([[7e4, -7e4]]), Codec(16)), Codec(16), (1, 2)).tolist() == [[65504.0, -65504.0]]


def test_bfloat16_is_the_upper_half_of_a_float32_rounded_to_even() -> None:
    table = random_table(40, 30, 1, 0.1, exponent=20)
    bits = table.numpy().view(np.uint32).astype(np.uint64)
    wanted = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    stored = pack(table, Codec("bf16"))["values"]
    assert stored.dtype == torch.int16
    assert np.array_equal(stored.numpy().view(np.uint16), wanted)
    assert np.array_equal(
        unpack({"values": stored}, Codec("bf16"), (40, 30)).numpy().view(np.uint32), wanted.astype(np.uint32) << 16
    )
