"""Regularised least squares for many rows at once, each over a set of vectors of its own."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from recdistill.data.csr import Csr

# Numbers in the gathered vectors and normal equations of the rows that are solved together: 32 MB of float32.
CHUNK = 1 << 23


def solve(fixed: Tensor, partners: Csr, gram: Tensor, penalty: Tensor) -> Tensor:
    """For each row the x that minimises ``Σ over i in its set of (x·f_i − 1)² + xᵀ gram x + penalty |x|²``.

    Args:
        fixed: ``[n, d]``, the vectors f.
        partners: the set of each row, into ``fixed``.
        gram: ``[d, d]``, the same for all rows.
        penalty: ``[rows]``; above 0 where the rest leaves x undetermined.

    Returns:
        ``[rows, d]``; zeros for an empty set.
    """
    counts, dim = partners.counts(), fixed.shape[1]
    padded = torch.cat([fixed, fixed.new_zeros(1, dim)])  # what a row shorter than its chunk looks up
    result = fixed.new_zeros(len(counts), dim)
    for rows in chunks(counts, dim):
        vectors = padded[table(partners, rows, len(fixed))]  # [B, longest, d]
        normal = vectors.mT @ vectors + gram
        normal.diagonal(dim1=1, dim2=2).add_(penalty[rows, None])
        target = vectors.sum(1).unsqueeze(2)
        result[rows] = torch.cholesky_solve(target, torch.linalg.cholesky(normal)).squeeze(2)
    return result


def chunks(counts: Tensor, dim: int) -> Iterator[Tensor]:
    """All rows whose set is not empty, int64 ``[B]`` at a time, the longest first: rows of about one length, so that
    padding them costs little, and as many as :data:`CHUNK` allows."""
    order = counts.argsort(descending=True, stable=True)[: int(torch.count_nonzero(counts))]
    start = 0
    while start < len(order):
        longest = int(counts[order[start]])
        size = max(1, CHUNK // (longest * dim + 2 * dim * dim))
        yield order[start : start + size]
        start += size


def table(sets: Csr, rows: Tensor, filler: int) -> Tensor:
    """int64 ``[B, longest]``: the sets of some rows, filled up with ``filler``."""
    position, member = sets.rows(rows)
    counts = sets.counts()[rows]
    within = torch.arange(len(position), device=rows.device) - (counts.cumsum(0) - counts)[position]
    result = rows.new_full((len(rows), int(counts.max())), filler)
    result[position, within] = member
    return result
