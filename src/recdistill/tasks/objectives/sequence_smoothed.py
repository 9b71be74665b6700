"""The softmax over the catalogue with labels that items of like content share."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

from recdistill.data.features import sizes_of
from recdistill.data.interactions import Interactions
from recdistill.models.content_knn import directions
from recdistill.models.fusion import chosen
from recdistill.tasks.objectives.sequence import OverSequences, catalogue_cross_entropy, precise
from recdistill.tasks.sequence_batches import SequenceBatch
from recdistill.tasks.sequence_view import SequenceView

ROWS = 2048  # items whose cosines exist at once


class SequenceSmoothed(OverSequences):
    """Cross-entropy against q(j | t) = (1 - share) [j = t] + share · softmax_{j in N(t)}(cos(c_j, c_t) / temperature):
    part of each label goes to the neighbours N(t) of the next item t, those whose content vectors c are most like its
    own. A text encoder so teaches a model that never reads a text, and rare items learn from the events of their like.

    An item without a content vector keeps its label whole. The cost is that of one vector more per item, not of more
    scores: Σ_j q_j log p_j = query · Σ_j q_j v_j - log Σ_i e^{query · v_i}.

    Source: label smoothing of Szegedy et al., CVPR 2016, section 7, with a distribution that content gives instead of
    the uniform one.

    Args:
        share: of each label that goes to the neighbours; 0 for none.
        neighbours: of an item, at most.
        temperature: divides the cosines.
        features: names of vector features; None for all.

    Raises:
        InputError: the items have no such vectors.
    """

    name = "sequence_smoothed"

    def __init__(
        self,
        share: Annotated[float, Interval(ge=0, lt=1)] = 0.5,
        neighbours: Annotated[int, Ge(1)] = 20,
        temperature: Annotated[float, Gt(0)] = 0.1,
        features: list[str] | None = None,
    ):
        self.share, self.neighbours, self.temperature, self.features = share, neighbours, temperature, features
        self.near, self.weight = torch.empty(0, 0, dtype=torch.int64), torch.empty(0, 0)

    def bind(self, train: Any) -> None:
        if self.share and isinstance(train, Interactions):
            names = chosen(sizes_of(train.item_features), self.features, self.name, ["vector"], "objective.features")
            rows = directions(train.item_features, list(names["vector"]), train.n_items)
            self.near, self.weight = nearest(rows, self.neighbours, self.temperature)

    def loss(self, query: Tensor, target: Tensor, user: Tensor, view: SequenceView, batch: SequenceBatch,  # noqa: ARG002
             rng: torch.Generator) -> Tensor:  # noqa: ARG002  # fmt: skip
        items = view.items()
        plain = catalogue_cross_entropy(query, items, target)
        if not self.share:
            return plain
        self.near, self.weight = self.near.to(items.device), self.weight.to(items.device)
        own = torch.nn.functional.embedding(target, items)
        near, weight = self.near[target], self.weight[target]  # [P, K]
        known = weight.sum(1, keepdim=True)  # 1, or 0 where an item has no neighbours
        like = torch.nn.functional.embedding_bag(near, items, per_sample_weights=weight.to(items.dtype), mode="sum")
        moved = precise(query) * precise(known * own - like)
        return plain + self.share * moved.sum(1).mean()


def nearest(rows: Tensor, count: int, temperature: float) -> tuple[Tensor, Tensor]:
    """The most alike others of each row, of rows ``[n, d]`` of length 1, or 0 for those that are not known.

    Returns:
        int64 ``[n, K]``, K ≤ ``count``, and the softmax of their cosines over the temperature, float ``[n, K]``: 0 for
        rows that are not known and for all of those that are like none.
    """
    known = rows.any(1)
    count = min(count, max(1, len(rows) - 1))
    near, weight = [], []
    for part in torch.split(torch.arange(len(rows), device=rows.device), ROWS):
        cosines = (rows[part] @ rows.T).masked_fill(~known, -torch.inf)
        cosines[torch.arange(len(part)), part] = -torch.inf
        best = cosines.topk(count, dim=1)
        powers = torch.softmax(best.values / temperature, 1).nan_to_num(0.0)
        near.append(best.indices)
        weight.append(powers * known[part].unsqueeze(1))
    return torch.cat(near), torch.cat(weight)
