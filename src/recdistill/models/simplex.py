"""SimpleX: a user is their vector and what they interacted with; the score is a cosine."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, normalize

from recdistill.data.csr import Csr
from recdistill.data.interactions import Interactions, Schema
from recdistill.models.base import FactorModel


class SimpleX(FactorModel):
    """Score = cos(g p_u + (1 - g) V m_u, q_i), with m_u the mean of the q of the user's items.

    Source: Mao et al., SimpleX: A simple and strong baseline for collaborative filtering, CIKM 2021, section 3.2, with
    average pooling; the loss of the paper is objective=ccl.

    Args:
        schema: sizes of the data.
        dim: length of the vectors.
        gate: g, the weight of the user's own vector.
        init_std: standard deviation of the initial vectors.
    """

    indptr: Tensor
    indices: Tensor

    def __init__(
        self,
        schema: Schema,
        dim: Annotated[int, Ge(1)] = 64,
        gate: Annotated[float, Interval(gt=0, lt=1)] = 0.5,
        init_std: Annotated[float, Gt(0)] = 0.1,
    ):
        super().__init__(schema)
        self.gate = gate
        self.user, self.item = nn.Embedding(schema.n_users, dim), nn.Embedding(schema.n_items, dim)
        self.map = nn.Linear(dim, dim, bias=False)  # V
        nn.init.normal_(self.user.weight, std=init_std)
        nn.init.normal_(self.item.weight, std=init_std)
        nn.init.eye_(self.map.weight)

    def bind(self, train: Interactions) -> None:
        device = self.item.weight.device
        self.register_buffer("indptr", train.csr.indptr.to(device), persistent=False)
        self.register_buffer("indices", train.csr.indices.to(device), persistent=False)

    def raw_factors(self) -> tuple[Tensor, Tensor]:
        return self.user.weight, self.item.weight

    def factors(self) -> tuple[Tensor, Tensor]:
        behaviour = self._behaviour(Csr(self.indptr, self.indices))
        user = self.gate * self.user.weight + (1 - self.gate) * behaviour
        return normalize(user, dim=-1), normalize(self.item.weight, dim=-1)

    def folded(self, history: Csr) -> Tensor:
        """What they interacted with is all that is known of them."""
        return normalize(self._behaviour(history).float(), dim=-1)

    def _behaviour(self, history: Csr) -> Tensor:
        """V m, ``[B, d]``; zeros for a user without any item."""
        mean: Tensor = self.map(embedding_bag(history.indices, self.item.weight, history.indptr[:-1], mode="mean"))
        return mean
