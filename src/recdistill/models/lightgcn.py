"""LightGCN: matrix factorisation smoothed over the user-item graph."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from recdistill.data.interactions import Interactions, Schema
from recdistill.models.base import FactorModel


class _Propagate(torch.autograd.Function):
    """A @ x for a symmetric sparse A: the gradient is A @ grad, which spares autograd the transpose."""

    @staticmethod
    def forward(ctx: Any, adjacency: Tensor, x: Tensor) -> Tensor:
        ctx.adjacency = adjacency
        # Sparse products have no half-precision kernels on CPU.
        return torch.mm(adjacency, x.float())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        return None, torch.mm(ctx.adjacency, grads[0].float())


class LightGCN(FactorModel):
    """E = mean over l of A^l E0, with A the graph normalised by the square roots of both degrees.

    Source: He et al., LightGCN, SIGIR 2020, eq. 3 to 8.

    Args:
        schema: sizes of the data.
        dim: length of the vectors.
        layers: propagation steps.
        init_std: standard deviation of the initial weights.
    """

    adjacency: Tensor

    def __init__(
        self,
        schema: Schema,
        dim: Annotated[int, Ge(1)] = 64,
        layers: Annotated[int, Ge(1)] = 3,
        init_std: Annotated[float, Gt(0)] = 0.1,
    ):
        super().__init__(schema)
        self.layers = layers
        self.user = nn.Embedding(schema.n_users, dim)
        self.item = nn.Embedding(schema.n_items, dim)
        nn.init.normal_(self.user.weight, std=init_std)
        nn.init.normal_(self.item.weight, std=init_std)
        self._cache: tuple[object, tuple[Tensor, Tensor]] | None = None

    def bind(self, train: Interactions) -> None:
        # CSR, because COO products are four times slower on CPU; not persistent, because it is derived.
        adjacency = normalised_adjacency(train).to(self.user.weight.device)
        self.register_buffer("adjacency", adjacency, persistent=False)
        self._cache = None

    def factors(self) -> tuple[Tensor, Tensor]:
        if self.training or torch.is_grad_enabled():
            return self._propagate()
        # The originals, too, of weights that are parametrized; the address, because .to() keeps the version.
        version = [(p.data_ptr(), p._version) for p in self.parameters()]
        if self._cache is None or self._cache[0] != version:
            self._cache = (version, self._propagate())
        return self._cache[1]

    def _propagate(self) -> tuple[Tensor, Tensor]:
        x = torch.cat([self.user.weight, self.item.weight])  # [n_users + n_items, d]
        total = x
        for _ in range(self.layers):
            x = _Propagate.apply(self.adjacency, x)  # type: ignore[no-untyped-call]
            total = total + x
        mean = total / (self.layers + 1)
        return mean[: self.schema.n_users], mean[self.schema.n_users :]

    def raw_factors(self) -> tuple[Tensor, Tensor]:
        return self.user.weight, self.item.weight

    def train(self, mode: bool = True) -> LightGCN:
        self._cache = None
        super().train(mode)
        return self


def normalised_adjacency(train: Interactions) -> Tensor:
    """Sparse CSR float32 ``[n_users + n_items]²``: 1 / sqrt(degree_u · degree_i) where u and i interacted."""
    csr = train.csr
    user = torch.repeat_interleave(torch.arange(train.n_users), csr.counts())
    item = csr.indices + train.n_users
    size = train.n_users + train.n_items
    degree = torch.bincount(torch.cat([user, item]), minlength=size).clamp(min=1).float()
    value = (degree[user] * degree[item]).rsqrt()
    rows, columns = torch.cat([user, item]), torch.cat([item, user])
    return torch.sparse_coo_tensor(
        torch.stack([rows, columns]), value.repeat(2), (size, size), check_invariants=False
    ).coalesce().to_sparse_csr()  # fmt: skip
