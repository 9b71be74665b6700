"""Random changes of histories and rows, for contrastive learning and for answers that should not depend on them.

Source: Xie et al., Contrastive learning for sequential recommendation (CL4SRec), ICDE 2022: crop, mask and reorder.

A history is a row of int64 ``[B, L]`` with ``pad`` behind its end; so is what becomes of it. Of a history of n items
the whole part of share · n is changed.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.rows import Rows


def crop(history: Tensor, pad: int, share: float, rng: torch.Generator) -> Tensor:
    """Items in a row that are kept, share · n of them and one at least; the rest is left out.

    An empty history stays so.
    """
    length = lengths(history, pad)
    kept = torch.minimum(part(length, share).clamp(min=1), length)
    place = torch.arange(history.shape[1], device=history.device)
    at = (_starts(length - kept, rng).unsqueeze(1) + place).clamp(max=history.shape[1] - 1)
    return torch.where(place < kept.unsqueeze(1), history.gather(1, at), pad)


def mask(history: Tensor, pad: int, share: float, token: int, rng: torch.Generator) -> Tensor:
    """``token`` in share · n places, drawn without repetition."""
    length = lengths(history, pad)
    noise = _noise(history, rng).masked_fill(history == pad, torch.inf)
    rank = noise.argsort(1).argsort(1)
    return torch.where(rank < part(length, share).unsqueeze(1), token, history)


def reorder(history: Tensor, pad: int, share: float, rng: torch.Generator) -> Tensor:
    """Items in a row, share · n of them, in random order; all others stay where they are."""
    length = lengths(history, pad)
    moved = part(length, share).unsqueeze(1)
    start = _starts(length - moved.squeeze(1), rng).unsqueeze(1)
    place = torch.arange(history.shape[1], device=history.device)
    inside = (place >= start) & (place < start + moved)
    # What moves gets a key between the place before the first of them and the place behind the last.
    key = torch.where(inside, start + _noise(history, rng) * moved, place.double())
    return history.gather(1, key.argsort(dim=1, stable=True))


def leave_out(history: Tensor, pad: int, share: float, rng: torch.Generator) -> Tensor:
    """The history without share · (n - 1) of its items, drawn without repetition; never without the last, which says
    most about what comes next."""
    earlier = (lengths(history, pad) - 1).clamp(min=0).unsqueeze(1)
    place = torch.arange(history.shape[1], device=history.device)
    noise = _noise(history, rng).masked_fill(place >= earlier, torch.inf)
    gone = noise.argsort(1).argsort(1) < part(earlier, share)
    return torch.where(gone, pad, history).gather(1, gone.long().argsort(dim=1, stable=True))


def blur(rows: Rows, share: float, noise: float, rng: torch.Generator) -> Rows:
    """Rows of which each field is unknown, and each number of a vector 0, with probability ``share``; Gaussian noise
    of deviation ``noise`` is added to all numbers that are left."""

    def known(*shape: int) -> Tensor:
        return torch.rand(shape, generator=rng, device=rows.categorical.device) >= share

    def blurred(numbers: Tensor) -> Tensor:
        errors = torch.randn(numbers.shape, generator=rng, device=numbers.device)
        return torch.where(known(*numbers.shape), numbers + noise * errors, 0.0)

    return replace(
        rows,
        categorical=torch.where(known(*rows.categorical.shape), rows.categorical, 0),
        numeric=blurred(rows.numeric),
        multi={name: _emptied(sets, known(len(rows))) for name, sets in sorted(rows.multi.items())},
        vector={name: blurred(vectors) for name, vectors in sorted(rows.vector.items())},
    )


def _emptied(sets: Csr, kept: Tensor) -> Csr:
    """The sets, empty where ``kept`` is False."""
    count = sets.counts()
    left = count * kept
    indptr = torch.cat([left.new_zeros(1), left.cumsum(0)])
    return Csr(indptr, sets.indices[torch.repeat_interleave(kept, count)])


def lengths(history: Tensor, pad: int) -> Tensor:
    """int64 ``[B]``."""
    return (history != pad).sum(1)


def part(length: Tensor, share: float) -> Tensor:
    """The whole part of share · n, int64 ``[B]``."""
    return (length.double() * share).floor().long()


def _starts(largest: Tensor, rng: torch.Generator) -> Tensor:
    """Of each row a whole number from 0 to ``largest``, int64 ``[B]``."""
    return (torch.rand(largest.shape, generator=rng, device=largest.device, dtype=torch.float64) * (largest + 1)).long()


def _noise(history: Tensor, rng: torch.Generator) -> Tensor:
    return torch.rand(history.shape, generator=rng, device=history.device, dtype=torch.float64)
