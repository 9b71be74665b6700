"""Running averages of ranking metrics for Lightning modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from recdistill.config.metrics import DIRECTIONS, Direction, direction
from recdistill.evaluation.ranking import KS, RankedBatch, RankingResult, metric_names

__all__ = ["DIRECTIONS", "Direction", "RankingMetrics", "direction"]


class RankingMetrics(Metric):
    """Averages of per-user ranking metrics over all users of all processes.

    Sums and the number of users are reduced, never averages, so neither batch size nor uneven shards matter.
    Each user must be given to one process only: shard with ``users[rank::world_size]``, since a
    ``DistributedSampler`` repeats users to even out the shards.

    Args:
        n_items: size of the catalogue.
        ks: list lengths.
        kwargs: of :class:`torchmetrics.Metric`.

    Example:
        >>> metrics = RankingMetrics(n_items=3, ks=[1])
        >>> relevant, seen = Csr.from_pairs(...), Csr.from_pairs(...)  # doctest: +SKIP
        >>> metrics.update(rank_batch(scores, users, relevant, seen, ks=[1]))  # doctest: +SKIP
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    sums: Tensor
    n_users: Tensor
    shown: Tensor

    def __init__(self, n_items: int, ks: Sequence[int] = KS, **kwargs: Any):
        super().__init__(**kwargs)
        self.ks = tuple(ks)
        self.names = metric_names(self.ks)
        self.add_state("sums", torch.zeros(len(self.names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("n_users", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("shown", torch.zeros(len(self.ks), n_items, dtype=torch.bool), dist_reduce_fx="max")

    def update(self, ranked: RankedBatch | RankingResult) -> None:
        """Add the users of a batch or of a whole share, ranked with the same ``ks``."""
        per_user = torch.stack([ranked.per_user[name] for name in self.names])  # [metrics, B]
        self.sums += per_user.sum(1).to(self.sums)
        self.n_users += per_user.shape[1]
        self.shown |= ranked.shown.to(self.shown.device)

    def compute(self) -> dict[str, Tensor]:
        """Each metric's average over users and ``coverage@k``, float64 scalars; NaN before the first user."""
        means = self.sums / self.n_users
        shares = self.shown.double().mean(1)
        coverage = {f"coverage@{k}": share for k, share in zip(self.ks, shares, strict=True)}
        return dict(zip(self.names, means, strict=True)) | coverage
