"""The sequence task: from what a user did, in the order of time, the item that comes next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from recdistill.data import store
from recdistill.data.interactions import Data, Dataset, Interactions, Schema
from recdistill.data.sources.base import PARTS
from recdistill.errors import InputError
from recdistill.evaluation.metrics import RankingMetrics
from recdistill.evaluation.ranking import FAMILIES, RankingResult, evaluable, rank_all, recommend
from recdistill.evaluation.sampled import sampled
from recdistill.models.base import RankingModel, SequenceModel
from recdistill.rerank.base import Reranking
from recdistill.tasks.base import Task
from recdistill.tasks.objectives import Objective
from recdistill.tasks.ranking import Scorer, scorer
from recdistill.tasks.sequence_batches import SequenceBatch, SequenceEpoch, sequence_epoch
from recdistill.tasks.sequence_view import SequenceView, WindowView
from recdistill.tasks.timeline import Timeline
from recdistill.tasks.windows import Sequences

CHUNK = 512  # histories that are read at once


class Sequence(Task):
    """Next-item ranking. A query is an event of the training part: what comes after it?

    Args:
        metric: what a checkpoint is chosen by.
        max_length: longest history that a model reads; older items are left out.
        stride: places from the start of a training window to that of the next, for users with longer histories; None
            for ``max_length``, where windows share no more than they must.

    Raises:
        InputError: ``stride`` is above ``max_length``, so that some events would be in no window.
    """

    name = "sequence"
    examples = ("sasrec", "gru4rec")
    plain_objective = "sequence_softmax"
    metrics_known = FAMILIES

    def __init__(
        self,
        metric: str = "ndcg@10",
        max_length: Annotated[int, Ge(1)] = 50,
        stride: Annotated[int, Ge(1)] | None = None,
    ):
        super().__init__(metric)
        self.max_length, self.stride = max_length, stride
        if stride and stride > max_length:
            raise InputError(
                f"with a stride of {stride} and windows of {max_length} places some events are in none",
                where="task.stride", fix=f"task.stride={max_length}, or task.stride=null",
            )  # fmt: skip

    def adapt(self, data: Data, parts: tuple[str, ...] = PARTS) -> Dataset:  # noqa: ARG002
        return store.require_pairs(data)

    def schema(self, data: Dataset) -> Schema:
        return replace(data.schema, max_length=self.max_length)

    def prepare(self, train: Interactions, device: torch.device) -> Sequences:
        return Sequences.of(train, device, self.max_length, self.stride)

    def epoch(
        self, train: Sequences, objective: Objective, *, seed: int, epoch: int, batch_size: int, queries: int
    ) -> SequenceEpoch:
        return sequence_epoch(
            train, seed=seed, epoch=epoch, batch_size=batch_size, queries=queries,
            sampler=objective.sampler if objective.negatives else None,
        )  # fmt: skip

    def batch_view(self, model: SequenceModel, batch: SequenceBatch, train: Sequences) -> SequenceView:
        return SequenceView(model, batch.query, train, batch)

    def queries(self, train: Sequences) -> int:
        return len(train)

    def view(self, model: SequenceModel, train: Sequences, query: Tensor) -> SequenceView:
        return SequenceView(model, query, train)

    def look(self, model: SequenceModel, train: Sequences, query: Tensor) -> SequenceView:
        return WindowView(model, query, train) if model.causal else self.view(model, train, query)

    def evaluate(
        self, model: SequenceModel | RankingModel, data: Dataset, part: str, ks: list[int], *, name: str = "model",
        rank: int = 0, world: int = 1, negatives: int | None = None, reranking: Reranking | None = None,
    ) -> RankingResult:  # fmt: skip
        """Ranks the whole catalogue for every user of ``part``, as :class:`~recdistill.tasks.ranking.Ranking` does.

        What a sequence model reads of a user are the events whose items are masked, in the order of time. A ranking
        model is a baseline here.
        """
        relevant: Interactions = getattr(data, part)
        seen = data.seen(part)
        users = evaluable(relevant.csr)[rank::world]
        if isinstance(model, RankingModel):
            score = scorer(model, data)
        else:
            score = sequence_scorer(model, histories(data, part), users)
        if negatives is not None:
            score = sampled(score, relevant.csr, seen, negatives)
        if reranking is not None:
            score = reranking.scorer(score, seen, max(ks))
        return rank_all(
            score, users=users, relevant=relevant.csr, seen=seen, ks=ks, n_items=data.train.n_items, name=name
        )

    def metrics(self, data: Dataset, ks: list[int]) -> RankingMetrics:
        return RankingMetrics(data.train.n_items, ks)

    def request(
        self, model: SequenceModel | RankingModel, data: Dataset, k: int
    ) -> tuple[Callable[[Tensor], object], Tensor]:
        if isinstance(model, RankingModel):
            score = scorer(model)
        else:
            score = sequence_scorer(model, Timeline.of(data.train))
        seen = data.train.csr
        return lambda users: recommend(score, users, seen, k), torch.arange(data.train.n_users)

    def scorer(
        self, model: SequenceModel | RankingModel, data: Dataset, part: str = "test", new: Tensor | None = None
    ) -> Scorer:
        if isinstance(model, RankingModel):
            return scorer(model, data, new)
        return sequence_scorer(model, histories(data, part), new=new)


def histories(data: Dataset, part: str) -> Timeline:
    """What may be read of each user when ``part`` is evaluated: what :meth:`Dataset.seen` masks, in order."""
    known = [] if data.known is None else [data.known]
    return Timeline.of(data.train, *known, *([] if part == "valid" else [data.valid]))


def sequence_scorer(
    model: SequenceModel, timeline: Timeline, users: Tensor | None = None, new: Tensor | None = None
) -> Scorer:
    """A function from users (CPU, ``[B]``) to scores (CPU, ``[B, n_items]``), outside autocast.

    Args:
        model: the model.
        timeline: what it reads of them.
        users: the only ones it will be asked for, int64 ``[U]``: all histories are read now, short ones together.
        new: vectors ``[n, d]`` of items that are scored too, behind the catalogue.
    """
    device = next(iter(model.state_dict().values())).device
    timeline = timeline.to(device)
    plain = torch.autocast(device.type, enabled=False)
    with torch.inference_mode(), plain:
        item = model.item_matrix().float()
        item = item if new is None else torch.cat([item, new.float().to(device)])

    def read(users: Tensor) -> Tensor:
        with torch.inference_mode(), plain:
            return model.query(timeline.last(users.to(device), model.schema.max_length)).float()

    if users is not None:
        by_length = users[timeline.indptr.diff().cpu()[users].argsort()]
        place = torch.empty(len(timeline.indptr) - 1, dtype=torch.int64)
        place[by_length] = torch.arange(len(users))
        vectors = torch.cat([read(part) for part in torch.split(by_length, CHUNK)] or [item[:0]])

    def score(asked: Tensor) -> Tensor:
        with torch.inference_mode(), plain:
            return ((read(asked) if users is None else vectors[place[asked]]) @ item.T).cpu()

    return score
