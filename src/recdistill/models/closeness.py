"""How near the users or rows of a target are to what a source teacher has learned from, from 0 to 1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recdistill.data.csr import Csr
from recdistill.data.interactions import Examples
from recdistill.data.rows import Rows
from recdistill.models.base import TableModel

CHUNK = 1 << 22  # scores at a time
STEPS = 100
RIDGE = 1e-3


def agreement(user: Tensor, item: Tensor, taught: Csr, own: Tensor, scale: Tensor, known: Tensor) -> Tensor:
    """Whether the source finds what a user has in the target: max(0, 2 · AUC_u − 1), where AUC_u is the share of other
    known items that score below one that the user has, on average over these, each scored without the user's own say:

        s'(u, i) = e_u · v_i − |e_u|² · scale_i

    0 is a guess. A user without any item in training has the mean of the others.

    Source: Wang et al., Characterizing and avoiding negative transfer, CVPR 2019, for weights by how well a source's
    sample fits the target; Rendle et al., UAI 2009, for AUC by user.

    Args:
        user: ``[n_users, d]``.
        item: ``[n_items, d]``.
        taught: the items of each user in training.
        own: ``[n_users]``, |e_u|².
        scale: ``[n_items]``, the factor of a user in the vector of an item.
        known: bool ``[n_items]``, the items with a vector.

    Returns:
        float32 ``[n_users]``.
    """
    n_users, n_items = len(user), len(item)
    total = user.new_zeros(n_users)
    for some in torch.split(torch.arange(n_users), max(1, CHUNK // max(n_items, 1))):
        scores = user[some] @ item.T
        row, has = taught.rows(some)
        count = taught.counts()[some]
        place = torch.arange(len(row)) - (count.cumsum(0) - count)[row]
        mine = scores.new_zeros(len(some), int(count.max()) if len(row) else 0)
        mine[row, place] = scores[row, has] - own[some][row] * scale[has]
        scores[row, has] = torch.inf  # what is left are the others
        scores[:, ~known] = torch.inf
        others = torch.isfinite(scores).sum(1).clamp(min=1)
        ordered = scores.sort(1).values
        below, upto = (torch.searchsorted(ordered, mine, right=right)[row, place] for right in (False, True))
        total.index_add_(0, some[row], (below + upto) / 2 / others[row])
    counts = taught.counts()
    near = (2 * total / counts.clamp(min=1) - 1).clamp(0, 1)
    usual = near[counts > 0].mean() if bool((counts > 0).any()) else near.new_zeros(())
    return torch.where(counts > 0, near, usual)


def answers(model: TableModel, part: Examples) -> Tensor:
    """What a model says of all rows, float32 ``[N, C]``."""
    rows = Rows.of(part.features, len(part))
    with torch.inference_mode():
        found = [model(rows.take(some)).float() for some in torch.split(torch.arange(len(part)), 4096)]
    output = torch.cat(found)
    return output.unsqueeze(1) if output.dim() == 1 else output


def source_probability(source: Tensor, target: Tensor) -> Tensor:
    """p(source | x) for each row of the target, by a logistic regression that tells both domains apart, each of them
    with half of the weight. Twice that is the relative density ratio p_s / (½ p_s + ½ p_t), which has no long tail.

    Source: Bickel, Brückner and Scheffer, Discriminative learning for differing training and test distributions,
    ICML 2007; Yamada et al., Relative density-ratio estimation for robust distribution comparison, NIPS 2011, eq. 2.

    Args:
        source: ``[N, d]``, a description of the source's rows.
        target: ``[M, d]``, the same of the target's.

    Returns:
        float32 ``[M]``.
    """
    both = torch.cat([source, target]).double()
    both = (both - both.mean(0)) / both.std(0).clamp(min=1e-12)
    both = torch.cat([both, both.new_ones(len(both), 1)], 1).clone()
    label = torch.cat([torch.ones(len(source)), torch.zeros(len(target))]).double()
    weight = torch.where(label > 0, 0.5 / len(source), 0.5 / len(target))
    line = _newton(both, label, weight)
    return torch.sigmoid(both[len(source) :] @ line).float()


def _newton(x: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """argmin over w of Σ weight · logistic loss + ½ RIDGE · |w|²; float64 ``[d]``."""
    line = x.new_zeros(x.shape[1])
    identity = RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
    for _ in range(STEPS):
        p = torch.sigmoid(x @ line)
        slope = x.T @ (weight * (p - label)) + RIDGE * line
        curve = (x * (weight * p * (1 - p)).unsqueeze(1)).T @ x + identity
        step = torch.linalg.solve(curve, slope)
        line = line - step
        if nn.functional.mse_loss(step, torch.zeros_like(step)) < 1e-16:
            break
    return line
