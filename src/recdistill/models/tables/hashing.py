"""Hashing: rows share a smaller number of buckets, and each is the sum of several."""

from __future__ import annotations

import hashlib
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from recdistill.models.tables.base import Table, least_squares_sum

PRIME = 2_147_483_647  # 2^31 - 1: products of two numbers below it fit into 64 bits


class Hashing(Table):
    """e_i = Σ_{j < k} B[h_j(i)] with h_j(i) = ((a_j i + b_j) mod p) mod m.

    Two rows share all of their buckets only with a chance of about k! / m^k, so that a sum of k tells apart far more
    rows than there are buckets. The hash functions are a universal family (Carter and Wegman, JCSS 1979) whose a_j and
    b_j follow from ``seed``: nothing of them is stored.

    Source: Serrà and Karatzoglou, Getting deep recommenders fit: Bloom embeddings for sparse binary input/output
    networks, RecSys 2017; the hashing trick is of Weinberger et al., ICML 2009.

    Bytes: 4 · m · dim, with m = round(share · rows).

    Args:
        rows, dim: see :class:`~recdistill.models.tables.base.Table`.
        init_std: standard deviation of the initial vectors.
        share: buckets as a share of the rows.
        hashes: k, buckets of a row.
        seed: of the hash functions.
    """

    def __init__(
        self,
        rows: int,
        dim: int,
        init_std: float = 0.01,
        share: Annotated[float, Gt(0), Le(1)] = 0.125,
        hashes: Annotated[int, Ge(1)] = 2,
        seed: Annotated[int, Ge(0)] = 1,
    ):
        super().__init__(rows, dim)
        self.n_buckets = max(1, round(share * rows))
        self.buckets = nn.Parameter(torch.empty(self.n_buckets, dim))
        nn.init.normal_(self.buckets, std=init_std / hashes**0.5)
        self.hashes = [(_number(seed, 2 * j), _number(seed, 2 * j + 1)) for j in range(hashes)]

    def bucket(self, ids: Tensor) -> Tensor:
        """The buckets int64 ``[..., k]`` of ids ``[...]``."""
        return torch.stack([(a * ids + b) % PRIME % self.n_buckets for a, b in self.hashes], -1)

    def forward(self, ids: Tensor) -> Tensor:
        return nn.functional.embedding(self.bucket(ids), self.buckets).sum(-2)

    @property
    def nbytes(self) -> int:
        return 4 * self.n_buckets * self.dim

    @torch.no_grad()
    def fit(self, target: Tensor) -> None:
        index = self.bucket(torch.arange(self.rows, device=target.device))
        self.buckets.copy_(least_squares_sum(index, target, self.n_buckets))


def _number(seed: int, place: int) -> int:
    """One of 1 to p - 1, the same on every machine and in every version."""
    digest = hashlib.blake2b(f"{seed}:{place}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % (PRIME - 1) + 1
