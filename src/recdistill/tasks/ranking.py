"""The ranking task: from who interacted with what, the items each user should see next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from recdistill.data import store
from recdistill.data.csr import Csr
from recdistill.data.interactions import Data, Dataset, Interactions, Schema
from recdistill.data.sources.base import PARTS
from recdistill.distillers.views import ModelView
from recdistill.evaluation.metrics import RankingMetrics
from recdistill.evaluation.ranking import FAMILIES, RankingResult, evaluable, rank_all, recommend
from recdistill.evaluation.sampled import sampled
from recdistill.models.base import FactorModel, RankingModel
from recdistill.rerank.base import Reranking
from recdistill.tasks.base import Task
from recdistill.tasks.batches import RankingBatch, RankingEpoch, ranking_epoch, user_epoch
from recdistill.tasks.objectives import Objective

Scorer = Callable[[Tensor], Tensor]


class Ranking(Task):
    """Top-N ranking. A query is a user.

    Args:
        metric: what a checkpoint is chosen by.
    """

    name = "ranking"
    examples = ("lightgcn", "mf")
    metrics_known = FAMILIES

    def __init__(self, metric: str = "ndcg@10"):
        super().__init__(metric)

    def adapt(self, data: Data, parts: tuple[str, ...] = PARTS) -> Dataset:  # noqa: ARG002
        return store.require_pairs(data)

    def schema(self, data: Dataset) -> Schema:
        return data.schema

    def prepare(self, train: Interactions, device: torch.device) -> Interactions:
        train = train.taught
        moved = replace(train, user=train.user.to(device), item=train.item.to(device))
        csr = train.csr
        moved.__dict__["csr"] = Csr(csr.indptr.to(device), csr.indices.to(device))
        return moved

    def epoch(
        self, train: Interactions, objective: Objective, *,
        seed: int, epoch: int, batch_size: int, queries: int,
    ) -> RankingEpoch:  # fmt: skip
        if objective.samples == "users":
            return user_epoch(train, seed=seed, epoch=epoch, batch_size=batch_size)
        return ranking_epoch(
            train, seed=seed, epoch=epoch, batch_size=batch_size,
            negatives=objective.negatives * objective.sampler.candidates, queries=queries, sampler=objective.sampler,
        )  # fmt: skip

    def batch_view(self, model: RankingModel, batch: RankingBatch, train: Interactions) -> ModelView:
        return ModelView(model, batch.query, train.csr)

    def queries(self, train: Interactions) -> int:
        return train.n_users

    def view(self, model: RankingModel, train: Interactions, query: Tensor) -> ModelView:
        return ModelView(model, query, train.csr)

    def evaluate(
        self, model: RankingModel, data: Dataset, part: str, ks: list[int], *, name: str = "model",
        rank: int = 0, world: int = 1, negatives: int | None = None, reranking: Reranking | None = None,
    ) -> RankingResult:  # fmt: skip
        """Ranks the whole catalogue for every user of ``part`` ("valid" or "test"), seen items masked.

        Seen are the known items and, for test, the validation items too. With several processes each takes
        every ``world``-th user, so that none is counted twice. With ``negatives`` only that many sampled items
        compete with a user's relevant ones: no longer a full ranking.
        """
        relevant: Interactions = getattr(data, part)
        seen = data.seen(part)
        users = evaluable(relevant.csr)[rank::world]
        score = scorer(model, data)
        if negatives is not None:
            score = sampled(score, relevant.csr, seen, negatives)
        if reranking is not None:
            score = reranking.scorer(score, seen, max(ks))
        return rank_all(
            score, users=users, relevant=relevant.csr, seen=seen, ks=ks,
            n_items=data.train.n_items, name=name,
        )  # fmt: skip

    def metrics(self, data: Dataset, ks: list[int]) -> RankingMetrics:
        return RankingMetrics(data.train.n_items, ks)

    def request(self, model: RankingModel, data: Dataset, k: int) -> tuple[Callable[[Tensor], object], Tensor]:
        score, seen = scorer(model), data.train.csr
        return lambda users: recommend(score, users, seen, k), torch.arange(data.train.n_users)

    def scorer(
        self,
        model: RankingModel,
        data: Dataset,
        part: str = "test",  # noqa: ARG002
        new: Tensor | None = None,
    ) -> Scorer:
        return scorer(model, data, new)


def scorer(model: RankingModel, data: Dataset | None = None, new: Tensor | None = None) -> Scorer:
    """A function from users (CPU, ``[B]``) to scores (CPU, ``[B, n_items]``); what can be shared is computed
    once.

    It leaves autocast: half-precision scores tie at the end of a list for one user in four.

    Args:
        data: whose cold users are scored too, from what is known of them.
        new: vectors of items that are scored too, behind the catalogue, by a model of dot products.

    Raises:
        InputError: there are cold users, and the model can't score them.
    """
    device = next(iter(model.state_dict().values())).device
    plain = torch.autocast(device.type, enabled=False)
    known = None if data is None else known_of_cold(data, device)
    if isinstance(model, FactorModel):
        with torch.inference_mode(), plain:
            user, item = (table.float() for table in model.factors())
            if known is not None:
                user = torch.cat([user, model.folded(known)])
            item = item if new is None else torch.cat([item, new.float().to(device)])

    def score(users: Tensor) -> Tensor:
        users = users.to(device)
        with plain:
            if isinstance(model, FactorModel):
                return (user[users] @ item.T).cpu()
            if known is None:
                return model.scores(users).float().cpu()
            return _mixed(model, users, known).float().cpu()

    return score


def known_of_cold(data: Dataset, device: torch.device) -> Csr | None:
    """What can be used of the histories of the cold users: the items of the catalogue; None without such users."""
    if data.known is None or not data.known.n_cold_users:
        return None
    n_cold = data.known.n_cold_users
    cold, item = data.known.csr.rows(torch.arange(n_cold) + data.train.n_users)
    usable = item < data.train.n_items
    known = Csr.from_pairs(cold[usable], item[usable], n_cold)
    return Csr(known.indptr.to(device), known.indices.to(device))


def _mixed(model: RankingModel, users: Tensor, known: Csr) -> Tensor:
    """Scores ``[B, n_items]`` of users of training, and of cold ones behind them."""
    n_users, n_items = model.schema.n_users, model.schema.n_items
    cold = users >= n_users
    scores = torch.empty(len(users), n_items, device=users.device)
    scores[~cold] = model.scores(users[~cold]).float()
    scores[cold] = model.fold_in(known.take(users[cold] - n_users)).float()
    return scores
