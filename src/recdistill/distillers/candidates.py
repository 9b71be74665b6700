"""What two models' answers are compared on: the classes of a row, or the items of the teacher's list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recdistill.distillers.base import on_list
from recdistill.distillers.lists import FLOOR, draw_beside


@dataclass(frozen=True)
class Candidates:
    """The classes of rows or, where a catalogue is ranked, the teacher's list of each query and random items beside it.

    Attributes:
        teacher: its logits ``[Q, C]``, FLOOR for what ``hidden`` names.
        items: int64 ``[Q, K]``, the list; None where there are classes.
        others: int64 ``[R]``, the items beside it, the same for all queries.
        hidden: bool ``[Q, C]``: places behind the end of a list, and others that are on it or in training.
    """

    teacher: Tensor
    items: Tensor | None = None
    others: Tensor | None = None
    hidden: Tensor | None = None

    def at(self, places: Tensor) -> Candidates:
        """Those of some of the queries, at the places int64 ``[n]``."""
        items, hidden = (part if part is None else part[places] for part in (self.items, self.hidden))
        return Candidates(self.teacher[places], items, self.others, hidden)

    def of(self, view: Any) -> Tensor:
        """The logits ``[Q, C]`` of another model for the same candidates."""
        if self.items is None or self.hidden is None:
            logits: Tensor = view.scores()
            return logits
        parts = [view.scores(items) for items in (self.items, self.others) if items is not None]
        return torch.cat(parts, -1).masked_fill(self.hidden, FLOOR)


def ranks(view: Any) -> bool:
    """Whether what a view scores is a catalogue, and not the classes or the number of a row."""
    return hasattr(view, "n_items")


def candidates(student: Any, teacher: Any, k: int, others: int = 0, rng: torch.Generator | None = None) -> Candidates:
    """Those of the queries of a step.

    Args:
        student: tells by what it can answer whether queries are rows.
        teacher: gives its list, and the scores of the items beside it.
        k: length of the list.
        others: random items beside it.
        rng: draws them.
    """
    if not ranks(student):
        return Candidates(teacher.scores())
    items, top = teacher.top_items(k)
    listed, beside = on_list(top), None
    hidden = ~listed
    if others:
        assert rng is not None
        beside, left_out = draw_beside(items, listed, student, others, rng)
        top, hidden = torch.cat([top, teacher.scores(beside)], -1), torch.cat([hidden, left_out], -1)
    return Candidates(top.masked_fill(hidden, FLOOR), items, beside, hidden)


def entropy(log_p: Tensor) -> Tensor:
    """-Σ p log p over the last dimension, in nats."""
    return -(log_p.exp() * log_p).sum(-1)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) = Σ p (log p - log q) over the last dimension, in nats."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)
