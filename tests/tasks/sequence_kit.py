"""Small sequence data, and models whose answers can be worked out by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recdistill.data.interactions import Interactions, Schema
from recdistill.models.base import SequenceModel
from recdistill.tasks.windows import Sequences

CPU = torch.device("cpu")


def events(sizes: list[int], n_items: int = 11, seed: int = 0) -> Interactions:
    """So many events of each user, at times without ties, of random items; rows in no order."""
    rng = torch.Generator().manual_seed(seed)
    n = sum(sizes)
    user = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    item = torch.randint(n_items, (n,), generator=rng)
    mixed = torch.randperm(n, generator=rng)
    return Interactions(user[mixed], item[mixed], len(sizes), n_items, time=torch.randperm(n, generator=rng))


def sequences(sizes: list[int], max_length: int = 5, n_items: int = 11, stride: int | None = None) -> Sequences:
    return Sequences.of(events(sizes, n_items), CPU, max_length, stride)


class Weighted(SequenceModel):
    """The vector at a place: Σ of the items up to there, each half of the one behind it."""

    def __init__(self, schema: Schema, dim: int = 4):
        super().__init__(schema)
        self.item = nn.Embedding(schema.n_items + 2, dim)  # with padding and the mask
        self.calls = 0

    def forward(self, history: Tensor) -> Tensor:
        self.calls += 1
        place = torch.arange(history.shape[1])
        behind = place.unsqueeze(1) - place
        share = torch.where(behind >= 0, 0.5 ** behind.clamp(min=0), 0.0).to(self.item.weight.dtype)
        return share @ self.item(history)

    def item_matrix(self) -> Tensor:
        return self.item.weight[: self.schema.n_items]


class BothSides(Weighted):
    """The vector at a place: the mean of all items of the history, those behind the place too."""

    causal = False

    @property
    def mask_token(self) -> int:
        return self.schema.n_items + 1

    def forward(self, history: Tensor) -> Tensor:
        self.calls += 1
        inside = (history != self.schema.n_items).unsqueeze(-1)
        total = (self.item(history) * inside).sum(1, keepdim=True)
        return (total / inside.sum(1, keepdim=True)).expand(-1, history.shape[1], -1)


def model_of(train: Sequences, kind: type[Weighted] = Weighted, dtype: torch.dtype = torch.float64) -> Weighted:
    torch.manual_seed(0)
    return kind(Schema(n_items=train.n_items, max_length=train.max_length)).to(dtype)
