"""A sequence model among ranking models: a user is what it makes of their history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from annotated_types import Ge, Len
from torch import Tensor

from recdistill.data.interactions import Dataset, Schema
from recdistill.errors import InputError
from recdistill.models.base import FactorModel, Model, SequenceModel
from recdistill.models.given import ReadyMade
from recdistill.tasks.timeline import Timeline

CHUNK = 512  # histories that are read at once


class ByHistory(FactorModel, ReadyMade):
    """The vectors that a sequence model has of the users' histories in the training part, and of the items.

    So a sequence model teaches those who know users and no order: alone, or in an ensemble beside other families.

    Args:
        schema: sizes of the data.
        members: the sequence model's whole config under a name of its own: ``net``, ``objective`` and ``fit``.
        dim: length of its vectors.
        max_length: longest history that it reads.
    """

    user: Tensor
    item: Tensor

    def __init__(
        self,
        schema: Schema,
        members: Annotated[dict[str, dict[str, Any]], Len(1, 1)],  # noqa: ARG002
        dim: Annotated[int, Ge(1)],
        max_length: Annotated[int, Ge(1)] = 50,
    ):
        super().__init__(schema)
        self.dim, self.max_length = dim, max_length
        self.register_buffer("user", torch.zeros(schema.n_users, dim))
        self.register_buffer("item", torch.zeros(schema.n_items, dim))

    @classmethod
    def task_of_members(cls, net: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
        return {"_target_": "recdistill.tasks.sequence.Sequence", "metric": task["metric"],
                "max_length": net["max_length"], "stride": None}  # fmt: skip

    def factors(self) -> tuple[Tensor, Tensor]:
        return self.user, self.item

    @torch.no_grad()
    def make(self, data: Dataset, members: Mapping[str, Model]) -> None:
        (model,) = members.values()
        assert isinstance(model, SequenceModel)
        item = model.eval().item_matrix().float()
        if item.shape[1] != self.dim:
            raise InputError(f"the vectors of {type(model).__name__} have {item.shape[1]} numbers, not {self.dim}",
                             where="net.dim", fix=f"net.dim={item.shape[1]}")  # fmt: skip
        timeline = Timeline.of(data.train)
        users = torch.split(torch.arange(data.train.n_users), CHUNK)
        self.user = torch.cat([model.query(timeline.last(some, self.max_length)).float() for some in users])
        self.item = item.clone()
