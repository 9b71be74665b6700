"""Prefixes, one inside the other, as in a matryoshka: trained together, and the one that is short enough is served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Gt, Le, MinLen
from torch import Tensor, nn

from recdistill.errors import InputError
from recdistill.models.tables.base import Table, builds_stored, svd_factors

Length = Annotated[float, Gt(0), Le(1)]


class MD(Table):
    """e_i = Σ_{j < p} E_ij M_j: the first p numbers of a row, in a basis M that is learned with them.

    A step of training has the mean loss over all prefixes p, so that the first numbers come to hold what matters most.
    Served, and stored, are the first s = round(serve · dim) columns of E and rows of M.

    Source: Kusupati et al., Matryoshka representation learning, NeurIPS 2022, eq. 1 with weights 1 / |prefixes|. M
    takes the place of their classifier for each prefix, whose weights are nested as in their MRL-E.

    Bytes: 4 · s · (rows + dim).

    Args:
        rows, dim: see :class:`~recdistill.models.tables.base.Table`.
        init_std: standard deviation of the initial vectors.
        serve: length of what is served, as a share of ``dim``.
        nested: lengths of the prefixes, as shares of ``dim``, among them ``serve``; None for ``serve``, twice as much,
            and so on up to 1.

    Raises:
        InputError: what is served is no prefix.
    """

    def __init__(
        self,
        rows: int,
        dim: int,
        init_std: float = 0.01,
        serve: Length = 0.25,
        nested: Annotated[Sequence[Length], MinLen(1)] | None = None,
    ):
        super().__init__(rows, dim)
        if nested is None:
            nested = [*(serve * 2**step for step in range(dim.bit_length()) if serve * 2**step < 1), 1.0]
        self.serve, *lengths = (max(1, round(share * dim)) for share in (serve, *nested))
        lengths = sorted(set(lengths))
        if self.serve not in lengths:
            raise InputError(
                f"prefixes of {lengths} numbers are trained, and {self.serve} are to be served", where="net.table",
                fix=f"net.table.serve={nested[0]:g}, or add {serve:g} to net.table.nested",
            )  # fmt: skip
        self.lengths, self.loose = lengths, not builds_stored() and len(lengths) > 1
        kept = lengths[-1] if self.loose else self.serve
        self.prefixes = tuple(lengths) if self.loose else ()
        self.read = kept  # columns, while it trains
        self.columns = nn.Parameter(init_std * torch.randn(rows, kept))
        self.basis = nn.Parameter(torch.eye(dim)[:kept].clone())

    def forward(self, ids: Tensor) -> Tensor:
        p = self.read if self.training else self.serve
        return nn.functional.embedding(ids, self.columns[:, :p]) @ self.basis[:p]

    @property
    def weight(self) -> Tensor:
        p = self.read if self.training else self.serve
        return self.columns[:, :p] @ self.basis[:p]

    @property
    def nbytes(self) -> int:
        return 4 * self.serve * (self.rows + self.dim)

    def settle(self) -> None:
        if self.loose:
            self.columns = nn.Parameter(self.columns.detach()[:, : self.serve].clone())
            self.basis = nn.Parameter(self.basis.detach()[: self.serve].clone())
            self.loose, self.prefixes, self.read = False, (), self.serve

    def loosen(self) -> None:
        """What lies behind the served prefix is gone; those inside it are trained again."""
        shorter = tuple(length for length in self.lengths if length <= self.serve)
        if not self.loose and len(shorter) > 1:
            self.loose, self.prefixes = True, shorter

    @torch.no_grad()
    def fit(self, target: Tensor) -> None:
        """The first p numbers are the p principal components, of every p."""
        left, right = svd_factors(target, self.columns.shape[1])
        self.columns.copy_(left)
        self.basis.copy_(right)
