"""Tensor-train: the table is a product of three small tensors."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from recdistill.models.tables.base import Table

Shape = tuple[int, int, int]


class TT(Table):
    """e_i = G_1[i_1] · G_2[i_2] · G_3[i_3], with (i_1, i_2, i_3) the digits of i for the bases n_1, n_2, n_3.

    G_k[j] is a block of r_{k-1} × d_k × r_k numbers, with r_0 = r_3 = 1, r_1 = r_2 = ``rank`` and d_1 d_2 d_3 = dim:
    the product runs over the r, and the d_k are put together to one vector.

    Source: Oseledets, Tensor-train decomposition, SIAM J. Sci. Comput. 2011, for the form and :meth:`fit` (TT-SVD,
    algorithm 1); as a table that is trained Hrinchuk et al., Tensorized embedding layers, 2020; Yin et al., TT-Rec:
    tensor train compression for deep learning recommendation model embeddings, MLSys 2021.

    Bytes: 4 · (n_1 d_1 r + n_2 r d_2 r + n_3 r d_3), with n_k = about rows^(1/3).

    Args:
        rows, dim: see :class:`~recdistill.models.tables.base.Table`.
        init_std: standard deviation of the initial vectors.
        rank: r; at most as high as the table can have.
    """

    def __init__(self, rows: int, dim: int, init_std: float = 0.01, rank: Annotated[int, Ge(1)] = 16):
        super().__init__(rows, dim)
        self.bases, self.widths = bases_of(rows), widths_of(dim)
        sizes = [n * d for n, d in zip(self.bases, self.widths, strict=True)]
        first = min(rank, sizes[0], sizes[1] * sizes[2])
        self.ranks = (1, first, min(rank, sizes[2], first * sizes[1]), 1)
        # A vector is a sum of r_1 r_2 products of three: each has the deviation that makes it come out right.
        std = (init_std / math.sqrt(self.ranks[1] * self.ranks[2])) ** (1 / 3)
        self.cores = nn.ParameterList(
            nn.Parameter(std * torch.randn(n, self.ranks[k] * d * self.ranks[k + 1]))
            for k, (n, d) in enumerate(zip(self.bases, self.widths, strict=True))
        )

    def forward(self, ids: Tensor) -> Tensor:
        flat = ids.reshape(-1)
        n1, n2, n3 = self.bases
        digits = (
            torch.div(flat, n2 * n3, rounding_mode="floor") % n1,
            torch.div(flat, n3, rounding_mode="floor") % n2,
            flat % n3,
        )
        d1, d2, d3 = self.widths
        _, r1, r2, _ = self.ranks
        one, two, three = (nn.functional.embedding(digit, core) for digit, core in zip(digits, self.cores, strict=True))
        joined = one.view(-1, d1, r1) @ two.view(-1, r1, d2 * r2)  # [B, d1, d2 r2]
        whole = joined.view(-1, d1 * d2, r2) @ three.view(-1, r2, d3)  # [B, d1 d2, d3]
        return whole.reshape(*ids.shape, self.dim)

    @property
    def nbytes(self) -> int:
        (n1, n2, n3), (d1, d2, d3), (_, r1, r2, _) = self.bases, self.widths, self.ranks
        return 4 * (n1 * d1 * r1 + n2 * r1 * d2 * r2 + n3 * r2 * d3)

    @torch.no_grad()
    def fit(self, target: Tensor) -> None:
        (n1, n2, n3), (d1, d2, d3), (_, r1, r2, _) = self.bases, self.widths, self.ranks
        filled = nn.functional.pad(target.double(), (0, 0, 0, n1 * n2 * n3 - self.rows))
        tensor = filled.view(n1, n2, n3, d1, d2, d3).permute(0, 3, 1, 4, 2, 5)
        left, rest = _halves(tensor.reshape(n1 * d1, -1), r1)
        middle, right = _halves(rest.reshape(r1 * n2 * d2, n3 * d3), r2)
        self.cores[0].copy_(left.reshape(n1, d1 * r1))
        self.cores[1].copy_(middle.view(r1, n2, d2, r2).transpose(0, 1).reshape(n2, -1))
        self.cores[2].copy_(right.view(r2, n3, d3).transpose(0, 1).reshape(n3, -1))


def _halves(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """``[a, rank]`` with orthogonal columns and ``[rank, b]``, whose product is nearest to ``[a, b]``."""
    left, size, right = torch.linalg.svd(matrix, full_matrices=False)
    return left[:, :rank], size[:rank, None] * right[:rank]


def bases_of(rows: int) -> Shape:
    """Three numbers, about equal, whose product is at least ``rows``."""
    first = max(1, math.ceil(round(rows ** (1 / 3), 9)))
    rest = -(-rows // first)
    second = max(1, math.ceil(round(rest**0.5, 9)))
    return first, second, -(-rest // second)


def widths_of(dim: int) -> Shape:
    """Three numbers, as equal as there are, whose product is ``dim``; the largest last, where it costs least."""
    found = [
        (a, b, dim // (a * b))
        for a in range(1, dim + 1) if not dim % a
        for b in range(a, dim // a + 1) if not (dim // a) % b and b <= dim // (a * b)
    ]  # fmt: skip
    return min(found, key=lambda shape: (max(shape), shape))
