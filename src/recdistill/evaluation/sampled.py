"""Sampled metrics, for comparison with old papers only: they order models differently from the full ranking.

Krichene and Rendle (KDD 2020). Off by default; the name of such a metric carries the sample, and it is in no table.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.evaluation.topk import Scorer

# The constants of splitmix64 (Steele et al., OOPSLA 2014), as signed numbers.
_STEP, _FIRST, _SECOND = -7046029254386353131, -4658895280553007687, -7723592293110705685


def sampled(score_fn: Scorer, relevant: Csr, seen: Csr, n: int, *, seed: int = 0) -> Scorer:
    """Scores in which each user's relevant items compete with ``n`` sampled items only; the others are at -inf.

    The sample is uniform without replacement among the items that are neither relevant nor seen. It is a function of
    (seed, user, item) alone: the same for every model, batch size and process. Users with fewer such items get all.

    Args:
        score_fn: users int64 ``[B]`` to scores ``[B, I]``.
        relevant, seen: as in the evaluation.
        n: negatives a user.
    """

    def score(users: Tensor) -> Tensor:
        scores = score_fn(users)
        at = users.cpu()
        draw = noise(at, scores.shape[1], seed)
        for sets in (relevant, seen):
            row, item = sets.rows(at)
            known = item < scores.shape[1]
            draw[row[known], item[known]] = -1.0
        drawn, item = draw.topk(min(n, scores.shape[1]), dim=1)
        keep = torch.zeros(draw.shape, dtype=torch.bool)
        keep.scatter_(1, item, drawn >= 0)
        row, item = relevant.rows(at)
        known = item < scores.shape[1]
        keep[row[known], item[known]] = True
        return scores.masked_fill(~keep.to(scores.device), -torch.inf)

    return score


def noise(users: Tensor, n_items: int, seed: int) -> Tensor:
    """Uniform float64 in [0, 1) for each pair, ``[B, I]``: a hash (splitmix64), not a state."""

    def stir(x: Tensor, shift: int) -> Tensor:
        mixed: Tensor = x ^ ((x >> shift) & (2 ** (64 - shift) - 1))  # a shift that fills with zeros
        return mixed

    x = ((users.unsqueeze(1) << 32) + torch.arange(n_items) + 1) * _STEP + seed
    x = stir(stir(x, 30) * _FIRST, 27) * _SECOND
    return (stir(x, 31) & (2**52 - 1)).double() / 2**52


def sampled_name(metric: str, n: int | None) -> str:
    """``sampled_ndcg@10[n=99]`` for ``ndcg@10`` and 99; the metric itself for None."""
    return metric if n is None else f"sampled_{metric}[n={n}]"


def negatives_of(name: str) -> int | None:
    """How many items a metric with such a name is measured among; None for all.

    >>> negatives_of("sampled_ndcg@10[n=99]"), negatives_of("ndcg@10")
    (99, None)
    """
    found = re.fullmatch(r"sampled_.+\[n=(\d+)\]", name)
    return int(found[1]) if found else None


def monitored(evaluation: dict[str, Any]) -> str:
    """The validation metric that picks the best epoch, of the config of the evaluation."""
    sampled = evaluation.get("best_by") == "sampled"
    return sampled_name(evaluation["metric"], evaluation["sampled"] if sampled else None)


def note_on_epochs(evaluation: dict[str, Any]) -> list[str]:
    """What a reader of a table must know of how epochs were picked."""
    if evaluation.get("best_by") != "sampled":
        return []
    few = evaluation["sampled"]
    return [f"the best epoch of each training is that of the metric among {few} sampled items, not all"]
