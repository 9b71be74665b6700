"""Product quantization: a vector is cut into parts, and of each part the number of the nearest of 256 is kept."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from recdistill.models.tables.base import Table, builds_stored

CHUNK = 1 << 14  # rows that are compared with the centroids at once


class PQ(Table):
    """e_i = [C_1[c_i1]; …; C_P[c_iP]] with codes c of one byte and P codebooks of K parts of vectors.

    In training each row has a vector q_i behind its codes: c_ip is the nearest centroid of its part. The forward pass
    sees the centroids; their gradient is exact, and that of q_i is the one of e_i, straight through the choice. What
    keeps both together is ``commitment`` · ‖q_i - C[c_i]‖², relative to the mean square of the centroids. Only codes
    and codebooks are stored.

    Source: Jégou et al., Product quantization for nearest neighbor search, TPAMI 2011; trained in: Chen et al.,
    Differentiable product quantization for end-to-end embedding compression, ICML 2020, section 2.4 (DPQ-VQ), whose
    codebooks follow a loss of their own; here they have the gradient of the task.

    Bytes: rows · P + 4 · K · P · ⌈dim / P⌉.

    Args:
        rows, dim: see :class:`~recdistill.models.tables.base.Table`.
        init_std: standard deviation of the initial vectors.
        parts: P, at most ``dim``; the last is filled up with zeros where it does not divide ``dim``.
        codes: K, at most that many as there are rows.
        commitment: weight of the distance between a vector and its centroids in the loss, 0 for none.
    """

    codes: Tensor
    latent: nn.Parameter | None

    def __init__(
        self,
        rows: int,
        dim: int,
        init_std: float = 0.01,
        parts: Annotated[int, Ge(1)] = 8,
        codes: Annotated[int, Interval(ge=1, le=256)] = 256,
        commitment: Annotated[float, Ge(0)] = 0.01,
    ):
        super().__init__(rows, dim)
        self.parts, self.k, self.commitment = min(parts, dim), min(codes, rows), commitment
        self.width = -(-dim // self.parts)
        self.register_buffer("codes", torch.zeros(rows, self.parts, dtype=torch.uint8))
        self.codebook = nn.Parameter(torch.zeros(self.parts * self.k, self.width))
        self.latent = None
        if not builds_stored():
            self.latent, self.loose = nn.Parameter(init_std * torch.randn(rows, dim)), True
            with torch.no_grad():  # centroids start at random rows, which random vectors are in any order
                self.codebook.copy_(self._cut(self.latent)[: self.k].transpose(0, 1).reshape_as(self.codebook))

    def forward(self, ids: Tensor) -> Tensor:
        if self.latent is None:
            return self._decoded(self.codes[ids].long())
        vectors = nn.functional.embedding(ids, self.latent)
        decoded = self._decoded(self._nearest(vectors.detach().reshape(-1, self.dim)).view(*ids.shape, self.parts))
        # An exact zero is added, so that the answer is what will be stored to the last bit.
        return decoded + (vectors - vectors.detach())

    def _decoded(self, codes: Tensor) -> Tensor:
        """Vectors ``[..., dim]`` of codes int64 ``[..., P]``."""
        first = self.k * torch.arange(self.parts, device=codes.device)
        return nn.functional.embedding(codes + first, self.codebook).flatten(-2)[..., : self.dim]

    def _cut(self, vectors: Tensor) -> Tensor:
        """``[n, dim]`` as ``[n, P, width]``."""
        filled = nn.functional.pad(vectors, (0, self.parts * self.width - self.dim))
        return filled.view(-1, self.parts, self.width)

    @torch.no_grad()
    def _nearest(self, vectors: Tensor) -> Tensor:
        """The nearest centroids int64 ``[n, P]`` of vectors ``[n, dim]``; of equally near ones the first."""
        books = self.codebook.view(self.parts, self.k, self.width)
        return torch.cat([nearest(part, books) for part in torch.split(self._cut(vectors), CHUNK)])

    @property
    def nbytes(self) -> int:
        return self.rows * self.parts + 4 * self.k * self.parts * self.width

    def penalty(self) -> Tensor | None:
        held = super().penalty()
        if self.latent is None or not self.commitment:
            return held
        with torch.no_grad():
            centroids = self._decoded(self._nearest(self.latent))
            scale = self.commitment / centroids.square().mean().clamp(min=1e-12)
        apart = scale * (self.latent - centroids).square().mean()
        return apart if held is None else apart + held

    def require_sound(self) -> None:
        if int(self.codes.max()) >= self.k:
            raise ValueError(f"codes: there are {self.k} centroids, and a code {int(self.codes.max())}")

    def settle(self) -> None:
        if self.latent is not None:
            self.codes.copy_(self._nearest(self.latent))
            self.latent, self.loose = None, False

    def loosen(self) -> None:
        if self.latent is None:
            with torch.no_grad():
                self.latent = nn.Parameter(self._decoded(self.codes.long()).clone())
            self.loose = True

    @torch.no_grad()
    def fit(self, target: Tensor) -> None:
        cut = self._cut(target)
        books = torch.stack([kmeans(cut[:, part], self.k) for part in range(self.parts)])
        self.codebook.copy_(books.view_as(self.codebook))
        if self.latent is None:
            self.codes.copy_(self._nearest(target))
        else:
            self.latent.copy_(target)


def nearest(vectors: Tensor, books: Tensor) -> Tensor:
    """The nearest of ``[P, K, w]`` to each part of ``[n, P, w]``, int64 ``[n, P]``."""
    distance = books.square().sum(-1).unsqueeze(1) - 2 * vectors.transpose(0, 1) @ books.transpose(1, 2)  # [P, n, K]
    return distance.argmin(-1).T


def kmeans(points: Tensor, k: int, rounds: int = 25) -> Tensor:
    """Centroids ``[k, w]`` of points ``[n, w]``: Lloyd's algorithm from k-means++ (Arthur and Vassilvitskii, SODA
    2007), with random numbers of its own. A centroid that loses all of its points goes to the point that is worst off.
    As many centroids as points are the points."""
    if k >= len(points):
        return points[:k].clone()
    draw = torch.Generator().manual_seed(0)
    centroids = _spread_out(points, k, draw)
    for _ in range(rounds):
        own = torch.cat([nearest(part.unsqueeze(1), centroids.unsqueeze(0)) for part in torch.split(points, CHUNK)])[
            :, 0
        ]
        size = torch.bincount(own, minlength=k)
        means = torch.zeros_like(centroids).index_add(0, own, points) / size.clamp(min=1).unsqueeze(1)
        if bool((size == 0).any()):
            far = (points - means[own]).square().sum(1).topk(int((size == 0).sum())).indices
            means[size == 0] = points[far]
        if torch.equal(means, centroids):
            break
        centroids = means
    return centroids


def _spread_out(points: Tensor, k: int, draw: torch.Generator) -> Tensor:
    """Each next centroid is a point, drawn by its squared distance to the nearest one before."""
    chosen = [int(torch.randint(len(points), (), generator=draw))]
    left = torch.full((len(points),), torch.inf, dtype=points.dtype, device=points.device)
    for _ in range(k - 1):
        left = torch.minimum(left, (points - points[chosen[-1]]).square().sum(1))
        total = left.cumsum(0, dtype=torch.float64)
        at = torch.rand((), generator=draw, dtype=torch.float64).to(points.device) * total[-1]
        chosen.append(min(int(torch.searchsorted(total, at, right=True)), len(points) - 1))
    return points[torch.tensor(chosen, device=points.device)].clone()
