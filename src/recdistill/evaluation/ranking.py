"""Full-catalogue ranking: the one evaluator of teachers, students, baselines and everything made from them.

Every unseen item of the catalogue competes, and ties never favour the model: one with constant scores gets 0,
wherever the relevant item stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

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
    scores: Tensor, users: Tensor, relevant: Csr, seen: Csr, ks: Sequence[int] = KS, *, name: str = "model",
    scratch: Tensor | None = None,
) -> RankedBatch:  # fmt: skip
    """Rank one batch of users; see :func:`rank_all`.

    Args:
        scores: ``[B, I]`` of any float type and on any device; left alone.
        users: int64 ``[B]``, rows of ``relevant`` and ``seen``; those without a relevant item are left out.
        scratch: float32 ``[>= B, I]``, overwritten; saves asking for that much memory in every batch.

    Raises:
        InputError: a score is NaN, or ``ks`` is empty or not positive.
    """
    _check(ks)
    users = users.cpu()
    counts = relevant.indptr[users + 1] - relevant.indptr[users]
    kept = counts > 0
    if not bool(kept.all()):
        users, scores, counts = users[kept], scores[kept.to(scores.device)], counts[kept]
    scores = masked(scores, users, seen, scratch)
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
        per_user=metrics_from_ranks(distinct_ranks(row[near], others), row[near], counts, ks),
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

    def add_to(self, metrics: Any) -> None:
        """Counts the users into :class:`~recdistill.evaluation.metrics.RankingMetrics`."""
        metrics.update(self)

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
    _check(ks)
    gathered = _Gathered(users, n_items, ks)
    size = chunk or _chunk_size(n_items, torch.device(device))
    # Without it the C library gives memory back after each batch on a CPU, and each is slowed down by page faults.
    scratch = torch.empty(min(size, len(users)), n_items) if torch.device(device).type == "cpu" else None
    for part in torch.split(users, size):
        # No name for the scores here: it would keep them while the next ones are computed.
        gathered.add(
            rank_batch(
                _scores(score_fn, part.to(device), n_items, name), part, relevant, seen, ks,
                name=name, scratch=scratch,
            )
        )  # fmt: skip
    return gathered.result(relevant)


def _scores(score_fn: Scorer, users: Tensor, n_items: int, name: str) -> Tensor:
    scores = score_fn(users)
    if scores.shape != (len(users), n_items):
        raise InputError(
            f"model {name!r} gave scores of shape {list(scores.shape)}, expected {[len(users), n_items]}",
            why="it was made for another catalogue",
        )
    return scores


def _check(ks: Sequence[int]) -> None:
    if not ks or min(ks) < 1:
        raise InputError(f"list lengths must be positive, got {list(ks)}", fix="ks=[10,20,50]")


def _chunk_size(n_items: int, device: torch.device) -> int:
    budget = CPU_CHUNK if device.type == "cpu" else GPU_CHUNK
    return max(1, budget // (4 * max(n_items, 1)))


class _Gathered:
    """The batches of an evaluation, put together as they come.

    What is kept by user has its place from the start: small tensors that stay, between the large ones that come and
    go, would leave holes in memory that nothing fits into.
    """

    def __init__(self, users: Tensor, n_items: int, ks: Sequence[int]):
        self.users, self.ks, self.names = users, ks, metric_names(ks)
        self.per_user = torch.empty(len(self.names), len(users), dtype=torch.float64)
        self.top = torch.empty(len(users), max(ks), dtype=torch.int32)
        self.tied = torch.empty(len(ks), len(users), dtype=torch.bool)
        self.shown = torch.zeros(len(ks), n_items, dtype=torch.bool)
        self.near: list[Near] = []
        self.done = self.n_constant = self.n_comparable = self.n_cold = 0

    def add(self, batch: RankedBatch) -> None:
        here = slice(self.done, self.done + len(batch.users))
        self.per_user[:, here] = torch.stack([batch.per_user[name] for name in self.names])
        self.top[here], self.tied[:, here] = batch.top, batch.tied
        self.shown |= batch.shown
        self.near.append(replace(batch.near, at=batch.near.at + self.done))
        self.done = here.stop
        self.n_constant += batch.n_constant
        self.n_comparable += batch.n_comparable
        self.n_cold += batch.n_cold

    def result(self, relevant: Csr) -> RankingResult:
        return RankingResult(
            users=self.users,
            per_user=dict(zip(self.names, self.per_user, strict=True)),
            top=self.top,
            near=Near(*(torch.cat([getattr(near, name) for near in self.near]) for name in ("at", "item", "others"))),
            n_relevant=relevant.counts()[self.users],
            tie_rate=dict(zip(self.ks, self.tied.double().mean(1).tolist(), strict=True)),
            coverage=dict(zip(self.ks, self.shown.double().mean(1).tolist(), strict=True)),
            shown=self.shown,
            n_users=len(self.users),
            n_cold=self.n_cold,
            warnings=["constant_scores"] if self.n_comparable and self.n_constant == self.n_comparable else [],
        )
