"""iALS: matrix factorisation of implicit feedback by alternating least squares."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.interactions import Interactions, Schema
from recdistill.models.base import ClosedFormModel, FactorModel
from recdistill.models.least_squares import solve


class IALS(ClosedFormModel, FactorModel):
    """Minimises, by solving for all users and for all items in turn,

        Σ over pairs in S of (p_u·q_i − 1)² + α₀ Σ over all pairs of (p_u·q_i)²
        + λ (Σ_u (|I_u| + α₀ n_items)^ν |p_u|² + Σ_i (|U_i| + α₀ n_users)^ν |q_i|²)

    where S are the pairs of the training part, I_u the items of user u and U_i the users of item i.

    Source: Hu, Koren and Volinsky, Collaborative filtering for implicit feedback datasets, ICDM 2008, eq. 3 to 5, in
    the form and with the regularisation of Rendle, Krichene, Zhang and Koren, Revisiting the performance of iALS on
    item recommendation benchmarks, RecSys 2022, eq. 2 to 6.

    Args:
        schema: sizes of the data.
        dim: length of the vectors.
        epochs: times that all users and all items are solved for.
        l2: λ.
        unobserved: α₀, the weight of a pair beside that of a pair in S.
        nu: ν, how strongly the penalty grows with the number of pairs; 0 for the same for all, 1 for in proportion.
        init_std: standard deviation of the initial items, times √dim.
    """

    user: Tensor
    item: Tensor

    def __init__(
        self,
        schema: Schema,
        dim: Annotated[int, Ge(1)] = 64,
        epochs: Annotated[int, Ge(1)] = 16,
        l2: Annotated[float, Gt(0)] = 0.003,
        unobserved: Annotated[float, Gt(0)] = 0.3,
        nu: Annotated[float, Ge(0)] = 1.0,
        init_std: Annotated[float, Gt(0)] = 0.1,
    ):
        super().__init__(schema)
        self.epochs, self.l2, self.unobserved, self.nu = epochs, l2, unobserved, nu
        self.register_buffer("user", torch.zeros(schema.n_users, dim))
        self.register_buffer("item", torch.randn(schema.n_items, dim) * (init_std / dim**0.5))

    def factors(self) -> tuple[Tensor, Tensor]:
        return self.user, self.item

    def folded(self, history: Csr) -> Tensor:
        return self.solved(self.item, history)

    def fit(self, train: Interactions) -> None:
        users = Csr.from_pairs(train.item, train.user, train.n_items)
        for _ in range(self.epochs):
            self.user = self.solved(self.item, train.csr)
            self.item = self.solved(self.user, users)

    def solved(self, fixed: Tensor, partners: Csr) -> Tensor:
        """The best vectors of one side, ``[rows, d]``, where those of the other are given.

        Args:
            fixed: ``[n, d]``, vectors of the other side.
            partners: of each row, into ``fixed``.
        """
        gram = self.unobserved * (fixed.T @ fixed)
        penalty = self.l2 * (partners.counts().to(fixed.dtype) + self.unobserved * len(fixed)) ** self.nu
        return solve(fixed, partners, gram, penalty)
