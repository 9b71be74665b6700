"""A contrastive loss beside another hard loss: two changed copies of a history are alike, two histories are not."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from recdistill.models.base import SequenceModel
from recdistill.models.tied import TiedSequenceModel
from recdistill.tasks import augment
from recdistill.tasks.objectives.base import Objective
from recdistill.tasks.objectives.sequence import precise
from recdistill.tasks.sequence_batches import SequenceBatch
from recdistill.tasks.sequence_view import SequenceView

Share = Annotated[float, Interval(ge=0, le=1)]


class SequenceContrast(Objective):
    """base + weight · InfoNCE of the step's histories, each changed twice: cropped, masked or reordered, at random.

    Similarity is the dot product of the vectors at the last places, and all other changed histories of the step are
    negatives. With several processes each contrasts its own share of the step.

    Source: Xie et al., Contrastive learning for sequential recommendation (CL4SRec), ICDE 2022.

    Args:
        base: the loss that predicts.
        weight: of the contrast, λ.
        temperature: divides the similarities; the paper has none, which is 1.
        crop: share of a history that is kept.
        mask: share that is masked: by the model's own mask, or by a vector of zeros. A model that has neither
            is given cropped and reordered histories alone.
        reorder: share that is put in random order.
    """

    tasks = ("sequence",)
    samples = "sequences"
    name = "sequence_contrast"

    def __init__(
        self,
        base: Objective,
        weight: Annotated[float, Ge(0)] = 0.1,
        temperature: Annotated[float, Gt(0)] = 1.0,
        crop: Share = 0.6,
        mask: Share = 0.3,
        reorder: Share = 0.6,
    ):
        self.base, self.weight, self.temperature = base, weight, temperature
        self.crop, self.mask, self.reorder = crop, mask, reorder
        self.negatives, self.sampler, self.few_labels = base.negatives, base.sampler, base.few_labels

    def __call__(self, model: SequenceModel, batch: SequenceBatch, view: SequenceView, rng: torch.Generator) -> Tensor:
        loss = self.base(model, batch, view, rng)
        changed = torch.cat([self.change(model, batch.history, rng) for _ in range(2)])
        first, second = last(model, changed).chunk(2)
        return loss + self.weight * nt_xent(first, second, self.temperature)

    def change(self, model: SequenceModel, history: Tensor, rng: torch.Generator) -> Tensor:
        """Each history ``[B, L]`` changed in one way, drawn for it."""
        pad, token = model.schema.n_items, mask_token(model)
        ways = [augment.crop(history, pad, self.crop, rng), augment.reorder(history, pad, self.reorder, rng)]
        if token is not None:
            ways.append(augment.mask(history, pad, self.mask, token, rng))
        way = torch.randint(len(ways), (len(history),), generator=rng, device=history.device)
        return torch.stack(ways)[way, torch.arange(len(history), device=history.device)]


def mask_token(model: SequenceModel) -> int | None:
    """What a model reads as a masked item; of a table of vectors what is no item is zeros."""
    token: int | None = getattr(model, "mask_token", None)
    if token is None and isinstance(model, TiedSequenceModel):
        return model.schema.n_items + 1
    return token


def last(model: SequenceModel, history: Tensor) -> Tensor:
    """The vectors ``[B, d]`` at the last places of histories, masked ones among them."""
    if not model.causal:
        return model.query(history)
    place = augment.lengths(history, model.schema.n_items) - 1
    return model(history)[torch.arange(len(history), device=history.device), place]  # type: ignore[no-any-return]


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Mean over the rows a of both ``[n, d]`` of -log(e^(a · b / τ) / Σ_c e^(a · c / τ)): b is the partner of a in the
    other tensor, c all rows of both but a itself."""
    rows = precise(torch.cat([first, second]))
    similarity = rows @ rows.T / temperature
    similarity.fill_diagonal_(-torch.inf)
    partner = torch.arange(len(rows), device=rows.device).roll(len(first))
    return torch.nn.functional.cross_entropy(similarity, partner)
