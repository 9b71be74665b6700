"""Zeros that come one after another while a model is fine-tuned, and by what a weight is chosen."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

Method = Literal["magnitude", "movement"]
TICKS = 200  # times in a training that the zeros are chosen anew, at most


class Gradual(nn.Module):
    """Masks a weight, more and more of it: after a share t of the training s (1 - (1 - t / until)³) of it, and s from
    ``until`` on.

    Source: Zhu and Gupta, To prune, or not to prune, 2017, eq. 1, from no zeros on; and for the scores Sanh et al.,
    Movement pruning, NeurIPS 2020, section 3: a score grows by -lr · ∂loss/∂w' · w, w' being the masked weight, so that
    what moves away from zero is kept. Here the optimizer is that of the weights.

    Args:
        shape: of the weight.
        sparsity: s.
        method: whether the smallest weights are masked, or those with the lowest scores.
        until: share of the training after which no more zeros come.
    """

    kept: Tensor
    tick: Tensor

    def __init__(self, shape: torch.Size, sparsity: float, method: Method, until: float):
        super().__init__()
        self.sparsity, self.method, self.until = sparsity, method, until
        self.scores = nn.Parameter(torch.zeros(shape)) if method == "movement" else None
        # Both are part of a checkpoint and of the weights of the best epoch.
        self.register_buffer("kept", torch.ones(shape))
        self.register_buffer("tick", torch.tensor(-1))

    def forward(self, weight: Tensor) -> Tensor:
        if self.scores is None:
            return weight * self.kept
        masked: Tensor = _Masked.apply(weight, self.scores, self.kept)  # type: ignore[no-untyped-call]
        return masked

    def sparsity_at(self, progress: float) -> float:
        """The share of zeros after this share of the training."""
        return self.sparsity * (1 - (1 - min(1.0, progress / self.until)) ** 3)

    def advance(self, weight: Tensor, progress: float) -> None:
        """Chooses the zeros anew, if it is time; ``weight`` is what is masked."""
        tick = int(progress * TICKS)
        if tick == int(self.tick):
            return
        self.tick.fill_(tick)
        self.choose(weight, self.sparsity_at(progress))

    def choose(self, weight: Tensor, sparsity: float) -> None:
        """Masks a share of the weight."""
        chosen_by = weight.detach().abs() if self.scores is None else self.scores.detach()
        self.kept.copy_(without_lowest(chosen_by, sparsity))

    @property
    def settled(self) -> bool:
        """Whether all zeros are there."""
        return int(self.kept.numel() - self.kept.count_nonzero()) >= round(self.kept.numel() * self.sparsity)


class _Masked(torch.autograd.Function):
    """w' = w ∘ m, with ∂w'/∂w = m and, as if the mask were the score itself, ∂w'/∂score = w."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scores: Tensor, kept: Tensor) -> Tensor:  # noqa: ARG004
        ctx.save_for_backward(weight, kept)
        return weight * kept

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, kept = ctx.saved_tensors
        return gradient * kept, gradient * weight, None


def without_lowest(values: Tensor, sparsity: float) -> Tensor:
    """0 at a share of the places, those with the lowest values, 1 elsewhere. By rank, not by a threshold: equal values
    must not all go."""
    kept = torch.ones_like(values)
    drop = round(values.numel() * sparsity)
    if drop:
        kept.view(-1)[values.flatten().topk(drop, largest=False).indices] = 0.0
    return kept


def gradual_rules(model: nn.Module) -> list[tuple[Gradual, Tensor]]:
    """The gradual masks of a model, and what each masks."""
    found = []
    for module in model.modules():
        for steps in getattr(module, "parametrizations", {}).values():
            if isinstance(steps, parametrize.ParametrizationList):
                found += [(step, steps.original) for step in steps if isinstance(step, Gradual)]
    return found
