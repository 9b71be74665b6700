"""Losses that set a positive item against many negatives at once: sampled softmax, cosine contrastive."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.nn import functional as F

from recdistill.distillers.views import ModelView
from recdistill.errors import InputError
from recdistill.models.base import FactorModel
from recdistill.models.dot import own_scores
from recdistill.tasks.batches import RankingBatch
from recdistill.tasks.objectives.sampled import Sampled, Scored
from recdistill.tasks.sampling import Sampler


def sampled_softmax(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of -log(e^positive / (e^positive + Σ e^negative)), ``[B]`` and ``[B, n]``."""
    return (torch.cat([positive.unsqueeze(-1), negative], -1).logsumexp(-1) - positive).mean()


class SampledSoftmax(Sampled):
    """-log(e^z_ui / (e^z_ui + Σ_j e^(z_uj - log(n q_j)))): n negatives stand for the whole catalogue.

    With ``correction: negatives`` the sum is the importance-sampling estimate of the full softmax's, Bengio and
    Senécal, Quick training of probabilistic neural nets by importance sampling, AISTATS 2003, where the positive is
    known and not sampled. With ``all`` its score is corrected too, as for in-batch negatives in Yi et al.,
    Sampling-bias-corrected neural modeling, RecSys 2019, section 4: s - log p. With ``none`` frequent negatives count
    for more. Own negatives stand for what the user has not seen, shared and in-batch ones for all other items.

    Args:
        temperature: divides the scores.
        correction: which scores are corrected for how often the sampler draws their item.
        negatives, shared, l2, sampler: see :class:`~recdistill.tasks.objectives.sampled.Sampled`.

    Raises:
        InputError: a correction with hard negatives, whose probability nobody knows.
    """

    name = "sampled_softmax"

    def __init__(
        self,
        negatives: Annotated[int, Ge(1)] = 1,
        shared: Annotated[int, Ge(0)] = 0,
        l2: Annotated[float, Ge(0)] = 0.0,
        temperature: Annotated[float, Gt(0)] = 1.0,
        correction: Literal["negatives", "all", "none"] = "negatives",
        sampler: Sampler | None = None,
    ):
        super().__init__(negatives, shared, l2, sampler)
        self.temperature, self.correction = temperature, correction
        if correction != "none" and self.sampler.candidates > 1:
            raise InputError(
                f"correction={correction} can't go with hard negatives", where="objective.correction",
                why="how likely an item is to be the highest scored of some is not known",
                fix="objective.correction=none, or another sampler",
            )  # fmt: skip

    def loss(self, scored: Scored, batch: RankingBatch) -> Tensor:
        positive, negative = scored.positive / self.temperature, scored.negative / self.temperature
        if self.correction != "none":
            assert batch.proposal is not None
            # In a step of S samples the others are S - 1 draws.
            drawn = max(scored.items.shape[-1] - self.sampler.in_batch, 1)
            users = batch.user if self.negatives else None
            negative = negative - batch.proposal.log_q(scored.items, users) - math.log(drawn)
            if self.correction == "all":
                own = batch.proposal.log_q(batch.item, users)
                positive = positive - own - math.log(drawn)
        return sampled_softmax(positive, negative)


def ccl(positive: Tensor, negative: Tensor, margin: float, weight: float) -> Tensor:
    """Mean of (1 - positive) + weight · mean of max(0, negative - margin), cosines ``[B]`` and ``[B, n]``."""
    return (1 - positive).mean() + weight * F.relu(negative - margin).mean()


class CCL(Sampled):
    """Cosine contrastive loss: (1 - cos_ui) + weight · mean_j max(0, cos_uj - margin).

    Only negatives that are still too near count. The cosine is that of the vectors; a model that scores by the
    cosine (``normalise`` of :class:`~recdistill.models.mf.MF`) is ranked by what it was trained on.

    Source: Mao et al., SimpleX, CIKM 2021, the loss L_CCL.

    Args:
        margin: cosine from which a negative counts.
        weight: of the negatives beside the positive.
        negatives, shared, l2, sampler: see :class:`~recdistill.tasks.objectives.sampled.Sampled`.
    """

    name = "ccl"

    def __init__(
        self,
        negatives: Annotated[int, Ge(1)] = 20,
        shared: Annotated[int, Ge(0)] = 0,
        l2: Annotated[float, Ge(0)] = 0.0,
        margin: Annotated[float, Ge(-1), Le(1)] = 0.8,
        weight: Annotated[float, Ge(0)] = 10.0,
        sampler: Sampler | None = None,
    ):
        super().__init__(negatives, shared, l2, sampler)
        self.margin, self.weight = margin, weight

    def scores(self, view: ModelView, items: Tensor) -> Tensor:
        if not isinstance(view.model, FactorModel):
            raise InputError(
                f"ccl needs factors, whose dot products are the scores; {type(view.model).__name__} has none",
                where="objective", fix="choose another objective, such as objective@objective=bpr",
            )  # fmt: skip
        user, rows = F.normalize(view.user_vectors(), dim=-1), F.normalize(view.item_vectors(items), dim=-1)
        return user @ rows.T if items.dim() == 1 else own_scores(user, rows)

    def loss(self, scored: Scored, batch: RankingBatch) -> Tensor:  # noqa: ARG002
        return ccl(scored.positive, scored.negative, self.margin, self.weight)
