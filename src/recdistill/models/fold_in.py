"""Vectors for users that training lacked, from the items that they are known to have."""

from __future__ import annotations

from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.models.least_squares import solve

UNOBSERVED = 1 / 40
RIDGE = 3.0


def fold_in(items: Tensor, history: Csr, unobserved: float = UNOBSERVED, ridge: float = RIDGE) -> Tensor:
    """For each user the x that minimises, with the item vectors q_i held fixed,

        Σ over i in the history of (x·q_i − 1)² + unobserved · Σ over all i of (x·q_i)² + λ |x|²

    Source: Hu, Koren and Volinsky, Collaborative filtering for implicit feedback datasets, ICDM 2008, eq. 4, with
    its α = 40 (c = 1 + α where there is an event): divided by α, which changes no ranking. λ is ``ridge`` times what
    the other two terms put on the diagonal on average, so that it means the same for vectors of any length and
    histories of any size; 3 is a compromise between BPR, which likes less, and softmax, which likes more.

    Args:
        items: ``[n_items, d]``.
        history: ``B`` users; items of the catalogue.

    Returns:
        ``[B, d]``; zeros for a user without any item.
    """
    n_items = len(items)
    gram = unobserved * (items.T @ items)
    penalty = ridge * items.square().mean() * (history.counts() + unobserved * n_items)
    return solve(items, history, gram, penalty)
