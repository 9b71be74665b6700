"""Mixed dimensions: frequent rows have long vectors, rare ones short ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Gt, Le, MinLen
from torch import Tensor, nn

from recdistill.data.csr import smallest_integer
from recdistill.errors import InputError
from recdistill.models.tables.base import Table, svd_factors

Shares = Annotated[Sequence[Annotated[float, Gt(0), Le(1)]], MinLen(1)]


class Mixed(Table):
    """e_i = E_b[i'] P_b for a row of band b; without P_b where the vectors of the band have full length.

    The bands are cut from the rows in the order of how frequent they are in training, the most frequent first. Which
    place a row has in that order is stored.

    Source: Ginart et al., Mixed dimension embeddings with application to memory-efficient recommendation systems, ISIT
    2021, eq. 1 and 2. Sizes and lengths of the bands are settings here, and not their power of the frequency, so that
    the size of a file is known before the data are; under Zipf's law bands that each have three times the rows of the
    one before, and half the length, are their rule for α = .63.

    Bytes: 4 · Σ_b (n_b w_b + [w_b < dim] w_b dim) + rows · s, with s = 1, 2 or 4 for a number below ``rows``.

    Args:
        rows, dim: see :class:`~recdistill.models.tables.base.Table`.
        init_std: standard deviation of the initial vectors.
        rows_of: share of the rows in each band but the last, which has the rest.
        lengths: length of the vectors of each band, as a share of ``dim``.

    Raises:
        InputError: these do not fit together.
    """

    place: Tensor

    def __init__(
        self,
        rows: int,
        dim: int,
        init_std: float = 0.01,
        rows_of: Sequence[Annotated[float, Gt(0), Le(1)]] = (0.025, 0.075, 0.225),
        lengths: Shares = (0.5, 0.25, 0.125, 0.0625),
    ):
        super().__init__(rows, dim)
        if len(lengths) != len(rows_of) + 1 or sum(rows_of) > 1 + 1e-9:
            raise InputError(
                f"{len(lengths)} lengths of vectors for bands with shares {list(rows_of)} of the rows and the rest",
                where="net.table", fix="net.table.rows_of=[0.1] net.table.lengths=[1.0,0.25]: one length more",
            )  # fmt: skip
        ends = [min(rows, round(rows * sum(rows_of[: band + 1]))) for band in range(len(rows_of))]
        self.starts, self.ends = [0, *ends], [*ends, rows]
        self.lengths = [max(1, round(dim * length)) for length in lengths]
        sizes = [end - start for start, end in zip(self.starts, self.ends, strict=True)]
        self.bands = nn.ParameterList(
            nn.Parameter(init_std * torch.randn(size, width)) for size, width in zip(sizes, self.lengths, strict=True)
        )
        # A row of P_b has length 1 on average, as a row of the unit matrix: vectors of all bands start alike.
        self.maps = nn.ParameterList(
            nn.Parameter(torch.randn(width, dim) / width**0.5) for width in self.lengths if width < dim
        )
        self.register_buffer("place", torch.arange(rows).to(smallest_integer(max(rows - 1, 0))))

    def _map(self, band: int) -> Tensor | None:
        before = sum(width < self.dim for width in self.lengths[:band])
        return self.maps[before] if self.lengths[band] < self.dim else None

    def _decoded(self, band: int, vectors: Tensor) -> Tensor:
        matrix = self._map(band)
        return vectors if matrix is None else vectors @ matrix

    def forward(self, ids: Tensor) -> Tensor:
        place = self.place[ids].long()
        parts = []
        for band, (start, end) in enumerate(zip(self.starts, self.ends, strict=True)):
            if end > start:  # of every id, and 0 where it is of another band: a graph of tensors can't choose
                own = ((place >= start) & (place < end)).unsqueeze(-1)
                row = (place - start).clamp(0, end - start - 1)
                parts.append(self._decoded(band, nn.functional.embedding(row, self.bands[band])) * own)
        return torch.stack(parts).sum(0)

    @property
    def weight(self) -> Tensor:
        ordered = torch.cat([self._decoded(band, vectors) for band, vectors in enumerate(self.bands)])
        return nn.functional.embedding(self.place.long(), ordered)

    @property
    def nbytes(self) -> int:
        bands = zip(self.starts, self.ends, self.lengths, strict=True)
        numbers = sum((end - start) * width + (width < self.dim) * width * self.dim for start, end, width in bands)
        return 4 * numbers + self.rows * self.place.element_size()

    def count(self, counts: Tensor) -> None:
        """Among equals the lower row comes first."""
        order = counts.argsort(descending=True, stable=True).to(self.place.device)
        self.place[order] = torch.arange(self.rows, device=order.device).to(self.place.dtype)

    def require_sound(self) -> None:
        if not torch.equal(self.place.long().sort().values, torch.arange(self.rows, device=self.place.device)):
            raise ValueError(f"place: not the numbers from 0 to {self.rows - 1}, each once")

    @torch.no_grad()
    def fit(self, target: Tensor) -> None:
        ordered = torch.empty_like(target)
        ordered[self.place.long()] = target
        for band, (start, end) in enumerate(zip(self.starts, self.ends, strict=True)):
            matrix, wanted = self._map(band), ordered[start:end]
            if matrix is None:
                self.bands[band].copy_(wanted)
            elif end > start:
                left, right = svd_factors(wanted, self.lengths[band])
                # The map has rows of length 1 already; the band holds the scale.
                self.bands[band].copy_(left)
                matrix.copy_(right)
