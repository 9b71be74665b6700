"""BPR-MF, LightGCN and NeuMF."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Batches = Iterator[tuple[Tensor, Tensor, Tensor]]


def train(
    parameters: list[nn.Parameter], loss_of: Callable[..., Tensor], batches: Callable[[], Iterator[Any]], epochs: int
) -> list[float]:
    """CPU seconds of each epoch."""
    optimizer, seconds = torch.optim.Adam(parameters, lr=1e-3, fused=True), []
    for _ in range(epochs):
        start = time.process_time()
        for batch in batches():
            optimizer.zero_grad()
            loss_of(*batch).backward()
            optimizer.step()
        seconds.append(time.process_time() - start)
    return seconds


def pairs(data: Any, batch_size: int, negatives: int) -> Callable[[], Batches]:
    """Users ``[B]``, their items ``[B]`` and items they have not seen ``[B, n]``, anew at every call."""
    user, item, n_items = data.train.user, data.train.item, data.train.n_items
    seen = torch.zeros(data.train.n_users * n_items, dtype=torch.bool)
    seen[user * n_items + item] = True

    def epoch() -> Batches:
        order = torch.randperm(len(user))
        owner = user[order].unsqueeze(1).expand(-1, negatives)
        drawn = torch.randint(n_items, owner.shape)
        while len(bad := seen[owner * n_items + drawn].nonzero()):
            drawn[bad[:, 0], bad[:, 1]] = torch.randint(n_items, (len(bad),))
        return zip(user[order].split(batch_size), item[order].split(batch_size), drawn.split(batch_size), strict=True)

    return epoch


def bpr(user: Tensor, item: Tensor, u: Tensor, i: Tensor, j: Tensor) -> Tensor:
    query = F.embedding(u, user)
    better, worse = (query * F.embedding(i, item)).sum(-1), (query * F.embedding(j.squeeze(1), item)).sum(-1)
    return F.softplus(worse - better).mean()


def mf(data: Any, cfg: dict[str, Any], epochs: int) -> list[float]:
    dim, batch_size = cfg["teacher"]["net"]["dim"], cfg["teacher"]["fit"]["batch_size"]
    user = nn.Parameter(torch.randn(data.train.n_users, dim) * 0.02)
    item = nn.Parameter(torch.randn(data.train.n_items, dim) * 0.02)
    return train([user, item], lambda u, i, j: bpr(user, item, u, i, j), pairs(data, batch_size, 1), epochs)


class Propagate(torch.autograd.Function):
    """A product with a symmetric sparse matrix."""

    @staticmethod
    def forward(ctx: Any, graph: Tensor, x: Tensor) -> Tensor:
        ctx.graph = graph
        return graph @ x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        return None, ctx.graph @ grads[0]


def graph_of(data: Any) -> Tensor:
    user, item = data.train.user, data.train.item + data.train.n_users
    size = data.train.n_users + data.train.n_items
    rows, columns = torch.cat([user, item]), torch.cat([item, user])
    degree = torch.bincount(rows, minlength=size).float()
    values = (degree[rows] * degree[columns]).rsqrt()
    return torch.sparse_coo_tensor(torch.stack([rows, columns]), values, (size, size)).coalesce().to_sparse_csr()


def lightgcn(data: Any, cfg: dict[str, Any], epochs: int) -> list[float]:
    net, graph = cfg["teacher"]["net"], graph_of(data)
    n_users = data.train.n_users
    table = nn.Parameter(torch.randn(len(graph), net["dim"]) * 0.04)

    def loss(u: Tensor, i: Tensor, j: Tensor) -> Tensor:
        x = total = table
        for _ in range(net["layers"]):
            x = Propagate.apply(graph, x)
            total = total + x
        total = total / (net["layers"] + 1)
        return bpr(total[:n_users], total[n_users:], u, i, j)

    return train([table], loss, pairs(data, cfg["teacher"]["fit"]["batch_size"], 1), epochs)


class NeuMF(nn.Module):
    def __init__(self, n_users: int, n_items: int, dim: int, layers: int):
        super().__init__()
        widths = [dim << n for n in reversed(range(layers))]
        self.user, self.item = nn.Embedding(n_users, dim), nn.Embedding(n_items, dim)
        self.user_deep, self.item_deep = nn.Embedding(n_users, widths[0]), nn.Embedding(n_items, widths[0])
        for table in (self.user, self.item, self.user_deep, self.item_deep):
            nn.init.normal_(table.weight, std=0.01)
        stack = [part for a, b in pairwise([2 * widths[0], *widths]) for part in (nn.Linear(a, b), nn.ReLU())]
        self.deep, self.out = nn.Sequential(*stack), nn.Linear(2 * dim, 1)

    def forward(self, u: Tensor, i: Tensor) -> Tensor:
        deep = self.deep(torch.cat([self.user_deep(u), self.item_deep(i)], -1))
        return self.out(torch.cat([self.user(u) * self.item(i), deep], -1)).squeeze(-1)


def neumf(data: Any, cfg: dict[str, Any], epochs: int) -> list[float]:
    teacher = cfg["teacher"]
    net, negatives = teacher["net"], teacher["objective"]["negatives"]
    model = NeuMF(data.train.n_users, data.train.n_items, net["dim"], net["layers"])

    def loss(u: Tensor, i: Tensor, j: Tensor) -> Tensor:
        items = torch.cat([i.unsqueeze(1), j], 1)
        logit = model(u.unsqueeze(1).expand_as(items).reshape(-1), items.reshape(-1)).view_as(items)
        return F.softplus(-logit[:, 0]).mean() + negatives * F.softplus(logit[:, 1:]).mean()

    return train(list(model.parameters()), loss, pairs(data, teacher["fit"]["batch_size"], negatives), epochs)
