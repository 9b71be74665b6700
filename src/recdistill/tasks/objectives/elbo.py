"""The evidence lower bound of a variational autoencoder."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from recdistill.distillers.views import ModelView
from recdistill.models.base import RankingModel
from recdistill.models.multvae import MultVAE
from recdistill.tasks.batches import RankingBatch
from recdistill.tasks.objectives.base import Objective


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, e^log_variance) ‖ N(0, 1)), summed over the latent dimensions of ``[B, d]``: ``[B]``."""
    return 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance).sum(-1)


class ELBO(Objective):
    """-Σ over the user's items of log softmax(f(z))_i + β · KL(q(z | x) ‖ N(0, 1)), z ~ q(z | x), per user.

    Source: Liang et al., Variational autoencoders for collaborative filtering, WWW 2018, eq. 7, with β rising in
    proportion to the steps as in section 2.2.2. For a model without a latent distribution the divergence is 0, and
    what is left is the multinomial likelihood of eq. 2.

    Args:
        beta: largest β.
        anneal: steps until it is reached, 0 to begin with it; parts of steps where gradients accumulate.
    """

    name = "elbo"
    samples = "users"

    def __init__(self, beta: Annotated[float, Ge(0)] = 0.2, anneal: Annotated[int, Ge(0)] = 0):
        self.beta, self.anneal = beta, anneal

    def __call__(
        self,
        model: RankingModel,
        batch: RankingBatch,
        view: ModelView,
        rng: torch.Generator,  # noqa: ARG002
    ) -> Tensor:
        view = view if batch.user is view.users else view.of(batch.user)
        row, item = view.seen.rows(view.users)
        counts = torch.bincount(row, minlength=view.users.numel())
        if not isinstance(model, MultVAE):
            log_likelihood = view.pair_scores(row, item).sum() - (counts * view.log_normaliser()).sum()
            return -log_likelihood / view.users.numel()
        # The likelihood and the divergence are those of one draw of z: the view's scores would be of another.
        mean, log_variance = model.encode(model.history(view.users))
        scores = model.decode(model.sample(mean, log_variance)).float()
        log_likelihood = scores[row, item].sum() - (counts * scores.logsumexp(-1)).sum()
        regret = divergence(mean.float(), log_variance.float()).sum()
        return (self.annealed(model) * regret - log_likelihood) / view.users.numel()

    def annealed(self, model: MultVAE) -> float | Tensor:
        """β of this step, which is counted in the model, so that a checkpoint holds it."""
        if not self.anneal:
            return self.beta
        beta = self.beta * (model.updates / self.anneal).clamp(max=1)
        if model.training:
            model.updates += 1
        return beta
