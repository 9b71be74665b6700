"""A ranking model among sequence models: a history is the user who has these items, whatever their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Len
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.interactions import Schema
from recdistill.errors import InputError
from recdistill.models.base import FactorModel, Model, SequenceModel
from recdistill.models.fold_in import fold_in
from recdistill.models.given import ReadyMade


class Folded(SequenceModel, ReadyMade):
    """The item vectors of a ranking model; the vector of a history is the user whom :func:`fold_in` finds for it.

    So a factorisation or a graph, which know users and no order, teach a sequence model: alone, or in an ensemble
    beside sequence models. No place sees what comes after it, since only the items up to there are folded in.

    Args:
        schema: sizes of the data.
        members: the ranking model's whole config under a name of its own: ``net``, ``objective`` and ``fit``.
        dim: length of its vectors.
    """

    causal = False  # there are no vectors of all places at once
    item: Tensor

    def __init__(
        self,
        schema: Schema,
        members: Annotated[dict[str, dict[str, Any]], Len(1, 1)],  # noqa: ARG002
        dim: Annotated[int, Ge(1)],
    ):
        super().__init__(schema)
        self.dim = dim
        self.register_buffer("item", torch.zeros(schema.n_items, dim))

    @classmethod
    def task_of_members(cls, net: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
        del net
        return {"_target_": "recdistill.tasks.ranking.Ranking", "metric": task["metric"]}

    def query(self, history: Tensor) -> Tensor:
        row, place = (history < self.schema.n_items).nonzero(as_tuple=True)
        return fold_in(self.item, Csr.from_pairs(row, history[row, place], len(history)))

    def item_matrix(self) -> Tensor:
        return self.item

    @torch.no_grad()
    def make(self, data: Any, members: Mapping[str, Model]) -> None:  # noqa: ARG002
        (model,) = members.values()
        if not isinstance(model, FactorModel):
            raise InputError(f"{type(model).__name__} has no item vectors to fold a history into",
                             where="net.members", fix="take mf, lightgcn or ials")  # fmt: skip
        item = model.eval().factors()[1].float()
        if item.shape[1] != self.dim:
            raise InputError(f"the vectors of {type(model).__name__} have {item.shape[1]} numbers, not {self.dim}",
                             where="net.dim", fix=f"net.dim={item.shape[1]}")  # fmt: skip
        self.item = item.clone()
