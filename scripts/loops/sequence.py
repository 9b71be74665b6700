"""SASRec and GRU4Rec, with the softmax over the catalogue at every place; a batch is padded to its longest window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from loops.ranking import train
from recdistill.tasks.windows import Sequences


def batches(data: Any, cfg: dict[str, Any]) -> Callable[[], Iterator[tuple[Tensor, Tensor]]]:
    """Histories ``[B, L]`` and the item after each place, -1 for none."""
    longest, batch_size = cfg["task"]["max_length"], cfg["teacher"]["fit"]["batch_size"]
    given = Sequences.of(data.train, torch.device("cpu"), longest)
    inside = torch.arange(longest) < given.count.unsqueeze(1)
    at = torch.where(inside, given.first.unsqueeze(1) + torch.arange(longest), 0)
    history = torch.where(inside, given.timeline.item[at], data.train.n_items)
    target = torch.where(inside, given.timeline.item[(at + 1).clamp(max=len(given) - 1)], -1)

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.randperm(len(history)).split(batch_size):
            width = int(given.count[rows].max())
            yield history[rows, :width], target[rows, :width]

    return epoch


def softmax(model: nn.Module, items: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(history: Tensor, target: Tensor) -> Tensor:
        wanted = target >= 0
        return F.cross_entropy(model(history)[wanted] @ items[:-1].T, target[wanted])

    return loss


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, dropout: float):
        super().__init__()
        self.first, self.second, self.heads, self.rate = nn.LayerNorm(dim), nn.LayerNorm(dim), heads, dropout
        self.qkv, self.out, self.dropout = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), nn.Dropout(dropout)
        self.network = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        b, length, dim = x.shape
        parts = self.qkv(self.first(x)).view(b, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        rate = self.rate if self.training else 0.0
        query, key, value = parts.unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=rate)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).reshape(b, length, dim)))
        return x + self.network(self.second(x))


class SASRec(nn.Module):
    def __init__(self, n_items: int, longest: int, net: dict[str, Any]):
        super().__init__()
        dim = net["dim"]
        self.item, self.place = nn.Embedding(n_items + 1, dim, padding_idx=n_items), nn.Embedding(longest, dim)
        nn.init.normal_(self.item.weight, std=0.035)
        self.dropout, self.norm = nn.Dropout(net["dropout"]), nn.LayerNorm(dim)
        self.blocks = nn.Sequential(*(Block(dim, net["heads"], net["dropout"]) for _ in range(net["layers"])))

    def forward(self, history: Tensor) -> Tensor:
        x = self.item(history) * self.item.embedding_dim**0.5 + self.place.weight[: history.shape[1]]
        return self.norm(self.blocks(self.dropout(x)))


def sasrec(data: Any, cfg: dict[str, Any], epochs: int) -> list[float]:
    model = SASRec(data.train.n_items, cfg["task"]["max_length"], cfg["teacher"]["net"])
    return train(list(model.parameters()), softmax(model, model.item.weight), batches(data, cfg), epochs)


class GRU4Rec(nn.Module):
    def __init__(self, n_items: int, net: dict[str, Any]):
        super().__init__()
        self.item = nn.Embedding(n_items + 1, net["dim"], padding_idx=n_items)
        nn.init.normal_(self.item.weight, std=0.035)
        self.gru = nn.GRU(net["dim"], net["hidden"], net["layers"], batch_first=True)
        self.project = nn.Linear(net["hidden"], net["dim"], bias=False)

    def forward(self, history: Tensor) -> Tensor:
        return self.project(self.gru(self.item(history))[0])


def gru4rec(data: Any, cfg: dict[str, Any], epochs: int) -> list[float]:
    model = GRU4Rec(data.train.n_items, cfg["teacher"]["net"])
    return train(list(model.parameters()), softmax(model, model.item.weight), batches(data, cfg), epochs)
