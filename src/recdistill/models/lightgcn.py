"""LightGCN: matrix factorisation smoothed over the user-item graph."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import reduce
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from recdistill.data.interactions import Interactions, Schema
from recdistill.models.base import FactorModel
from recdistill.models.kept import Kept


class _Propagate(torch.autograd.Function):
    """A @ x for a symmetric sparse A: the gradient is A @ grad, which spares autograd the transpose."""

    @staticmethod
    def forward(ctx: Any, adjacency: Tensor, x: Tensor) -> Tensor:
        ctx.adjacency = adjacency
        return _product(adjacency, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        return None, _product(ctx.adjacency, grads[0])


def _product(adjacency: Tensor, x: Tensor) -> Tensor:
    """A @ x in single precision at least, whatever autocast says: sparse products have no half-precision kernels on a
    CPU."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        return torch.mm(adjacency.to(dtype), x.to(dtype))


class LightGCN(FactorModel):
    """E = mean over l of A^l E0, with A the graph normalised by the square roots of both degrees.

    Source: He et al., LightGCN, SIGIR 2020, eq. 3 to 8.

    Args:
        schema: sizes of the data.
        dim: length of the vectors.
        layers: propagation steps.
        init_std: standard deviation of the initial weights.
    """

    indptr: Tensor
    indices: Tensor
    values: Tensor

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
        self._kept = Kept[tuple[Tensor, Tensor]]()

    def bind(self, train: Interactions) -> None:
        graph = normalised_adjacency(train).to(self.user.weight.device)
        # In plain parts, because a sparse buffer can be neither copied nor broadcast; not persistent, because
        # they are derived.
        self.register_buffer("indptr", graph.crow_indices(), persistent=False)
        self.register_buffer("indices", graph.col_indices(), persistent=False)
        self.register_buffer("values", graph.values(), persistent=False)
        self._kept = Kept()

    def factors(self) -> tuple[Tensor, Tensor]:
        return self._kept.of(self.parameters(), self._propagate)

    def _propagate(self) -> tuple[Tensor, Tensor]:
        return self.split(reduce(torch.add, self.walk()) / (self.layers + 1))

    def walk(self, noise: float = 0.0) -> Iterator[Tensor]:
        """E^0 to E^layers, each ``[n_users + n_items, d]``: the vectors of both tables, and after each step.

        Args:
            noise: length of a random shift of every vector after each step, see :func:`shifted`.
        """
        x = torch.cat([self.user.weight, self.item.weight])
        graph = self.graph()
        yield x
        for _ in range(self.layers):
            x = _Propagate.apply(graph, x)  # type: ignore[no-untyped-call]
            if noise:
                x = shifted(x, noise)
            yield x

    def graph(self) -> Tensor:
        """A, sparse CSR ``[n_users + n_items]²``."""
        size = self.schema.n_users + self.schema.n_items
        return torch.sparse_csr_tensor(self.indptr, self.indices, self.values, (size, size), check_invariants=False)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of users and of items."""
        return x[: self.schema.n_users], x[self.schema.n_users :]

    def raw_factors(self) -> tuple[Tensor, Tensor]:
        return self.user.weight, self.item.weight


def shifted(x: Tensor, noise: float) -> Tensor:
    """Each row moved by a random vector of length ``noise`` in its own orthant: x + noise · sign(x) ⊙ r / |r|, where r
    is uniform in [0, 1)^d.

    Source: Yu et al., Are graph augmentations necessary?, SIGIR 2022, section 3.1.
    """
    direction = nn.functional.normalize(torch.rand_like(x), dim=-1)
    return x + noise * x.detach().sign() * direction


def normalised_adjacency(train: Interactions) -> Tensor:
    """Sparse CSR float32 ``[n_users + n_items]²``: 1 / sqrt(degree_u · degree_i) where u and i interacted."""
    csr = train.csr
    user = torch.repeat_interleave(torch.arange(train.n_users), csr.counts())
    return normalised_graph(user, csr.indices + train.n_users, train.n_users + train.n_items)


def normalised_graph(user: Tensor, item: Tensor, size: int) -> Tensor:
    """Sparse CSR float32 ``[size]²``: 1 / sqrt(degree · degree) at both ends of each edge between two nodes, int64
    ``[E]`` each."""
    degree = torch.bincount(torch.cat([user, item]), minlength=size).clamp(min=1).float()
    value = (degree[user] * degree[item]).rsqrt()
    rows, columns = torch.cat([user, item]), torch.cat([item, user])
    graph = torch.sparse_coo_tensor(torch.stack([rows, columns]), value.repeat(2), (size, size), check_invariants=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*CSR tensor support is in beta.*")
        # COO products are four times slower on CPU.
        return graph.coalesce().to_sparse_csr()
