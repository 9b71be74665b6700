"""What an evaluation on the rows of a table found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from recdistill.data.rows import Rows

CHUNK = 8192


@dataclass(frozen=True)
class TableResult:
    """Predictions for the rows of a part, or of one process's share of it.

    Attributes:
        prediction: float64 ``[N]`` probabilities of clicks or ratings, or float32 logits of classes ``[N, C]``.
        label: ``[N]``.
        group: int64 ``[N]``, whose row it is, or None.
        found: each metric.
        warnings: names of what makes the figures doubtful.
    """

    prediction: Tensor
    label: Tensor
    group: Tensor | None
    found: dict[str, float]
    warnings: list[str] = field(default_factory=list)

    @property
    def columns(self) -> tuple[Tensor, ...]:
        """What running metrics take."""
        both = (self.prediction, self.label)
        return both if self.group is None else (*both, self.group)

    def means(self) -> dict[str, float]:
        """Each metric."""
        return self.found

    def add_to(self, metrics: Any) -> None:
        """Counts the rows into the running metrics of the task."""
        metrics.update(*(column.to(metrics.device) for column in self.columns))


@torch.inference_mode()
def predict(model: Callable[[Rows], Tensor], rows: Rows, device: torch.device, chunk: int = CHUNK) -> Tensor:
    """The model's output for all rows, float32 on the CPU; outside autocast, since half precision ties."""
    outputs = []
    with torch.autocast(device.type, enabled=False):
        for at in torch.split(torch.arange(len(rows)), chunk):
            outputs.append(model(rows.take(at).to(device)).float().cpu())
    return torch.cat(outputs) if outputs else torch.zeros(0)
