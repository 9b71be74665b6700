"""Hard losses of the ranking task: what a model learns from the interactions themselves."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn import functional as F

from recdistill.distillers.base import ModelView
from recdistill.models.base import FactorModel, RankingModel
from recdistill.tasks.batches import RankingBatch


class Objective:
    """A hard loss.

    Attributes:
        name: under which the term is logged.
        samples: what one sample of an epoch is, an interaction or a user.
        negatives: items that the sampler draws for each interaction.
    """

    name: str = "task"
    samples: Literal["interactions", "users"] = "interactions"
    negatives: int = 0

    def __call__(self, model: RankingModel, batch: RankingBatch, view: ModelView, rng: torch.Generator) -> Tensor:
        """Mean loss over the batch, a scalar.

        Args:
            model: the model in training.
            batch: one step.
            view: the model's answers for the users of ``batch.query``, shared with the distillers; those for
                other users come from ``view.of(users)``.
            rng: for random choices; equal on all processes of a step.
        """
        raise NotImplementedError


def l2_penalty(model: RankingModel, *touched: tuple[Literal["user", "item"], Tensor]) -> Tensor:
    """Half the squared length of the table rows that a batch touches, per sample of the first."""
    if not isinstance(model, FactorModel):
        raise TypeError(f"l2 needs a model with user and item vectors; {type(model).__name__} has none")
    user, item = model.raw_factors()
    total = user.new_zeros(())
    for table, ids in touched:
        total = total + F.embedding(ids, user if table == "user" else item).square().sum()
    return total / (2 * touched[0][1].numel())


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of -log σ(positive - negative), ``[B]`` against ``[B, n]``."""
    return F.softplus(negative - positive.unsqueeze(-1)).mean()


class BPR(Objective):
    """-log σ(z_ui - z_uj) for an item i of the user and items j that are not (+ l2 · penalty).

    Source: Rendle et al., BPR, UAI 2009. Negatives that all samples of a step share (``shared``) cost one
    matmul instead of a gather each, so that a thousand of them are affordable.

    Args:
        negatives: items j drawn for each sample, without the user's own.
        shared: items j drawn for all samples of a step, whoever's they are; replaces ``negatives`` when
            above 0.
        l2: weight of the penalty on the rows of users, items and own negatives, 0 for none.
    """

    name = "bpr"

    def __init__(
        self,
        negatives: Annotated[int, Ge(1)] = 1,
        shared: Annotated[int, Ge(0)] = 0,
        l2: Annotated[float, Ge(0)] = 0.0,
    ):
        self.negatives, self.shared, self.l2 = (0 if shared else negatives), shared, l2

    def __call__(self, model: RankingModel, batch: RankingBatch, view: ModelView, rng: torch.Generator) -> Tensor:
        own = view.of(batch.user)
        if self.shared:
            others = torch.randint(view.n_items, (self.shared,), generator=rng, device=batch.user.device)
            positive, negative = own.scores(batch.item.unsqueeze(1)).squeeze(1), own.scores(others)
        else:
            scores = own.scores(torch.cat([batch.item.unsqueeze(1), batch.negative], 1))
            positive, negative = scores[:, 0], scores[:, 1:]
        loss = bpr(positive, negative)
        if self.l2:
            touched = l2_penalty(model, ("user", batch.user), ("item", batch.item), ("item", batch.negative))
            loss = loss + self.l2 * touched
        return loss


class Softmax(Objective):
    """Cross-entropy between each user's items, all equally right, and the softmax over the whole catalogue.

    Source: the multinomial likelihood of Liang et al., Variational autoencoders for collaborative filtering,
    WWW 2018, eq. 2, per item of the user.

    Args:
        temperature: divides the scores.
    """

    name = "softmax"
    samples = "users"

    def __init__(self, temperature: Annotated[float, Gt(0)] = 1.0):
        self.temperature = temperature

    def __call__(
        self,
        model: RankingModel,  # noqa: ARG002
        batch: RankingBatch,  # noqa: ARG002
        view: ModelView,
        rng: torch.Generator,  # noqa: ARG002
    ) -> Tensor:
        row, item = view.seen.rows(view.users)
        count = torch.bincount(row, minlength=view.users.numel()).clamp(min=1)
        log_p = view.pair_scores(row, item) / self.temperature - view.log_normaliser(self.temperature)[row]
        return -(log_p / count[row]).sum() / view.users.numel()
