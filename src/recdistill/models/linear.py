"""Item-item models: scores are a user's history times a matrix of item similarities."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import scipy.sparse as sp
import torch
from annotated_types import Ge, Gt
from scipy.linalg import lapack
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.interactions import Interactions, Schema
from recdistill.errors import InputError, ResourceError
from recdistill.models.base import ClosedFormModel, SetModel

GIB = 2**30
BLOCK = 1024  # items at a time, where a whole matrix is not needed at once


class LinearItemModel(ClosedFormModel, SetModel):
    """Score of item i for user u = Σ over j in the history of u of W[j, i].

    The history is the training part, attached by :meth:`bind`; ``weight`` is what was computed,
    ``[n_items, n_items]``.

    Raises:
        ResourceError: there is not the memory for a dense item-item matrix.
    """

    weight: Tensor
    indptr: Tensor
    indices: Tensor

    def __init__(self, schema: Schema):
        require_memory(type(self).__name__, schema.n_items, 4)
        super().__init__(schema)
        self.register_buffer("weight", torch.zeros(schema.n_items, schema.n_items))

    def bind(self, train: Interactions) -> None:
        self.register_buffer("indptr", train.csr.indptr.to(self.weight.device), persistent=False)
        self.register_buffer("indices", train.csr.indices.to(self.weight.device), persistent=False)

    def scores(self, users: Tensor, items: Tensor | None = None) -> Tensor:
        scores = self.fold_in(Csr(self.indptr, self.indices).take(users))
        if items is None:
            return scores
        return scores[:, items] if items.dim() == 1 else scores.gather(1, items)

    def fold_in(self, history: Csr) -> Tensor:
        # A bag sums the rows of the history's items: a sparse-dense product without building the sparse
        # matrix.
        return torch.nn.functional.embedding_bag(history.indices, self.weight, history.indptr[:-1], mode="sum")

    def score_sets(self, sets: Tensor) -> Tensor:
        return sets @ self.weight


def history_matrix(train: Interactions) -> sp.csr_matrix:
    """0/1 float32 ``[n_users, n_items]``."""
    csr = train.csr
    ones = np.ones(len(csr.indices), np.float32)
    return sp.csr_matrix((ones, csr.indices.numpy(), csr.indptr.numpy()), (train.n_users, train.n_items))


def gram_blocks(matrix: sp.csr_matrix) -> Iterator[tuple[slice, np.ndarray]]:
    """The columns of XᵀX, some at a time: which, and the dense ``[n_items, B]``."""
    columns = matrix.tocsc()
    for start in range(0, matrix.shape[1], BLOCK):
        part = slice(start, min(start + BLOCK, matrix.shape[1]))
        yield part, (columns.T @ columns[:, part]).toarray()


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
        """Compute W, in one matrix of float64 beside W itself.

        Raises:
            ResourceError: there is not the memory for it.
            InputError: λ is so small that the matrix has no inverse.
        """
        require_memory("EASE", train.n_items, 8 + 4)
        gram = np.empty((train.n_items, train.n_items), order="F")
        for part, block in gram_blocks(history_matrix(train)):
            gram[:, part] = block
        np.einsum("ii->i", gram)[:] += self.l2
        # In place, where torch would hold four such matrices.
        factor, failed = lapack.dpotrf(gram, lower=1, overwrite_a=1)
        if failed:
            raise InputError(
                f"l2={self.l2:g} is too small for these data: XᵀX + λI has no inverse in double precision",
                where="net.l2", fix="net.l2=1 or more",
            )  # fmt: skip
        inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
        self.weight = negative_ratios(inverse)
        self.bind(train)


def negative_ratios(lower: np.ndarray) -> Tensor:
    """−P[j, i] / P[i, i] off the diagonal and 0 on it, float32, of a symmetric P whose lower triangle is given."""
    size, diagonal = len(lower), lower.diagonal()
    weight = torch.empty(size, size)
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        below = np.tril(lower[:, start:stop], -start)  # columns of the block, from the diagonal down
        own = below[start:stop]
        below[start:stop] = own + np.tril(own, -1).T
        weight[start:, start:stop] = torch.from_numpy(below[start:] / -diagonal[start:stop])
        weight[start:stop, stop:] = torch.from_numpy((below[stop:] / -diagonal[stop:, None]).T)
    return weight.fill_diagonal_(0)


class ItemKNN(LinearItemModel):
    """W[j, i] = cosine similarity of the users of j and i, kept for the k nearest j of each i.

    Source: Deshpande and Karypis, Item-based top-N recommendation algorithms, TOIS 2004; shrinkage and weighting as
    tuned by Ferrari Dacrema et al., Are we really making much progress?, RecSys 2019.

    Args:
        schema: sizes of the data.
        k: neighbours kept per item.
        shrinkage: added to the denominator, so that pairs with little evidence count less.
        idf: whether users with long histories count for less: the similarities are those of TF-IDF. (Of 0/1 data,
            BM25 differs from it by a factor for each item, which the cosine takes out again.)
    """

    sparse = ("weight",)

    def __init__(
        self,
        schema: Schema,
        k: Annotated[int, Ge(1)] = 100,
        shrinkage: Annotated[float, Ge(0)] = 10.0,
        idf: bool = False,
    ):
        super().__init__(schema)
        self.k, self.shrinkage, self.idf = k, shrinkage, idf

    def fit(self, train: Interactions) -> None:
        history = idf_weighted(history_matrix(train)) if self.idf else history_matrix(train)
        norm = torch.from_numpy(np.sqrt(np.asarray(history.multiply(history).sum(0))).ravel())
        weight, k = torch.zeros_like(self.weight), min(self.k, train.n_items)
        for part, block in gram_blocks(history):
            # An item without users has a norm of 0: it must give 0, not 0 / 0.
            scale = norm[:, None] * norm[None, part] + self.shrinkage
            similarity = torch.from_numpy(block) / scale.masked_fill(scale == 0, 1)  # [n_items, B]
            similarity[part].fill_diagonal_(0)
            value, neighbour = similarity.topk(k, dim=0)  # [k, B]: the neighbours j of each column i
            weight[:, part].scatter_(0, neighbour, value)
        self.weight = weight
        self.bind(train)


def idf_weighted(history: sp.csr_matrix) -> sp.csr_matrix:
    """Each user's row times log(1 + n_items / |I_u|), scaled to a mean square of 1 over all pairs, so that shrinkage
    means as much as without."""
    length = np.diff(history.indptr)
    factor = np.log1p(history.shape[1] / np.maximum(length, 1))
    factor /= np.sqrt((factor**2 * length).sum() / max(length.sum(), 1))
    return (sp.diags(factor.astype(np.float32)) @ history).tocsr()


def require_memory(model: str, n_items: int, bytes_each: int) -> None:
    """Refuse a dense matrix over pairs of items that memory has no room for, before it is allocated.

    Raises:
        ResourceError: it would not fit.
    """
    needed, free = n_items**2 * bytes_each, free_memory()
    if needed > free:
        raise ResourceError(
            f"{model} needs {needed / GIB:,.1f} GiB of memory, {free / GIB:,.1f} GiB are free",
            why=f"it holds a dense matrix over {n_items:,}² pairs of items, {bytes_each} bytes each",
            fix="raise data.filters.k_core, or take ials, whose memory grows with items instead of their square",
        )


def free_memory() -> int:
    """Bytes that can be allocated, within the limit of a container where there is one; all memory where the system
    does not say."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with contextlib.suppress(OSError):
        facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(int(facts["MemAvailable"].split()[0]) * 1024)
    with contextlib.suppress(OSError, ValueError):  # "max" is no limit
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        found.append(limit - used)
    return min(found)
