"""What a distiller sees of teacher and student, and what it must offer.

Teacher and student are seen through the same :class:`View`, so that a loss reads like its formula; whether the
teacher computes its answers now or they were computed once and stored is not visible here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Protocol

import torch
from annotated_types import Ge
from torch import Tensor, nn

from recdistill.data.interactions import Csr
from recdistill.models.base import FactorModel, RankingModel


@dataclass(frozen=True)
class Needs:
    """Signals that a distiller takes from the teacher.

    Attributes:
        top_k: length of the teacher's lists (training items left out), 0 for none.
        scores: scores of arbitrary items are wanted.
        embeddings: user and item vectors are wanted.
    """

    top_k: int = 0
    scores: bool = False
    embeddings: bool = False

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            max(self.top_k, other.top_k), self.scores or other.scores, self.embeddings or other.embeddings
        )


class View(Protocol):
    """One model's answers for the users of one step."""

    users: Tensor
    n_items: int

    def scores(self, items: Tensor | None = None) -> Tensor:
        """Scores ``[Q, n_items]`` of all items, or ``[Q, K]`` of items ``[K]`` or ``[Q, K]``."""
        ...

    def log_normaliser(self) -> Tensor:
        """log Σ_i e^{z_i} over the catalogue, ``[Q]``."""
        ...

    def top_items(self, k: int) -> tuple[Tensor, Tensor]:
        """The k best items that are not in training, best first: ids ``[Q, k]`` and scores ``[Q, k]``."""
        ...

    def user_vectors(self) -> Tensor:
        """``[Q, d]``."""
        ...

    def item_vectors(self, items: Tensor) -> Tensor:
        """``[K, d]`` for items ``[K]``."""
        ...


class ModelView:
    """A view that computes its answers with the model, with gradients where the model has them.

    Args:
        model: the model.
        users: int64 ``[Q]``.
        seen: training items, left out of :meth:`top_items`.
    """

    def __init__(self, model: RankingModel, users: Tensor, seen: Csr):
        self.model, self.users, self.seen = model, users, seen
        self.n_items = model.schema.n_items

    @cached_property
    def _all(self) -> Tensor:
        # Shared by all distillers of the step: the largest tensor of all is computed once.
        return self.model.scores(self.users).float()

    def scores(self, items: Tensor | None = None) -> Tensor:
        if items is None:
            return self._all
        return self.model.scores(self.users, items).float()

    def log_normaliser(self) -> Tensor:
        return self._log_normaliser

    @cached_property
    def _log_normaliser(self) -> Tensor:
        return self._all.logsumexp(-1)

    def top_items(self, k: int) -> tuple[Tensor, Tensor]:
        scores = self._all.detach().clone()
        row, item = self.seen.rows(self.users)
        scores[row, item] = -torch.inf
        values, items = scores.topk(k)
        return items, values

    def user_vectors(self) -> Tensor:
        user, _ = self._factors
        return nn.functional.embedding(self.users, user).float()

    def item_vectors(self, items: Tensor) -> Tensor:
        _, item = self._factors
        return nn.functional.embedding(items, item).float()

    @cached_property
    def _factors(self) -> tuple[Tensor, Tensor]:
        assert isinstance(self.model, FactorModel)
        return self.model.factors()


class Distiller(nn.Module):
    """A soft loss between teacher and student. Projections it learns are its parameters; they are trained with the
    student and thrown away afterwards.

    Args:
        weight: factor of this term among the distillers of a run.
    """

    def __init__(self, weight: Annotated[float, Ge(0)] = 1.0):
        super().__init__()
        self.weight = weight

    def needs(self) -> Needs:
        raise NotImplementedError

    def prepare(self, student_dim: int, teacher_dim: int) -> None:  # noqa: B027
        """Build what depends on the sizes of both models' vectors; called once, before the optimizer is made.
        A size is 0 for a model that has no vectors."""

    def forward(self, student: View, teacher: View, rng: torch.Generator) -> Tensor:
        """The unweighted mean loss over the users of the step, a scalar.

        Args:
            rng: for random choices; equal on all processes of a step.
        """
        raise NotImplementedError
