"""Fewer, or more even, numbers for vectors: projections that are fitted to them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def narrowed(vectors: Tensor, length: int) -> tuple[Tensor, float]:
    """The vectors ``[m, d]`` in the ``length`` orthogonal directions that keep most of them: ``[m, length]``, and the
    share of their squares that is kept.

    An orthogonal projection onto the first right singular vectors (Eckart and Young, Psychometrika 1936), without
    centring, so that dot products are kept as well as so few numbers can.
    """
    size, direction = principal(vectors.double())
    kept = float(size[:length].sum() / size.sum().clamp(min=torch.finfo(size.dtype).tiny))
    return (vectors.double() @ direction[:, :length]).float(), kept


@dataclass(frozen=True)
class Space:
    """An affine map that was fitted to a catalogue, for its vectors and for those that come later.

    Attributes:
        mean: float64 ``[d]``, taken off first.
        directions: float64 ``[d, length]``.
    """

    mean: Tensor
    directions: Tensor

    def of(self, vectors: Tensor) -> Tensor:
        """The vectors ``[m, d]`` as float32 ``[m, length]``; rows of NaN stay so."""
        return ((vectors.double() - self.mean) @ self.directions).float()


def narrowing(vectors: Tensor, length: int) -> Space:
    """:func:`narrowed`, fitted to vectors ``[m, d]``."""
    _, direction = principal(vectors.double())
    return Space(direction.new_zeros(len(direction)), direction[:, :length])


def whitening(vectors: Tensor, length: int | None = None) -> Space:
    """(v - μ) W of vectors ``[m, d]``: of mean 0 and with covariance 1.

    W holds the first ``length`` principal directions, each over its standard deviation; directions in which the vectors
    don't differ are left out. Vectors of language models lie in a narrow cone, and are told apart
    better so.

    Source: Hou et al., Towards universal sequence representation learning for recommender systems (UniSRec), KDD 2022,
    section 3.1.1, and Zhang et al., Are ID embeddings necessary? Whitening pre-trained text embeddings (WhitenRec),
    ICDE 2024: in closed form here.

    Args:
        vectors: finite.
        length: of the result; None for all directions.
    """
    mean = vectors.double().mean(0)
    size, direction = principal(vectors.double() - mean)
    deviation = (size / len(vectors)).sqrt()
    length = min(length or len(size), int((deviation > 1e-6 * deviation[0]).sum()))
    return Space(mean, direction[:, :length] / deviation[:length])


def principal(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Squared lengths, descending ``[d]``, of float64 vectors ``[m, d]`` along the columns of ``[d, d]``.

    The sign of a direction is that of its largest entry, so that it does not depend on the library.
    """
    size, direction = torch.linalg.eigh(vectors.T @ vectors)  # ascending
    size, direction = size.flip(0).clamp(min=0), direction.flip(1)
    return size, direction * direction.gather(0, direction.abs().argmax(0, keepdim=True)).sign()
