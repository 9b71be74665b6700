"""NeuMF: a product of vectors beside a network that looks at both."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recdistill.data.csr import Csr
from recdistill.data.interactions import Interactions, Schema
from recdistill.models.base import VectorModel
from recdistill.models.dot import own_scores
from recdistill.models.neighbours import from_neighbours

CHUNK = 1 << 22  # numbers in a hidden layer that are held at a time: 16 MB of float32


class NeuMF(VectorModel):
    """Score = h · [p^G ∘ q^G ; φ_L(… φ_1([p^M ; q^M]))] with φ(x) = relu(W x + b).

    The first layer of the network is a sum of a part of the user and a part of the item, which are computed once for
    each; only what comes after is computed for each pair, a chunk at a time, and again for the gradient, so that
    all scores of a batch take the memory of their chunk. The vectors that a distiller compares are p^G and q^G.

    Source: He et al., Neural collaborative filtering, WWW 2017, eq. 12, without pre-training; the widths of the layers
    halve towards ``dim``, and the vectors of the network have the width of its first layer, as in section 4.1 there.

    Args:
        schema: sizes of the data.
        dim: predictive factors: length of the product, and width of the last layer.
        layers: of the network.
        init_std: standard deviation of the initial vectors.
    """

    indptr: Tensor
    indices: Tensor

    def __init__(
        self,
        schema: Schema,
        dim: Annotated[int, Ge(1)] = 16,
        layers: Annotated[int, Ge(1)] = 3,
        init_std: Annotated[float, Gt(0)] = 0.1,
    ):
        super().__init__(schema)
        widths = [dim << n for n in reversed(range(layers))]  # such as 64, 32, 16
        self.user, self.item = nn.Embedding(schema.n_users, dim), nn.Embedding(schema.n_items, dim)
        self.user_deep = nn.Embedding(schema.n_users, widths[0])
        self.item_deep = nn.Embedding(schema.n_items, widths[0])
        for table in (self.user, self.item, self.user_deep, self.item_deep):
            nn.init.normal_(table.weight, std=init_std)
        self.of_user = nn.Linear(widths[0], widths[0])
        self.of_item = nn.Linear(widths[0], widths[0], bias=False)
        self.later = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        # h, for the product and for the network, as a linear layer of both starts. From a dot product on, with ones,
        # the product overfits before the network has learned anything.
        self.out = nn.Parameter(torch.empty(2, dim).uniform_(-((2 * dim) ** -0.5), (2 * dim) ** -0.5))

    def bind(self, train: Interactions) -> None:
        device = self.out.device
        self.register_buffer("indptr", train.csr.indptr.to(device), persistent=False)
        self.register_buffer("indices", train.csr.indices.to(device), persistent=False)

    def vectors(self) -> tuple[Tensor, Tensor]:
        return self.user.weight, self.item.weight

    def scores(self, users: Tensor, items: Tensor | None = None) -> Tensor:
        return self._scores(self.user(users), self.user_deep(users), items)

    def fold_in(self, history: Csr) -> Tensor:
        """As a user with the mean vectors of the users whose histories are most alike."""
        tables = torch.cat([self.user.weight, self.user_deep.weight], 1).float()
        rows = from_neighbours(tables, Csr(self.indptr, self.indices), history, self.schema.n_items)
        dim = self.user.embedding_dim
        return self._scores(rows[:, :dim], rows[:, dim:], None)

    def _scores(self, user: Tensor, user_deep: Tensor, items: Tensor | None) -> Tensor:
        """Of users given by their vectors ``[B, d]`` and ``[B, h]``."""
        item, item_deep = self.item.weight, self.item_deep.weight
        if items is not None:
            item, item_deep = self.item(items), self.item_deep(items)  # [K, ·] or [B, K, ·]
        query, deep, item_deep = user * self.out[0], self.of_user(user_deep), self.of_item(item_deep)
        product = query @ item.T if item.dim() == 2 else own_scores(query, item)
        return product + self._deep(deep, item_deep)

    def _deep(self, user: Tensor, item: Tensor) -> Tensor:
        """What the network gives, ``[B, K]``, from the two parts ``[B, h]`` and ``[K, h]`` or ``[B, K, h]``."""
        pairs = max(1, CHUNK // user.shape[1])
        columns = []
        for part in torch.split(item, pairs, dim=-2):
            size = max(1, pairs // part.shape[-2])
            users = torch.split(user, size)
            parts = torch.split(part, size) if part.dim() == 3 else [part] * len(users)
            columns.append(torch.cat([self._chunk(u, i) for u, i in zip(users, parts, strict=True)]))
        return torch.cat(columns, -1)

    def _chunk(self, user: Tensor, item: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            chunk: Tensor = checkpoint(self._network, user, item, use_reentrant=False, preserve_rng_state=False)
            return chunk
        return self._network(user, item)

    def _network(self, user: Tensor, item: Tensor) -> Tensor:
        hidden = (user.unsqueeze(1) + item).relu()  # [b, K, h]
        for layer in self.later:
            hidden = layer(hidden).relu()
        return hidden @ self.out[1]
