"""The ranking task: from who interacted with what, the items each user should see next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.interactions import Dataset, Interactions
from recdistill.evaluation.ranking import RankingResult, evaluable, rank_all
from recdistill.models.base import FactorModel, RankingModel
from recdistill.tasks.batches import RankingEpoch, ranking_epoch, user_epoch
from recdistill.tasks.objectives import Objective

Scorer = Callable[[Tensor], Tensor]


class Ranking:
    """Owns what is particular to ranking: the batches of an epoch, and what evaluating means."""

    name = "ranking"

    def to_device(self, train: Interactions, device: torch.device) -> Interactions:
        """The training part where the batches are cut."""
        moved = replace(train, user=train.user.to(device), item=train.item.to(device))
        csr = train.csr
        moved.__dict__["csr"] = Csr(csr.indptr.to(device), csr.indices.to(device))
        return moved

    def epoch(
        self, train: Interactions, objective: Objective, *,
        seed: int, epoch: int, batch_size: int, queries: int,
    ) -> RankingEpoch:  # fmt: skip
        """The batches of one epoch; see :mod:`recdistill.tasks.batches`."""
        if objective.samples == "users":
            return user_epoch(train, seed=seed, epoch=epoch, batch_size=batch_size)
        return ranking_epoch(
            train, seed=seed, epoch=epoch, batch_size=batch_size,
            negatives=objective.negatives, queries=queries,
        )  # fmt: skip

    def evaluate(
        self, model: RankingModel, data: Dataset, part: str, ks: list[int], *, name: str = "model",
        rank: int = 0, world: int = 1,
    ) -> RankingResult:  # fmt: skip
        """Ranks the whole catalogue for every user of ``part`` ("valid" or "test"), seen items masked.

        Seen are the training items and, for test, the validation items too. With several processes each takes
        every ``world``-th user, so that none is counted twice.
        """
        relevant: Interactions = getattr(data, part)
        seen = data.train.csr if part == "valid" else data.train.csr.union(data.valid.csr)
        users = evaluable(relevant.csr)[rank::world]
        return rank_all(
            scorer(model), users=users, relevant=relevant.csr, seen=seen, ks=ks,
            n_items=data.train.n_items, name=name,
        )  # fmt: skip


def scorer(model: RankingModel) -> Scorer:
    """A function from users (CPU, ``[B]``) to scores (CPU, ``[B, n_items]``); what can be shared is computed
    once.

    It leaves autocast: half-precision scores tie at the end of a list for one user in four.
    """
    device = next(iter(model.state_dict().values())).device
    plain = torch.autocast(device.type, enabled=False)
    with torch.inference_mode(), plain:
        factors = model.factors() if isinstance(model, FactorModel) else None

    def score(users: Tensor) -> Tensor:
        with plain:
            if factors is None:
                return model.scores(users.to(device)).float().cpu()
            return (factors[0][users.to(device)].float() @ factors[1].float().T).cpu()

    return score
