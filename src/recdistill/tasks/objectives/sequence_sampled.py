"""Hard losses over the places of histories, against sampled items: which item comes next."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor
from torch.nn import functional as F

from recdistill.errors import InputError
from recdistill.models.dot import dot_scores, pair_scores
from recdistill.tasks.objectives.contrastive import sampled_softmax
from recdistill.tasks.objectives.sequence import OverSequences, precise
from recdistill.tasks.sampling import Sampler, Uniform
from recdistill.tasks.sequence_batches import SequenceBatch
from recdistill.tasks.sequence_view import SequenceView


class SequenceSampledSoftmax(OverSequences):
    """-log(e^z_i / (e^z_i + Σ_j e^(z_j - log(n q_j)))): n items j, shared by all places, stand for the catalogue.

    A negative that is the next item i itself does not count. Source: Bengio and Senécal, AISTATS 2003; the sum is the
    importance-sampling estimate of the full softmax's.

    Args:
        negatives: n, drawn for each step.
        correction: subtract log(n q_j); without it frequent negatives count for more.
        sampler: gives q, :mod:`recdistill.tasks.sampling`; None is uniform.

    Raises:
        InputError: the sampler draws from no fixed distribution.
    """

    name = "sequence_sampled_softmax"

    def __init__(
        self, negatives: Annotated[int, Ge(1)] = 1000, correction: bool = True, sampler: Sampler | None = None
    ):
        self.negatives, self.correction, self.sampler = negatives, correction, fixed(sampler)

    def loss(self, query: Tensor, target: Tensor, user: Tensor, view: SequenceView, batch: SequenceBatch,  # noqa: ARG002
             rng: torch.Generator) -> Tensor:  # fmt: skip
        assert batch.proposal is not None
        item = batch.proposal.draw(self.negatives, rng)
        place = torch.arange(len(query), device=query.device)
        positive = precise(pair_scores(query, view.items(), place, target))
        negative = precise(query @ F.embedding(item, view.items()).T)
        if self.correction:
            negative = negative - batch.proposal.log_q(item) - math.log(self.negatives)
        return sampled_softmax(positive, negative.masked_fill(item == target.unsqueeze(1), -torch.inf))


class SequenceBCE(OverSequences):
    """-[log σ(z_i) + Σ_j log(1 - σ(z_j))] / (n + 1) for the next item i and n items j that its user never had.

    Source: Kang and McAuley, Self-attentive sequential recommendation, ICDM 2018, for n = 1 and without the division.

    Args:
        negatives: n, drawn for each place; their vectors take P · n · d numbers for P places.
        sampler: where they come from, :mod:`recdistill.tasks.sampling`; None is uniform.

    Raises:
        InputError: the sampler draws from no fixed distribution.
    """

    name = "sequence_bce"

    def __init__(self, negatives: Annotated[int, Ge(1)] = 1, sampler: Sampler | None = None):
        self.negatives, self.sampler = negatives, fixed(sampler)

    def draw(self, target: Tensor, user: Tensor, batch: SequenceBatch, n_items: int, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        """Negatives int64 ``[P, n]``."""
        assert batch.proposal is not None
        return batch.proposal.draw_unseen(user, self.negatives, rng)

    def exponent(self, n_items: int) -> float:  # noqa: ARG002
        """Of the probability of the next item."""
        return 1.0

    def loss(self, query: Tensor, target: Tensor, user: Tensor, view: SequenceView, batch: SequenceBatch,
             rng: torch.Generator) -> Tensor:  # fmt: skip
        item = self.draw(target, user, batch, view.n_items, rng)
        place = torch.arange(len(query), device=query.device)
        scores = precise(dot_scores(query, view.items(), place, torch.cat([target.unsqueeze(1), item], 1)))
        return gbce(scores[:, 0], scores[:, 1:], self.exponent(view.n_items))


class SequenceGBCE(SequenceBCE):
    """-[log σ(z_i)^β + Σ_j log(1 - σ(z_j))] / (n + 1), the n negatives j drawn evenly from all items but i.

    β = α (t (1 - 1/α) + 1/α) with α = n / (n_items - 1), the share of the other items that is drawn. At t = 0 it is 1,
    and probabilities are too high by far; at t = 1 it is α, and they are right.

    Source: Petrov and Macdonald, gSASRec: Reducing overconfidence in sequential recommendation trained with negative
    sampling, RecSys 2023.

    Args:
        negatives: n, drawn for each place, at most as many as there are other items; their vectors take P · n · d
            numbers for P places.
        t: calibration.
    """

    name = "sequence_gbce"

    def __init__(self, negatives: Annotated[int, Ge(1)] = 256, t: Annotated[float, Ge(0), Le(1)] = 0.75):
        super().__init__(negatives)
        self.t = t

    def draw(self, target: Tensor, user: Tensor, batch: SequenceBatch, n_items: int, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        shape = (len(target), self.count(n_items))
        item = torch.randint(max(n_items - 1, 1), shape, generator=rng, device=target.device)
        return item + (item >= target.unsqueeze(1))

    def exponent(self, n_items: int) -> float:
        share = self.count(n_items) / max(n_items - 1, 1)
        return 1 - self.t * (1 - share)

    def count(self, n_items: int) -> int:
        """n, within a catalogue."""
        return min(self.negatives, n_items - 1)


def fixed(sampler: Sampler | None) -> Sampler:
    """The sampler, uniform by default, if it draws from one distribution for all."""
    if sampler and (sampler.in_batch or sampler.candidates > 1):
        raise InputError(
            f"losses over sequences can't draw negatives by {type(sampler).__name__}", where="objective.sampler",
            fix="sampler@objective.sampler=uniform, or popularity",
        )  # fmt: skip
    return sampler or Uniform()


def gbce(positive: Tensor, negative: Tensor, beta: float) -> Tensor:
    """Mean of -(β log σ(positive) + Σ log(1 - σ(negative))) / (n + 1), ``[P]`` and ``[P, n]``."""
    total = beta * F.softplus(-positive).sum() + F.softplus(negative).sum()
    return total / (negative.numel() + positive.numel())
