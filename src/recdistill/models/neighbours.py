"""Users that training lacked, by the users whose histories are like theirs."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from recdistill.data.csr import Csr

NEIGHBOURS = 50
CHUNK = 1 << 24  # similarities that are held at a time


def from_neighbours(table: Tensor, train: Csr, history: Csr, n_items: int, k: int = NEIGHBOURS) -> Tensor:
    """Means of the rows of those k users whose histories are nearest by cosine, weighted by it.

    Users with whom nothing is shared do not count; with nobody left it is the mean of all rows.

    Args:
        table: ``[n_users, d]``.
        train: the history of each of its users.
        history: ``B`` users; items of the catalogue.

    Returns:
        ``[B, d]``.
    """
    n_users, counts = len(table), train.counts().clamp(min=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*CSR tensor support is in beta.*")
        ones = torch.ones(len(train.indices), device=table.device)
        users = torch.sparse_csr_tensor(train.indptr, train.indices, ones, (n_users, n_items), check_invariants=False)
    rows = [table.new_empty(0, table.shape[1])]
    everybody = torch.arange(len(history.counts()), device=table.device)
    for part in torch.split(everybody, max(1, CHUNK // (n_users + n_items))):
        sets = history.take(part)
        position, item = sets.rows(torch.arange(len(part), device=table.device))
        own = torch.zeros(n_items, len(part), device=table.device)
        own[item, position] = 1
        # The length of the user's own history is the same for all neighbours.
        similarity = (users @ own).T * counts.rsqrt()  # [b, n_users]
        value, neighbour = similarity.topk(min(k, n_users))
        value = torch.where(value.sum(1, keepdim=True) > 0, value, 0.0)
        weight = value / value.sum(1, keepdim=True).clamp(min=1e-12)
        mean = (weight.unsqueeze(-1) * table[neighbour]).sum(1)
        rows.append(torch.where(value.sum(1, keepdim=True) > 0, mean, table.mean(0)))
    return torch.cat(rows)
