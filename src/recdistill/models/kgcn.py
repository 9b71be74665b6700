"""KGCN: an item is seen through its neighbours in a knowledge graph, weighted by what matters to the user."""

from __future__ import annotations

import logging
from functools import cache
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from recdistill.data.csr import Csr
from recdistill.data.graph import KnowledgeGraph
from recdistill.data.interactions import Interactions, Schema
from recdistill.errors import InputError
from recdistill.models.base import VectorModel
from recdistill.models.dot import dot_scores, own_scores
from recdistill.models.encoders import table
from recdistill.models.neighbours import from_neighbours

log = logging.getLogger(__name__)
CHUNK = 1 << 22  # numbers of users' views of items that are held at a time: 16 MB of float32


class KGCN(VectorModel):
    """Score = u · f(e_i + Σ_n π_un e_n), with π_un the softmax of u · r_n over the neighbours n of item i, where r_n is
    the relation that joins them, and f(x) = tanh(W x + b) or f(x) = x.

    The vector of an item is another for each user, and still all items are ranked exactly: the weight of a neighbour
    depends on its relation alone. So Σ_n π_un e_n = Σ_r p_uir m_ir, where m_ir is the mean of the neighbours by
    relation r, computed once for all users, and p_uir, the softmax over r of u · r + log n_ir, is the weight of all
    n_ir of them together. No neighbour is left to chance. Without the layer the vector itself is not needed, only
    u · m_ir. What differs by user is held a chunk at a time, and made again for the gradient.

    An item without neighbours is f(e_i) to everybody; so is each where the data have no graph.

    Source: Wang et al., Knowledge graph convolutional networks for recommender systems, WWW 2019, eq. 1 to 4, one layer
    with the sum as aggregator, and all neighbours in place of a sample of them. A second layer would need the view
    that each user has of each entity. To leave f out is ours, as He et al., LightGCN, SIGIR 2020, did with NGCF.

    Args:
        schema: sizes of the data, and of the graph.
        dim: length of the vectors.
        layer: whether f is the layer of the paper; without, it is nothing.
        init_std: standard deviation of the initial vectors.

    Raises:
        InputError: it was built for a graph, and is bound to data without one.
    """

    indptr: Tensor
    indices: Tensor
    linked: Tensor
    row: Tensor
    start: Tensor
    member: Tensor
    log_count: Tensor

    def __init__(
        self,
        schema: Schema,
        dim: Annotated[int, Ge(1)] = 64,
        layer: bool = True,
        init_std: Annotated[float, Gt(0)] = 0.1,
    ):
        super().__init__(schema)
        self.user, self.item = table(schema.n_users, dim, init_std), table(schema.n_items, dim, init_std)
        self.entity = table(schema.n_entities, dim, init_std) if schema.n_entities else None
        self.relation = table(schema.n_relations, dim, init_std) if schema.n_relations else None
        self.mix = nn.Linear(dim, dim) if layer else None

    def bind(self, train: Interactions) -> None:
        attached = {"indptr": train.csr.indptr, "indices": train.csr.indices}
        if train.graph is not None:
            attached |= neighbourhoods(train.graph)
        elif self.relation is None:
            _say_that_it_has_no_graph()
        else:
            raise InputError(
                "this model was trained with a knowledge graph, and the data have none", where="data.kg",
                fix="data.kg=true",
            )  # fmt: skip
        for name, tensor in attached.items():
            self.register_buffer(name, tensor.to(self.user.weight.device), persistent=False)

    def vectors(self) -> tuple[Tensor, Tensor]:
        return self.user.weight, self.item.weight

    def scores(self, users: Tensor, items: Tensor | None = None) -> Tensor:
        return self._scores(self.user(users), items)

    def fold_in(self, history: Csr) -> Tensor:
        """As a user with the mean vector of the users whose histories are most alike."""
        seen = Csr(self.indptr, self.indices)
        return self._scores(from_neighbours(self.user.weight.float(), seen, history, self.schema.n_items), None)

    def _scores(self, user: Tensor, items: Tensor | None) -> Tensor:
        """Of users given by their vectors ``[B, d]``."""
        own: Tensor = self.item.weight if self.mix is None else self.mix(self.item.weight)
        alone = own if self.mix is None else own.tanh()
        if self.relation is None:
            return dot_scores(user, alone, torch.arange(user.shape[0], device=user.device), items)
        means = self._means()
        if items is None:
            viewed = self._viewed(user, own[self.linked], means[:-1], self.log_count[:-1])
            return (user @ alone.T).index_copy(1, self.linked, viewed)
        if items.dim() == 2:
            return self._viewed(user, own, means, self.log_count, items)
        row = self.row[items]
        return self._viewed(user, own[items], means[row], self.log_count[row])

    def _means(self) -> Tensor:
        """m_ir, or W m_ir, of linked items ``[L + 1, R, d]``; zeros for no neighbour, as in the last row."""
        entities = self.item.weight if self.entity is None else torch.cat([self.item.weight, self.entity.weight])
        means = F.embedding_bag(self.member, entities, self.start, mode="mean")
        means = means if self.mix is None else F.linear(means, self.mix.weight)
        return means.view(*self.log_count.shape, -1)

    def _viewed(
        self, user: Tensor, own: Tensor, means: Tensor, log_count: Tensor, items: Tensor | None = None
    ) -> Tensor:
        """Scores ``[B, K]`` of the same items for all users: ``own`` ``[K, d]``, ``means`` ``[K, R, d]`` and
        ``log_count`` ``[K, R]``; or of ``items`` ``[B, K]``, where these are of the catalogue."""
        pair = sum(means.shape[1:]) if items is None else means[0].numel()
        size = max(1, CHUNK // max(1, pair * (len(own) if items is None else items.shape[1])))
        users = torch.split(user, size)
        of_users = [None] * len(users) if items is None else torch.split(items, size)
        return torch.cat([self._chunk(u, own, means, log_count, i) for u, i in zip(users, of_users, strict=True)])

    def _chunk(self, *inputs: Tensor | None) -> Tensor:
        if not torch.is_grad_enabled():
            return self._view(*inputs)  # type: ignore[arg-type]
        scores: Tensor = checkpoint(self._view, *inputs, use_reentrant=False, preserve_rng_state=False)
        return scores

    def _view(self, user: Tensor, own: Tensor, means: Tensor, log_count: Tensor, items: Tensor | None) -> Tensor:
        assert self.relation is not None
        if items is not None:
            row = self.row[items]
            own, means, log_count = own[items], means[row], log_count[row]
        share = ((user @ self.relation.weight.T).unsqueeze(1) + log_count).softmax(-1)  # [b, K, R]
        if self.mix is None:
            near = torch.einsum("bd,krd->bkr" if items is None else "bd,bkrd->bkr", user, means)
            return (user @ own.T if items is None else own_scores(user, own)) + (share * near).sum(-1)
        near = torch.einsum("bkr,krd->bkd" if items is None else "bkr,bkrd->bkd", share, means)
        return torch.bmm((own + near).tanh(), user.unsqueeze(2)).squeeze(2)


@cache
def _say_that_it_has_no_graph() -> None:
    """Once, and not each time that a model is loaded."""
    log.warning("kgcn: the data have no knowledge graph, so that each item is the same to everybody (data.kg=true)")


def neighbourhoods(graph: KnowledgeGraph) -> dict[str, Tensor]:
    """The neighbours of items, by relation.

    Returns:
        ``linked`` int64 ``[L]``, the items with neighbours; ``row`` ``[n_items]``, the place of each in it, L for the
        others; ``member`` and ``start`` ``[(L + 1) · R]``, the neighbours of (place, relation) as bags; ``log_count``
        float32 ``[L + 1, R]``, the logarithm of how many these are, -inf for none. To place L belong the items without
        neighbours: its bags are empty, and its counts are those of one of each, so that their softmax exists.
    """
    entity, relation, neighbour = graph.both_ways
    of_item = entity < graph.n_items
    entity, relation, neighbour = entity[of_item], relation[of_item], neighbour[of_item]
    linked = torch.unique(entity)
    row = torch.full((graph.n_items,), len(linked))
    row[linked] = torch.arange(len(linked))
    bag = row[entity] * graph.n_relations + relation
    bag, order = bag.sort(stable=True)
    count = torch.bincount(bag, minlength=(len(linked) + 1) * graph.n_relations)
    log_count = count.float().log().view(-1, graph.n_relations)
    log_count[-1] = 0.0
    start = count.cumsum(0) - count
    return {"linked": linked, "row": row, "start": start, "member": neighbour[order], "log_count": log_count}
