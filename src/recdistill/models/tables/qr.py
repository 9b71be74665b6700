"""Quotient and remainder: a row is made of a row of two small tables, and no two rows of the same two."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Gt, Le
from torch import Tensor, nn

from recdistill.models.tables.base import Table, least_squares_sum


class QR(Table):
    """e_i = R[i mod m] ∘ Q[⌊i / m⌋], or their sum.

    Source: Shi et al., Compositional embeddings using complementary partitions for memory-efficient recommendation
    systems, KDD 2020, section 3.1; ``mult`` is the best of their operations.

    Bytes: 4 · dim · (m + ⌈rows / m⌉), with m = round(share · rows).

    Args:
        rows, dim: see :class:`~recdistill.models.tables.base.Table`.
        init_std: standard deviation of the initial vectors.
        share: remainders as a share of the rows; None for √rows of them, the fewest bytes there are.
        how: the two are multiplied or added.
    """

    def __init__(
        self,
        rows: int,
        dim: int,
        init_std: float = 0.01,
        share: Annotated[float, Gt(0), Le(1)] | None = 0.125,
        how: Literal["mult", "add"] = "mult",
    ):
        super().__init__(rows, dim)
        self.how = how
        self.m = max(1, round(rows**0.5 if share is None else share * rows))
        self.remainder = nn.Parameter(torch.empty(self.m, dim))
        self.quotient = nn.Parameter(torch.empty(-(-rows // self.m), dim))
        # The product, or the sum, has the deviation that is asked for.
        std = init_std**0.5 if how == "mult" else init_std / 2**0.5
        for part in (self.remainder, self.quotient):
            nn.init.normal_(part, std=std)

    def forward(self, ids: Tensor) -> Tensor:
        rest = nn.functional.embedding(ids % self.m, self.remainder)
        whole = nn.functional.embedding(torch.div(ids, self.m, rounding_mode="floor"), self.quotient)
        return rest * whole if self.how == "mult" else rest + whole

    @property
    def nbytes(self) -> int:
        return 4 * self.dim * (self.m + -(-self.rows // self.m))

    @torch.no_grad()
    def fit(self, target: Tensor, rounds: int = 30) -> None:
        ids = torch.arange(self.rows, device=target.device)
        rest, whole = ids % self.m, torch.div(ids, self.m, rounding_mode="floor")
        if self.how == "add":
            both = least_squares_sum(torch.stack([rest, self.m + whole], 1), target, self.m + len(self.quotient))
            self.remainder.copy_(both[: self.m])
            self.quotient.copy_(both[self.m :])
            return
        # Of each column the best matrix of rank one, [quotients, m], by alternating least squares.
        wanted = target.double()
        left, right = torch.ones_like(self.quotient, dtype=torch.float64), wanted.new_zeros(self.m, self.dim)
        for _ in range(rounds if len(left) > 1 else 1):
            right = _regressed(wanted, left[whole], rest, right)
            if len(left) > 1:
                left = _regressed(wanted, right[rest], whole, left)
        self.remainder.copy_(right)
        self.quotient.copy_(left)


def _regressed(target: Tensor, given: Tensor, group: Tensor, like: Tensor) -> Tensor:
    """Of each group and column the factor x with least Σ (x · given - target)², in the shape of ``like``; 0 where
    nothing is given."""
    top = torch.zeros_like(like).index_add(0, group, given * target)
    below = torch.zeros_like(like).index_add(0, group, given.square())
    return top / below.clamp(min=torch.finfo(like.dtype).tiny)
