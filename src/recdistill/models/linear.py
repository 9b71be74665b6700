"""Item-item models: scores are a user's history times a matrix of item similarities."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import scipy.sparse as sp
import torch
from annotated_types import Ge, Gt
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.interactions import Interactions, Schema
from recdistill.errors import ResourceError
from recdistill.models.base import ClosedFormModel

MAX_DENSE_ITEMS = 40_000


class LinearItemModel(ClosedFormModel):
    """Score of item i for user u = Σ over j in the history of u of W[j, i].

    The history is the training part, attached by :meth:`bind`; ``weight`` is what was computed,
    ``[n_items, n_items]``.

    Raises:
        ResourceError: the catalogue is too large for a dense item-item matrix.
    """

    weight: Tensor
    indptr: Tensor
    indices: Tensor

    def __init__(self, schema: Schema):
        if schema.n_items > MAX_DENSE_ITEMS:
            raise ResourceError(
                f"{type(self).__name__} holds a dense matrix of {schema.n_items:,}² items; "
                f"the limit is {MAX_DENSE_ITEMS:,}",
                fix="raise data.filters.k_core, or take another model",
            )
        super().__init__(schema)
        self.register_buffer("weight", torch.zeros(schema.n_items, schema.n_items))

    def bind(self, train: Interactions) -> None:
        self.register_buffer("indptr", train.csr.indptr.to(self.weight.device), persistent=False)
        self.register_buffer("indices", train.csr.indices.to(self.weight.device), persistent=False)

    def scores(self, users: Tensor, items: Tensor | None = None) -> Tensor:
        row, item = Csr(self.indptr, self.indices).rows(users)
        offsets = torch.searchsorted(row, torch.arange(users.numel(), device=users.device))
        # A bag sums the rows of the history's items: a sparse-dense product without building the sparse
        # matrix.
        scores = torch.nn.functional.embedding_bag(item, self.weight, offsets, mode="sum")
        if items is None:
            return scores
        return scores[:, items] if items.dim() == 1 else scores.gather(1, items)


def history_matrix(train: Interactions) -> sp.csr_matrix:
    """0/1 float32 ``[n_users, n_items]``."""
    csr = train.csr
    ones = np.ones(len(csr.indices), np.float32)
    return sp.csr_matrix((ones, csr.indices.numpy(), csr.indptr.numpy()), (train.n_users, train.n_items))


class EASE(LinearItemModel):
    """W = −P / diag(P) off the diagonal, 0 on it, with P = (XᵀX + λI)⁻¹.

    Source: Steck, Embarrassingly shallow autoencoders for sparse data, WWW 2019, eq. 8.

    Args:
        schema: sizes of the data.
        l2: λ.
    """

    def __init__(self, schema: Schema, l2: Annotated[float, Gt(0)] = 250.0):
        super().__init__(schema)
        self.l2 = l2

    def fit(self, train: Interactions) -> None:
        history = history_matrix(train)
        gram = torch.from_numpy((history.T @ history).toarray()).double()
        gram.diagonal().add_(self.l2)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        weight = -inverse / inverse.diagonal()
        weight.fill_diagonal_(0)
        self.weight = weight.float()
        self.bind(train)


class ItemKNN(LinearItemModel):
    """W[j, i] = cosine similarity of the users of j and i, kept for the k nearest j of each i.

    Source: Deshpande and Karypis, Item-based top-N recommendation algorithms, TOIS 2004.

    Args:
        schema: sizes of the data.
        k: neighbours kept per item.
        shrinkage: added to the denominator, so that pairs with little evidence count less.
    """

    def __init__(self, schema: Schema, k: Annotated[int, Ge(1)] = 100, shrinkage: Annotated[float, Ge(0)] = 10.0):
        super().__init__(schema)
        self.k, self.shrinkage = k, shrinkage

    def fit(self, train: Interactions) -> None:
        history = history_matrix(train)
        common = torch.from_numpy((history.T @ history).toarray())
        norm = common.diagonal().clone().sqrt()
        # Below 1 only for an item without users: it must give 0, not 0 / 0.
        similarity = common / (norm[:, None] * norm[None, :] + self.shrinkage).clamp(min=1)
        similarity.fill_diagonal_(0)
        k = min(self.k, train.n_items)
        value, neighbour = similarity.topk(k, dim=0)  # [k, n_items]: the neighbours j of each column i
        self.weight = torch.zeros_like(similarity).scatter_(0, neighbour, value)
        self.bind(train)
