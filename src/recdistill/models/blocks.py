"""Layers that models of tables share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn
from torch.nn.functional import batch_norm

Width = Annotated[int, Ge(1)]
Widths = Sequence[Width]
Rate = Annotated[float, Interval(ge=0, lt=1)]
Std = Annotated[float, Gt(0)]


def hidden_layers(
    n_in: int,
    hidden: Widths,
    dropout: float = 0.0,
    batch_norm: bool = False,
    activation: Callable[[int], nn.Module] | None = None,
) -> nn.Sequential:
    """Layers of a perceptron: linear, batch normalisation, activation, dropout, for each width.

    Args:
        n_in: width of the input.
        hidden: widths of the layers; none for the identity. That of the output is :func:`last_width`.
        dropout: share of a layer's output that is dropped in training, 0 for none.
        batch_norm: normalise before the activation.
        activation: makes that of a layer from its width; None for ReLU.
    """
    layers: list[nn.Module] = []
    for before, width in pairwise([n_in, *hidden]):
        layers.append(nn.Linear(before, width, bias=not batch_norm))  # a normalisation has its own
        layers += [BatchNorm(width)] if batch_norm else []
        layers.append(activation(width) if activation else nn.ReLU())
        layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers)


def last_width(n_in: int, hidden: Widths) -> int:
    """Width of what :func:`hidden_layers` gives."""
    return hidden[-1] if hidden else n_in


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation whose running mean and variance are exponential means of the batches alone, as Adam's
    moments are: torch's start at 0 and 1, and of vectors that begin small that 1 is most of the variance for long.

    Source: Ioffe and Szegedy, ICML 2015; Kingma and Ba, Adam, ICLR 2015, section 3, for the correction.

    Where a batch in training has less than two rows, it is normalised by the running mean and variance.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if len(x) < 2:
            return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        if not self.training or self.momentum is None:  # None is torch's plain mean over all batches
            return super().forward(x)
        # With a momentum of 1 these become the batch's own: nothing waits for the device to count the batches.
        mean, var = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        normalised = batch_norm(x, mean, var, self.weight, self.bias, training=True, momentum=1.0, eps=self.eps)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            share = self.momentum / (1 - (1 - self.momentum) ** self.num_batches_tracked)
            for running, own in ((self.running_mean, mean), (self.running_var, var)):
                running.lerp_(own, share.to(own.dtype))
        return normalised


class Dice(nn.Module):
    """f(s) = p(s) s + (1 - p(s)) α s, with p(s) = σ((s - E[s]) / √(Var[s] + ε)) and a learned α per column.

    Source: Zhou et al., Deep interest network for click-through rate prediction, KDD 2018, eq. 9; ε = 1e-8 there.
    """

    def __init__(self, width: int):
        super().__init__()
        self.normalised = BatchNorm(width, eps=1e-8, affine=False)
        self.slope = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        share = self.normalised(x).sigmoid()
        mixed: Tensor = x * (share + (1 - share) * self.slope)
        return mixed
