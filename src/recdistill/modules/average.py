"""The average of a model's weights over its steps, which is evaluated and kept instead of the last ones.

The running means and variances of batch normalisation belong to the weights that gave them, and are averaged alike.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average: after each step a <- decay · a + (1 - decay) · w; after the first a = w.

    Source: Polyak and Juditsky, SIAM Journal on Control and Optimization 1992, for averaging; with exponential weights
    Tarvainen and Valpola, NeurIPS 2017. Plain tensors beside the model: no optimizer, parameter count or other
    process sees them. They are float32 where the weights have fewer bits.

    Args:
        model: whose trained parameters and stored float buffers are averaged; other buffers stay those of the last
            step.
        decay: share of the past, from 0 to below 1.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model, self.decay = model, decay
        self.values: dict[str, Tensor] = {}  # empty before the first step
        self.kept: list[Tensor] = []  # the trained weights, while the average stands in their place

    def _averaged(self) -> dict[str, Tensor]:
        """The tensors themselves, not detached: of parameters those that are trained."""
        state: dict[str, Tensor] = self.model.state_dict(keep_vars=True)
        return {
            name: tensor
            for name, tensor in state.items()
            if tensor.is_floating_point() and (tensor.requires_grad or not isinstance(tensor, nn.Parameter))
        }

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights after a step."""
        tensors = self._averaged()
        if not self.values:
            self.values = {
                name: p.detach().to(torch.promote_types(p.dtype, torch.float32), copy=True)
                for name, p in tensors.items()
            }
            return
        averages = list(self.values.values())
        weights = [p.to(a.dtype) for p, a in zip(tensors.values(), averages, strict=True)]
        torch._foreach_lerp_(averages, weights, 1 - self.decay)

    @torch.no_grad()
    def put_in(self) -> None:
        """Puts the average in the place of the weights, until :meth:`take_out`."""
        if self.values and not self.kept:
            tensors = self._averaged()
            self.kept = [p.detach().clone() for p in tensors.values()]
            for name, tensor in tensors.items():
                tensor.copy_(self.values[name])

    @torch.no_grad()
    def take_out(self) -> None:
        """Puts the trained weights back."""
        for tensor, weight in zip(self._averaged().values(), self.kept, strict=bool(self.kept)):
            tensor.copy_(weight)
        self.kept = []

    def to(self, device: torch.device) -> None:
        self.values = {name: value.to(device) for name, value in self.values.items()}
