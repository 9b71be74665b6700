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

KEPT = 2**26  # bytes of a sample that are kept from one evaluation to the next


def sampled(score_fn: Scorer, relevant: Csr, seen: Csr, n: int, *, seed: int = 0) -> Scorer:
    """Scores in which each user's relevant items compete with ``n`` sampled items only; the others are at -inf.

    Args:
        score_fn: users int64 ``[B]`` to scores ``[B, I]``.
        relevant, seen: as in the evaluation.
        n, seed: see :class:`Negatives`.
    """

    def score(users: Tensor) -> Tensor:
        scores = score_fn(users)
        at, n_items = users.cpu(), scores.shape[1]
        row, item = relevant.rows(at)
        drawn = negatives_among(n_items, relevant, seen, n, seed).of(at)
        place, order = (drawn >= 0).nonzero(as_tuple=True)
        row, item = torch.cat([row, place]), torch.cat([item, drawn[place, order].long()])
        pair = row[item < n_items].to(scores.device), item[item < n_items].to(scores.device)
        return torch.full_like(scores, -torch.inf).index_put_(pair, scores[pair])

    return score


class Negatives:
    """``n`` sampled items of each user: uniform without replacement among those that are neither relevant nor seen.

    The sample is a function of (seed, user, item) alone: the same for every model, batch size and process. What was
    drawn for the first users is kept, up to :data:`KEPT` bytes, for the next validation of a training.
    """

    def __init__(self, n_items: int, relevant: Csr, seen: Csr, n: int, seed: int):
        self.relevant, self.seen, self.asked = relevant, seen, (n_items, n, seed)
        self.n_items, self.n, self.seed = n_items, min(n, n_items), seed
        rows = min(len(relevant.indptr) - 1, KEPT // (4 * max(self.n, 1)))
        self.drawn = torch.empty(rows, self.n, dtype=torch.int32)
        self.known = torch.zeros(rows, dtype=torch.bool)

    def of(self, users: Tensor) -> Tensor:
        """int32 ``[B, n]``, or all items where there are fewer; -1 where a user has fewer."""
        if not len(users) or int(users.max()) >= len(self.known):
            return self.draw(users)
        missing = users[~self.known[users]]
        if len(missing):
            self.drawn[missing], self.known[missing] = self.draw(missing), True
        return self.drawn[users]

    def draw(self, users: Tensor) -> Tensor:
        keys = noise(users, self.n_items, self.seed)
        for sets in (self.relevant, self.seen):
            row, item = sets.rows(users)
            known = item < self.n_items
            keys[row[known], item[known]] = -1
        best, item = keys.topk(self.n, dim=1)
        return item.int().masked_fill_(best < 0, -1)


def negatives_among(n_items: int, relevant: Csr, seen: Csr, n: int, seed: int) -> Negatives:
    """Those that the relevant items were last compared with, if they are the same."""
    last: Negatives | None = relevant.__dict__.get("_negatives")
    if last is None or last.seen is not seen or last.asked != (n_items, n, seed):
        last = relevant.__dict__["_negatives"] = Negatives(n_items, relevant, seen, n, seed)
    return last


def noise(users: Tensor, n_items: int, seed: int) -> Tensor:
    """Uniform int64 from 0 to 2^52 - 1 for each pair, ``[B, I]``: a hash (splitmix64), not a state."""
    x = torch.arange(1, n_items + 1).repeat(len(users), 1)
    x += users.unsqueeze(1) << 32
    x *= _STEP
    x += seed
    # In place: new memory for each operation took three times as long.
    shifted = torch.empty_like(x)
    for shift, factor in ((30, _FIRST), (27, _SECOND), (31, 1)):
        torch.bitwise_right_shift(x, shift, out=shifted)
        shifted &= 2 ** (64 - shift) - 1  # a shift that fills with zeros
        x ^= shifted
        x *= factor
    x &= 2**52 - 1
    return x


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
