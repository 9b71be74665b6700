"""Hard losses over the places of histories, against the whole catalogue: which item comes next, or is masked."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from recdistill.errors import InputError
from recdistill.models.base import SequenceModel
from recdistill.models.dot import pair_scores
from recdistill.tasks.objectives.base import Objective
from recdistill.tasks.sequence_batches import SequenceBatch
from recdistill.tasks.sequence_view import SequenceView

SCORE_BYTES = 256 * 2**20  # of scores that exist at once


class OverSequences(Objective):
    """A loss over the places of a step that have a next item; a subclass says which, in :meth:`loss`."""

    tasks = ("sequence",)
    samples = "sequences"

    def loss(self, query: Tensor, target: Tensor, user: Tensor, view: SequenceView, batch: SequenceBatch,
             rng: torch.Generator) -> Tensor:  # fmt: skip
        """Mean over places.

        Args:
            query: ``[P, d]``, the vector of each place.
            target: int64 ``[P]``.
            user: int64 ``[P]``.
        """
        raise NotImplementedError

    def __call__(self, model: SequenceModel, batch: SequenceBatch, view: SequenceView, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        row, place = (batch.target >= 0).nonzero(as_tuple=True)
        if not len(row):  # none of the step has a label; a loss of 0 that all weights have a gradient of
            return 0.0 * (view.hidden().sum() + view.items().sum())
        query = F.embedding(row * batch.target.shape[1] + place, view.hidden().flatten(0, 1))
        return self.loss(query, batch.target[row, place], batch.user[row], view, batch, rng)


class SequenceSoftmax(OverSequences):
    """Cross-entropy of the next item against the whole catalogue.

    Source: Klenitskiy and Vasilev, Turning dross into gold loss: Is BERT4Rec really better than SASRec?, RecSys 2023.
    """

    name = "sequence_softmax"

    def loss(self, query: Tensor, target: Tensor, user: Tensor, view: SequenceView, batch: SequenceBatch,  # noqa: ARG002
             rng: torch.Generator) -> Tensor:  # noqa: ARG002  # fmt: skip
        return catalogue_cross_entropy(query, view.items(), target)


class SequenceCloze(Objective):
    """Cross-entropy of masked items against the whole catalogue, by a model that sees both sides of a place.

    Every place is masked with some probability, and one of a sequence at least. In some sequences the last place alone
    is, as when the model is asked what comes next.

    Source: Sun et al., BERT4Rec, CIKM 2019. With several processes each mean is over the places that its share masks,
    however many these are.

    Args:
        probability: that a place is masked.
        last: share of the sequences whose last place alone is masked.
    """

    tasks = ("sequence",)
    samples = "sequences"
    name = "sequence_cloze"
    few_labels = False  # what is masked is any place, and a place that is not is read

    def __init__(
        self,
        probability: Annotated[float, Gt(0), Le(1)] = 0.2,
        last: Annotated[float, Ge(0), Le(1)] = 0.1,
    ):
        self.probability, self.last = probability, last

    def __call__(self, model: SequenceModel, batch: SequenceBatch, view: SequenceView, rng: torch.Generator) -> Tensor:
        token = getattr(model, "mask_token", None)
        if token is None:
            raise InputError(
                f"{type(model).__name__} knows no masked items, which sequence_cloze asks for",
                where="objective", fix="objective@objective=sequence_softmax",
            )  # fmt: skip
        whole = joined(batch, view.n_items, model.schema.max_length)
        chosen = self.masked(whole < view.n_items, rng)
        hidden = model(whole.masked_fill(chosen, token)).flatten(0, 1)
        query = F.embedding(chosen.flatten().nonzero().flatten(), hidden)
        return catalogue_cross_entropy(query, view.items(), whole[chosen])

    def masked(self, inside: Tensor, rng: torch.Generator) -> Tensor:
        """bool ``[B, L]``: which places of sequences ``inside`` are masked."""
        noise = torch.rand(inside.shape, generator=rng, device=inside.device).masked_fill(~inside, 2.0)
        chosen = (noise < self.probability) | (noise == noise.amin(1, keepdim=True))
        alone = torch.rand(len(inside), generator=rng, device=inside.device) < self.last
        place = torch.arange(inside.shape[1], device=inside.device)
        final = place == inside.sum(1, keepdim=True) - 1
        return torch.where(alone.unsqueeze(1), final, chosen & inside)


def joined(batch: SequenceBatch, n_items: int, max_length: int) -> Tensor:
    """The sequences of a batch with their last target, int64 ``[B, L]``; without the first item where too long."""
    behind = batch.target.masked_fill(batch.target < 0, n_items)
    whole = torch.cat([batch.history[:, :1], behind], 1)
    if whole.shape[1] <= max_length:
        return whole
    return torch.where(behind[:, -1:] < n_items, behind, whole[:, :-1])


def precise(scores: Tensor) -> Tensor:
    """In single precision, or double where they are."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def catalogue_cross_entropy(query: Tensor, items: Tensor, target: Tensor) -> Tensor:
    """Mean of log Σ_j e^{q · v_j} - q · v_target over the queries ``[P, d]``, items ``[n_items, d]``, targets ``[P]``.

    Of the scores of all items, 256 MB exist at once.
    """
    place = torch.arange(len(query), device=query.device)
    normaliser: Tensor = _MeanLogNormaliser.apply(query, items)  # type: ignore[no-untyped-call]
    return normaliser - precise(pair_scores(query, items, place, target)).mean()


class _MeanLogNormaliser(torch.autograd.Function):
    """Mean of log Σ_j e^{q · v_j} over the queries.

    The gradient of a mean is known up to a factor before the backward pass: it is computed while the scores are there,
    so that none of them is kept or computed twice.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, items: Tensor) -> Tensor:
        dtype = torch.promote_types(query.dtype, torch.float32)
        table, to_query, to_items = items.to(dtype), [], torch.zeros_like(items, dtype=dtype)
        total = table.new_zeros(())
        rows = max(1, SCORE_BYTES // (table.element_size() * max(len(items), 1)))
        with torch.autocast(query.device.type, enabled=False):
            for part in torch.split(query.to(dtype), rows):
                scores = part @ table.T
                largest = scores.amax(-1, keepdim=True)
                powers = scores.sub_(largest).exp_()
                mass = powers.sum(-1, keepdim=True)
                total += (largest + mass.log()).sum()
                to_query.append((powers @ table) / mass)
                to_items.addmm_(powers.T, part / mass)
        ctx.save_for_backward(torch.cat(to_query), to_items)
        ctx.dtypes = query.dtype, items.dtype
        return total / len(query)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        to_query, to_items = ctx.saved_tensors
        share = grad / len(to_query)
        query, items = ctx.dtypes
        return (to_query * share).to(query), (to_items * share).to(items)
