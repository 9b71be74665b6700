"""DeepFM and DCN-V2 over categorical fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from loops.ranking import train
from recdistill.data.rows import Rows


def batches(data: Any, batch_size: int) -> Callable[[], Iterator[tuple[Tensor, Tensor]]]:
    """Codes ``[B, F]`` and labels ``[B]``."""
    codes, label = Rows.of(data.train.features, len(data.train)).categorical, data.train.label

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(label))
        return zip(codes[order].split(batch_size), label[order].split(batch_size), strict=True)

    return epoch


class Fields(nn.Module):
    """One table for all fields."""

    offset: Tensor

    def __init__(self, sizes: list[int], dim: int):
        super().__init__()
        self.register_buffer("offset", torch.tensor([0, *sizes[:-1]]).cumsum(0))
        self.table = nn.Embedding(sum(sizes), dim)
        nn.init.normal_(self.table.weight, std=0.01)

    def forward(self, codes: Tensor) -> Tensor:
        return self.table(codes + self.offset)


def perceptron(width: int, hidden: list[int]) -> nn.Sequential:
    return nn.Sequential(*(part for a, b in pairwise([width, *hidden]) for part in (nn.Linear(a, b), nn.ReLU())))


class DeepFM(nn.Module):
    def __init__(self, sizes: list[int], dim: int, hidden: list[int]):
        super().__init__()
        self.fields, self.first, self.bias = Fields(sizes, dim), Fields(sizes, 1), nn.Parameter(torch.zeros(()))
        self.deep, self.out = perceptron(dim * len(sizes), hidden), nn.Linear(hidden[-1], 1, bias=False)

    def forward(self, codes: Tensor) -> Tensor:
        x = self.fields(codes)
        second = 0.5 * (x.sum(1).square() - x.square().sum(1)).sum(1)
        return self.bias + self.first(codes).sum((1, 2)) + second + self.out(self.deep(x.flatten(1))).squeeze(1)


class DCNv2(nn.Module):
    def __init__(self, sizes: list[int], dim: int, hidden: list[int], layers: int):
        super().__init__()
        width = dim * len(sizes)
        self.fields, self.deep = Fields(sizes, dim), perceptron(width, hidden)
        self.cross = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.out = nn.Linear(width + hidden[-1], 1)

    def forward(self, codes: Tensor) -> Tensor:
        x = start = self.fields(codes).flatten(1)
        for layer in self.cross:
            x = start * layer(x) + x
        return self.out(torch.cat([x, self.deep(start)], 1)).squeeze(1)


def run(model: nn.Module, data: Any, cfg: dict[str, Any], epochs: int) -> list[float]:
    def loss(codes: Tensor, label: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(model(codes), label)

    return train(list(model.parameters()), loss, batches(data, cfg["teacher"]["fit"]["batch_size"]), epochs)


def sizes_of(data: Any) -> list[int]:
    sizes = data.schema.features["categorical"]
    return [sizes[name] for name in sorted(sizes)]


def deepfm(data: Any, cfg: dict[str, Any], epochs: int) -> list[float]:
    net = cfg["teacher"]["net"]
    return run(DeepFM(sizes_of(data), net["dim"], net["hidden"]), data, cfg, epochs)


def dcnv2(data: Any, cfg: dict[str, Any], epochs: int) -> list[float]:
    net = cfg["teacher"]["net"]
    return run(DCNv2(sizes_of(data), net["dim"], net["hidden"], net["cross_layers"]), data, cfg, epochs)
