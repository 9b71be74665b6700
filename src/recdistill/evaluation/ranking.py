"""Full-catalogue ranking: the one evaluator of teachers, students, baselines and everything made from them.

Every unseen item of the catalogue competes, and ties never favour the model: one with constant scores gets 0,
wherever the relevant item stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.errors import InputError
from recdistill.evaluation.ranks import (
    FAMILIES,
    distinct_ranks,
    metric_names,
    metrics_from_ranks,
    overlap_at_k,
    relevant_ranks,
    rivals,
)
from recdistill.evaluation.topk import Scorer, masked, raise_on_nan, recommend, top_k

CPU_CHUNK = 8 * 2**20  # bytes of scores; small enough for the cache, which is twice as fast as 64 MB
GPU_CHUNK = 256 * 2**20
KS = (10, 20, 50)

__all__ = [
    "FAMILIES",
    "KS",
    "WARNINGS",
    "Near",
    "RankedBatch",
    "RankingResult",
    "evaluable",
    "metric_names",
    "metrics_from_ranks",
    "overlap_at_k",
    "rank_all",
    "rank_batch",
    "recommend",
    "relevant_ranks",
    "top_k",
]


def evaluable(relevant: Csr) -> Tensor:
    """Users with at least one relevant item, int64 ``[U]``, ascending."""
    return relevant.counts().nonzero().flatten()


@dataclass(frozen=True)
class Near:
    """The relevant pairs that are in a list of ``k_max`` items, or would be if ties were broken for the model.

    From these follow the ranks of any part of the relevant items, such as those of a slice of the catalogue.

    Attributes:
        at: int64 ``[M]``, position of the user among those that were ranked.
        item: int64 ``[M]``.
        others: int64 ``[M]``, how many other unseen items score at least as high.
    """

    at: Tensor
    item: Tensor
    others: Tensor


@dataclass(frozen=True)
class RankedBatch:
    """What the scores of one batch of users come to. All tensors are on the CPU.

    Attributes:
        users: int64 ``[B]``.
        per_user: metric name to float64 ``[B]``.
        top: int32 ``[B, k_max]``, padded with -1; equal scores by ascending item id.
        near: where the relevant items stand.
        tied: bool ``[len(ks), B]``: whether the ranks ``k`` and ``k + 1`` have equal scores.
        shown: bool ``[len(ks), I]``: items that are in some list of length ``k``, however ties are broken.
        n_constant: users whose unseen items all have one score.
        n_comparable: users with two unseen items or more.
        n_cold: relevant pairs whose item isn't in the catalogue.
    """

    users: Tensor
    per_user: dict[str, Tensor]
    top: Tensor
    near: Near
    tied: Tensor
    shown: Tensor
    n_constant: int
    n_comparable: int
    n_cold: int


@torch.inference_mode()
def rank_batch(
    scores: Tensor, users: Tensor, relevant: Csr, seen: Csr, ks: Sequence[int] = KS, *, name: str = "model"
) -> RankedBatch:
    """Rank one batch of users; see :func:`rank_all`.

    Args:
        scores: ``[B, I]`` of any float type and on any device; left alone.
        users: int64 ``[B]``, rows of ``relevant`` and ``seen``; those without a relevant item are left out.

    Raises:
        InputError: a score is NaN, or ``ks`` is empty or not positive.
    """
    if not ks or min(ks) < 1:
        raise InputError(f"list lengths must be positive, got {list(ks)}", fix="ks=[10,20,50]")
    users = users.cpu()
    counts = relevant.counts()
    kept = counts[users] > 0
    if not bool(kept.all()):
        users, scores = users[kept], scores[kept.to(scores.device)]
    scores = masked(scores, users, seen)
    k_max, width = max(ks), scores.shape[1]
    items, values = top_k(scores, k_max + 1)
    raise_on_nan(values, items, users, name)
    row, item = relevant.rows(users)
    pairs = (row.to(scores.device), item.to(scores.device))
    near, others = (found.cpu() for found in rivals(scores, pairs, k_max, top=(values, items)))
    n_constant, n_comparable = _count_constant(scores, values)
    values, items = values.cpu(), items.cpu()
    return RankedBatch(
        users=users,
        per_user=metrics_from_ranks(distinct_ranks(row[near], others), row[near], counts[users], ks),
        top=items[:, :k_max].to(torch.int32),
        near=Near(row[near], item[near], others),
        tied=torch.stack([_tied(values, k) for k in ks]),
        shown=torch.stack([_shown(values, items, k, width) for k in ks]),
        n_constant=n_constant,
        n_comparable=n_comparable,
        n_cold=int((item >= width).sum()),
    )


def _tied(values: Tensor, k: int) -> Tensor:
    return (values[:, k - 1] == values[:, k]) & (values[:, k] > -torch.inf)


def _shown(values: Tensor, items: Tensor, k: int, n_items: int) -> Tensor:
    """bool ``[n_items]``: items strictly above the first that is left out, so no tie decides."""
    shown = torch.zeros(n_items, dtype=torch.bool)
    shown[items[:, :k][values[:, :k] > values[:, k : k + 1]]] = True
    return shown


def _count_constant(scores: Tensor, values: Tensor) -> tuple[int, int]:
    """How many rows have one score only, and how many have two unseen items or more."""
    comparable = values[:, 1] > -torch.inf
    lowest = values.masked_fill(values == -torch.inf, torch.inf).amin(1)
    suspect = (comparable & (lowest == values[:, 0])).nonzero().flatten()
    rows = scores[suspect]
    constant = rows.masked_fill(rows == -torch.inf, torch.inf).amin(1) == values[suspect, 0]
    return int(constant.sum()), int(comparable.sum())


@dataclass(frozen=True)
class RankingResult:
    """The evaluation of one model.

    Attributes:
        users: int64 ``[U]``, those that were evaluated.
        per_user: metric name to float64 ``[U]``.
        top: int32 ``[U, k_max]``, equal scores by ascending item id; padded with -1 for users with fewer unseen
            items.
        near: where the relevant items stand.
        n_relevant: int64 ``[U]``, relevant items of each user, cold ones included.
        tie_rate: by ``k``: share of users whose ranks ``k`` and ``k + 1`` have equal scores.
        coverage: by ``k``: share of the catalogue that is in some list, however ties are broken.
        shown: bool ``[len(ks), I]``: which items these are.
        n_users: users evaluated.
        n_cold: relevant pairs that no model could hit, as their item isn't in the catalogue.
        warnings: names, see :data:`WARNINGS`.
    """

    users: Tensor
    per_user: dict[str, Tensor]
    top: Tensor
    near: Near
    n_relevant: Tensor
    tie_rate: dict[int, float]
    coverage: dict[int, float]
    shown: Tensor
    n_users: int
    n_cold: int
    warnings: list[str] = field(default_factory=list)

    def means(self) -> dict[str, float]:
        """The average of each metric over users, and ``coverage@k``."""
        means = {name: float(values.mean()) for name, values in self.per_user.items()}
        return means | {f"coverage@{k}": share for k, share in self.coverage.items()}


WARNINGS = {"constant_scores": "the model gives every item the same score, so its lists are arbitrary"}


@torch.inference_mode()
def rank_all(
    score_fn: Scorer,
    *,
    users: Tensor,
    relevant: Csr,
    seen: Csr,
    n_items: int,
    ks: Sequence[int] = KS,
    chunk: int | None = None,
    name: str = "model",
    device: torch.device | str = "cpu",
) -> RankingResult:
    """Evaluate a model on the full catalogue.

    Args:
        score_fn: users int64 ``[B]`` on ``device`` to scores ``[B, n_items]``.
        users: int64 ``[U]``; those without a relevant item are left out. One process's share may be empty.
        relevant: what should be found; ids ``>= n_items`` are cold, they count and can't be hit.
        seen: what is masked: training items, and at test the validation items too.
        n_items: size of the catalogue.
        ks: list lengths.
        chunk: users scored at once; by default as many as give 8 MB of float32 scores, 256 MB on a GPU.
        name: of the model, for errors.
        device: where ``score_fn`` wants its users.

    Raises:
        InputError: nobody has a relevant item, a score is NaN, or the scores don't cover the catalogue.
    """
    users = users.cpu()
    users = users[relevant.counts()[users] > 0]
    if not relevant.indices.numel():
        raise InputError("nothing to evaluate: no user has a relevant item", where="the evaluated part")
    batches: list[RankedBatch] = []
    shown = torch.zeros(len(ks), n_items, dtype=torch.bool)
    for part in torch.split(users, chunk or _chunk_size(n_items, torch.device(device))):
        scores = score_fn(part.to(device))
        if scores.shape != (len(part), n_items):
            raise InputError(
                f"model {name!r} gave scores of shape {list(scores.shape)}, expected {[len(part), n_items]}",
                why="it was made for another catalogue",
            )
        batch = rank_batch(scores, part, relevant, seen, ks, name=name)
        shown |= batch.shown
        batches.append(replace(batch, shown=shown))  # shared: one as wide as the catalogue, not one a batch
    return _collect(batches, relevant, ks)


def _chunk_size(n_items: int, device: torch.device) -> int:
    budget = CPU_CHUNK if device.type == "cpu" else GPU_CHUNK
    return max(1, budget // (4 * max(n_items, 1)))


def _collect(batches: list[RankedBatch], relevant: Csr, ks: Sequence[int]) -> RankingResult:
    shown = batches[-1].shown
    tied = torch.cat([batch.tied for batch in batches], 1).double().mean(1).tolist()
    comparable = sum(batch.n_comparable for batch in batches)
    constant = sum(batch.n_constant for batch in batches)
    names = list(batches[0].per_user)
    users = torch.cat([batch.users for batch in batches])
    return RankingResult(
        users=users,
        per_user={name: torch.cat([batch.per_user[name] for batch in batches]) for name in names},
        top=torch.cat([batch.top for batch in batches]),
        near=_joined(batches),
        n_relevant=relevant.counts()[users],
        tie_rate=dict(zip(ks, tied, strict=True)),
        coverage=dict(zip(ks, shown.double().mean(1).tolist(), strict=True)),
        shown=shown,
        n_users=len(users),
        n_cold=sum(batch.n_cold for batch in batches),
        warnings=["constant_scores"] if comparable and constant == comparable else [],
    )


def _joined(batches: list[RankedBatch]) -> Near:
    starts = torch.tensor([0, *(len(batch.users) for batch in batches)]).cumsum(0).tolist()
    return Near(
        at=torch.cat([batch.near.at + start for batch, start in zip(batches, starts, strict=False)]),
        item=torch.cat([batch.near.item for batch in batches]),
        others=torch.cat([batch.near.others for batch in batches]),
    )
