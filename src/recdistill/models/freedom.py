"""FREEDOM: LightGCN beside a frozen graph of items whose pictures, sounds or texts are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize

from recdistill.data.interactions import Interactions, Schema
from recdistill.models.fusion import chosen
from recdistill.models.lightgcn import LightGCN, normalised_graph

CHUNK = 1024  # items whose similarities to all others are held at once


class FREEDOM(LightGCN):
    """Score = u · (v + h): u and v are LightGCN's vectors of user and item, h = S^L e walks from the items' own vectors
    over the graph of items S = Σ_m α_m S_m.

    S_m has 1 / k from an item to each of the k items whose vectors of kind m are most like its own by the cosine,
    itself among them, and never changes. In training, LightGCN walks over a part of the edges between users and items,
    drawn at every step, those between the popular less often: the odds of an edge are 1 / sqrt(degree_u · degree_i).

    Source: Zhou and Shen, A tale of two graphs: Freezing and denoising graph structures for multimodal recommendation,
    MM 2023, section 3. There the edges are drawn once an epoch, and the loss has a small term for scores by the vectors
    of each kind alone, which is left out.

    Args:
        schema: sizes of the data, and of the features of items.
        dim: length of the vectors.
        layers: steps over the graph of users and items.
        item_layers: L, steps over the graph of items.
        k: neighbours of an item.
        features: names of the vectors to look at; None for all.
        weights: α_m by name, above 0, 1 where not named; scaled to a sum of 1. None for equal ones.
        pruned: share of the edges that a training step leaves out.
        init_std: standard deviation of the initial weights.

    Raises:
        InputError: the items have no such vectors.
    """

    neighbours: Tensor
    shares: Tensor

    def __init__(
        self,
        schema: Schema,
        dim: Annotated[int, Ge(1)] = 64,
        layers: Annotated[int, Ge(1)] = 2,
        item_layers: Annotated[int, Ge(1)] = 1,
        k: Annotated[int, Ge(1)] = 10,
        features: Sequence[str] | None = None,
        weights: Mapping[str, Annotated[float, Gt(0)]] | None = None,
        pruned: Annotated[float, Interval(ge=0, lt=1)] = 0.8,
        init_std: Annotated[float, Gt(0)] = 0.1,
    ):
        super().__init__(schema, dim, layers, init_std)
        self.item_layers, self.k, self.pruned = item_layers, k, pruned
        self.kinds = list(chosen(schema.item_features, features, "FREEDOM", ("vector",))["vector"])
        self.weights = dict(weights or {})
        if self.weights:
            chosen(schema.item_features, list(self.weights), "FREEDOM", ("vector",), "net.weights")

    def bind(self, train: Interactions) -> None:
        super().bind(train)
        given = train.item_features.vector
        weight = torch.tensor([self.weights.get(kind, 1.0) for kind in self.kinds])
        found = [nearest(given[kind][: self.schema.n_items], self.k) for kind in self.kinds]  # [n_items, k] each
        shares = [
            part.expand(rows.shape) / rows.shape[1] for part, rows in zip(weight / weight.sum(), found, strict=True)
        ]
        device = self.item.weight.device
        self.register_buffer("neighbours", torch.cat(found, 1).to(device), persistent=False)
        self.register_buffer("shares", torch.cat(shares, 1).to(device), persistent=False)

    def _propagate(self) -> tuple[Tensor, Tensor]:
        user, item = super()._propagate()
        return user, item + self.alike()

    def alike(self) -> Tensor:
        """h, ``[n_items, dim]``: the items' own vectors, each the mean of those of items like it."""
        walked = self.item.weight
        for _ in range(self.item_layers):
            walked = embedding_bag(self.neighbours, walked, per_sample_weights=self.shares, mode="sum")
        return walked

    def graph(self) -> Tensor:
        if not (self.training and self.pruned):
            return super().graph()
        n_users, size = self.schema.n_users, self.schema.n_users + self.schema.n_items
        edges = int(self.indptr[n_users])  # those of users come first
        user = torch.repeat_interleave(
            torch.arange(n_users, device=self.indptr.device), self.indptr[: n_users + 1].diff()
        )
        left = drawn(self.values[:edges], max(1, round((1 - self.pruned) * edges)))
        return normalised_graph(user[left], self.indices[left], size)


def drawn(odds: Tensor, count: int) -> Tensor:
    """Places of ``count`` of the odds ``[n]``, positive, drawn one after another by these without putting back,
    ascending.

    Source: Efraimidis and Spirakis, Weighted random sampling with a reservoir, Information Processing Letters 2006.
    """
    waiting = torch.empty_like(odds).exponential_() / odds  # the first to arrive of so many clocks
    return waiting.topk(count, largest=False).indices.sort().values


def nearest(vectors: Tensor, k: int) -> Tensor:
    """The k rows of ``[n, d]`` with the largest cosine to each row, itself among them, int64 ``[n, k]``; as many as
    there are, where there are fewer. To a row of NaN only it itself is near, and to no other row is it."""
    known = vectors.isfinite().all(1)
    unit = normalize(vectors.nan_to_num().float(), dim=1)
    k = min(k, int(known.sum()))
    found = torch.cat([
        (rows @ unit.T).masked_fill(~known, -torch.inf).topk(k, 1).indices for rows in torch.split(unit, CHUNK)
    ])  # fmt: skip
    return found.where(known.unsqueeze(1), torch.arange(len(unit)).unsqueeze(1))
