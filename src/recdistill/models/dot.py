"""Dot products of users and items, and what is made of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding

# Instead of -inf, whose differences are NaN: e^FLOOR is exactly 0 beside any score.
FLOOR = -1e9


def dot_scores(user_factors: Tensor, item_factors: Tensor, users: Tensor, items: Tensor | None = None) -> Tensor:
    """Scores ``[B, n_items]``, or ``[B, K]`` of items ``[K]`` or ``[B, K]``.

    Rows are gathered as by an embedding, whose backward pass is the fastest.
    """
    query = embedding(users, user_factors)  # [B, d]
    if items is None:
        return query @ item_factors.T
    if items.dim() == 1:
        return query @ embedding(items, item_factors).T
    if query.device.type == "cpu" and query.dtype == item_factors.dtype in (torch.float32, torch.float64):
        result: Tensor = _ListScores.apply(query, item_factors, items)  # type: ignore[no-untyped-call]
        return result
    return own_scores(query, embedding(items, item_factors))


def own_scores(query: Tensor, rows: Tensor) -> Tensor:
    """Dot products ``[B, K]`` of each of ``[B, d]`` with rows of its own, ``[B, K, d]``.

    On a CPU this takes a third of the time of a batched matmul for a few rows, and is no slower for a hundred.
    """
    return (rows * query.unsqueeze(1)).sum(-1)


class _ListScores(torch.autograd.Function):
    """:func:`own_scores` of rows ``[B, K]`` of a table, for a CPU: by parts that stay in its cache, and without the
    rows being kept; the gradient of the table takes less time than that of an embedding."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, table: Tensor, items: Tensor) -> Tensor:
        ctx.save_for_backward(query, table, items)
        size = in_cache(items, table)
        parts = zip(torch.split(query, size), torch.split(items, size), strict=True)
        return joined([own_scores(q, embedding(i, table)) for q, i in parts])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        query, table, items = ctx.saved_tensors
        size = in_cache(items, table)
        to_query, to_table = [], torch.zeros_like(table) if ctx.needs_input_grad[1] else None
        with torch.autocast("cpu", enabled=False):
            for g, q, i in zip(*(torch.split(x, size) for x in (grad, query, items)), strict=True):
                to_query.append((g.unsqueeze(1) @ embedding(i, table)).squeeze(1))
                if to_table is not None:
                    to_table.index_add_(0, i.flatten(), (g.unsqueeze(-1) * q.unsqueeze(1)).flatten(0, 1))
        return joined(to_query), to_table, None


def joined(parts: list[Tensor]) -> Tensor:
    """Rows of parts, most often of one."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def in_cache(items: Tensor, table: Tensor) -> int:
    """For how many rows of items ``[B, K]`` those of the table are a MiB in single precision; 16 at least."""
    return max(2**18 // max(items.shape[1] * table.shape[1], 1), 16)


def pair_scores(user_factors: Tensor, item_factors: Tensor, users: Tensor, items: Tensor) -> Tensor:
    """Scores ``[n]`` of users ``[n]`` with items ``[n]``."""
    return (embedding(users, user_factors) * embedding(items, item_factors)).sum(-1)


def log_normaliser(query: Tensor, item_factors: Tensor, without: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """log Σ_i e^{q · v_i} of each row of ``[Q, d]`` over the items ``[n_items, d]``: ``[Q]``.

    Takes less time and memory than ``logsumexp(query @ item_factors.T)``: the one large matrix is overwritten
    instead of copied, and its exponentials are kept for the gradient.

    Args:
        without: pairs of a row and an item, int64 ``[n]`` each, that are left out of the sum; of a row that has no
            other item the result is about :data:`FLOOR`, without a gradient.
    """
    result: Tensor = _LogNormaliser.apply(query, item_factors, without)  # type: ignore[no-untyped-call]
    return result


class _LogNormaliser(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, item_factors: Tensor, without: tuple[Tensor, Tensor] | None) -> Tensor:
        # In half precision a sum over a catalogue stops growing.
        dtype = torch.promote_types(query.dtype, torch.float32)
        with torch.autocast(query.device.type, enabled=False):
            scores = query.to(dtype) @ item_factors.to(dtype).T  # [Q, n_items]
        if without is not None:
            scores[without] = FLOOR
        largest = scores.amax(-1, keepdim=True)
        powers = scores.sub_(largest).exp_()
        total = powers.sum(-1, keepdim=True)
        if without is not None:
            powers[without] = 0  # they are 1 where a row has no other
        ctx.save_for_backward(query, item_factors, powers, total)
        return (largest + total.log()).squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        query, item_factors, powers, total = ctx.saved_tensors
        share = grad.unsqueeze(-1) / total  # times a power: the gradient of its score
        with torch.autocast(query.device.type, enabled=False):
            to_query = (powers @ item_factors.to(powers.dtype)) * share
            to_items = powers.T @ (query.to(powers.dtype) * share)
        return to_query.to(query.dtype), to_items.to(item_factors.dtype), None
