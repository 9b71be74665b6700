"""Batches of the rows of a table, and a model's answers for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor

from recdistill.data.rows import Rows
from recdistill.models.base import TableModel
from recdistill.models.ensemble import members_of
from recdistill.models.layers import giving, of_each, recorded, silent
from recdistill.tasks.augment import blur
from recdistill.tasks.batches import enough, generator, mix, share

Output = Literal["click", "value", "classes"]
"""What a model's output is: the logit of a click, a number, or the logits of classes."""


@dataclass(frozen=True)
class TablePart:
    """The training part of a table, on one device.

    Attributes:
        rows: the features.
        label: float32 ``[N]``, or int64 of classes; NaN or -1 where there is none to learn from.
        labelled: bool ``[N]``; None where all rows have a label.
    """

    rows: Rows
    label: Tensor
    labelled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class TableBatch:
    """One step on a table, or one process's share of it.

    Attributes:
        rows: ``B`` rows, first those that have a label.
        label: of these, ``[L]``.
        query: int64 ``[B]``, the numbers of the rows in the training part: all rows of a step are distilled.
        weight, query_weight, seed: see :class:`~recdistill.tasks.base.Batch`.
    """

    rows: Rows
    label: Tensor
    query: Tensor
    weight: float
    query_weight: float
    seed: int


@dataclass(frozen=True)
class TableEpoch:
    """One pass over the rows.

    Attributes:
        part: the training part.
        order: int64 ``[N]``, its labelled rows shuffled.
        steps: number of batches; their sizes differ by one at most.
        seed: of this epoch.
        others: int64 ``[M]``, the rows without a label, shuffled.
    """

    part: TablePart
    order: Tensor
    steps: int
    seed: int
    others: Tensor

    def batch(self, step: int, rank: int = 0, world: int = 1) -> TableBatch:
        here, weight = share(len(self.order), self.steps, step, rank, world)
        labelled = query = self.order[here]
        query_weight = weight
        if len(self.others):
            there, _ = share(len(self.others), self.steps, step, rank, world)
            query = torch.cat([labelled, self.others[there]])
            query_weight = world * len(query) / max(1, sum(self._size(step, other, world) for other in range(world)))
        rows, label = self.part.rows.take(query), self.part.label[labelled]
        return TableBatch(rows, label, query, weight, query_weight, mix(self.seed, step))

    def _size(self, step: int, rank: int, world: int) -> int:
        """Rows of one process."""
        parts = (share(len(rows), self.steps, step, rank, world)[0] for rows in (self.order, self.others))
        return sum(part.stop - part.start for part in parts)


def table_epoch(part: TablePart, *, seed: int, epoch: int, batch_size: int) -> TableEpoch:
    """Shuffles the rows; ``batch_size`` is per step over all processes. Labelled rows, and those without a label, are
    each shared out over all steps; the former come again and again where they are fewer than steps."""
    rng = generator(part.label.device, seed, epoch)
    steps = max(1, math.ceil(len(part) / batch_size))
    order = torch.randperm(len(part), generator=rng, device=rng.device)
    others = order[:0]
    if part.labelled is not None:
        known = part.labelled[order]
        order, others = enough(order[known], steps), order[~known]
    return TableEpoch(part, order, steps, mix(seed, epoch, 1), others)


class TableView:
    """A model's answers for some rows, computed once.

    Attributes:
        users: int64 ``[Q]``, the numbers of the rows.
        regression: whether the scores are means of a number and not logits.
    """

    def __init__(self, model: TableModel, rows: Rows, users: Tensor, kind: Output, part: TablePart | None = None):
        self.model, self.rows, self.users, self.kind, self.part = model, rows, users, kind, part
        self.regression = kind == "value"
        self._output: Tensor | None = None
        self._watched: tuple[str, ...] = ()
        self._layers: dict[str, Tensor] = {}

    def of(self, users: Tensor) -> Self:
        """The view for other rows of the training part."""
        assert self.part is not None
        return type(self)(self.model, self.part.rows.take(users), users, self.kind, self.part).watch(self._watched)

    def members(self) -> list[TableView]:
        parts = members_of(self.model)
        return [TableView(part, self.rows, self.users, self.kind, self.part) for part in parts] or [self]

    def watch(self, layers: Sequence[str]) -> Self:
        self._watched = tuple(layers)
        return self

    def augmented(self, share: float, noise: float, rng: torch.Generator) -> Self:
        """The view for the same rows, :func:`~recdistill.tasks.augment.blur`-red."""
        rows = blur(self.rows, share, noise, rng)
        return type(self)(self.model, rows, self.users, self.kind, self.part).watch(self._watched)

    def output(self) -> Tensor:
        """What the model gives, float32: ``[Q]``, or ``[Q, C]`` of classes."""
        if self._output is None:
            with recorded(self.model, self._watched) as self._layers:
                self._output = self.model(self.rows).float()
        return self._output

    def layers(self) -> list[str]:
        return giving(self.model, lambda: self.model(self.rows), [len(self.users)])

    def layer(self, name: str, rows: Tensor | None = None) -> Tensor:
        self.output()
        found = self._layers.get(name)
        if found is None or not of_each(found, [len(self.users)]):
            raise silent(self.model, name, self.layers())
        found = found if rows is None else found[rows]
        return found.unsqueeze(-1).flatten(1).float()  # a number for each row is a vector of one

    def target(self) -> Tensor:
        assert self.part is not None
        return self.part.label[self.users]

    def scores(self) -> Tensor:
        """``[Q, C]``: logits of the classes; of a click those of "no" and "yes", 0 and z; the number itself."""
        output = self.output()
        if self.kind == "click":
            return torch.stack([torch.zeros_like(output), output], -1)
        return output.unsqueeze(-1) if output.dim() == 1 else output
