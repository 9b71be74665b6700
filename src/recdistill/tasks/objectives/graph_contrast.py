"""A contrastive loss beside another hard loss: two views of a user are alike, two users are not."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn import functional as F

from recdistill.distillers.views import ModelView
from recdistill.errors import InputError
from recdistill.models.base import FactorModel, RankingModel
from recdistill.models.dot import log_normaliser
from recdistill.models.lightgcn import shifted
from recdistill.models.simgcl import SimGCL
from recdistill.tasks.batches import RankingBatch
from recdistill.tasks.objectives.base import Objective

NOISE = 0.1


def info_nce(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Mean over i of -log(e^(cos(a_i, b_i) / τ) / Σ_j e^(cos(a_i, b_j) / τ)), rows of two ``[n, d]``."""
    query, keys = F.normalize(first.float(), dim=-1) / temperature, F.normalize(second.float(), dim=-1)
    return (log_normaliser(query, keys) - (query * keys).sum(-1)).mean()


class GraphContrast(Objective):
    """base + weight · (InfoNCE of the step's users + InfoNCE of its items), each over two views of their vectors.

    The views are the model's own where it has them (:mod:`recdistill.models.simgcl`); the vectors of another model
    are shifted at random. Users and items of a step count once. With several processes each contrasts its own share
    of the step.

    Source: Yu et al., Are graph augmentations necessary?, SIGIR 2022, eq. 3 and 5; XSimGCL, TKDE 2023.

    Args:
        base: the loss that ranks.
        weight: of the contrast, λ.
        temperature: τ; lower separates more.

    Raises:
        InputError: the model has no vectors.
    """

    name = "graph_contrast"

    def __init__(
        self, base: Objective, weight: Annotated[float, Ge(0)] = 0.1, temperature: Annotated[float, Gt(0)] = 0.2
    ):
        self.base, self.weight, self.temperature = base, weight, temperature
        self.samples, self.negatives, self.sampler = base.samples, base.negatives, base.sampler

    def __call__(self, model: RankingModel, batch: RankingBatch, view: ModelView, rng: torch.Generator) -> Tensor:
        loss = self.base(model, batch, view, rng)
        users = torch.unique(batch.user)
        items = torch.unique(batch.item if batch.item.numel() else view.seen.rows(batch.user)[1])
        first, second = views(model, view)
        return loss + self.weight * sum(
            info_nce(F.embedding(rows, a), F.embedding(rows, b), self.temperature)
            for rows, a, b in zip((users, items), first, second, strict=True)
        )


def views(model: RankingModel, view: ModelView) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Two views of the vectors of all users and items."""
    if isinstance(model, SimGCL):
        return model.views()
    if not isinstance(model, FactorModel):
        raise InputError(
            f"a contrast needs factors, whose dot products are the scores; {type(model).__name__} has none",
            where="objective", fix="choose another objective, such as objective@objective=bce",
        )  # fmt: skip
    user, item = view.factors()
    return (shifted(user, NOISE), shifted(item, NOISE)), (shifted(user, NOISE), shifted(item, NOISE))
