"""What a distiller sees of teacher and student, and what it must offer.

Teacher and student are seen through the same :class:`View`, so that a loss reads like its formula; whether
the teacher computes its answers now or they were computed once and stored is not visible here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Protocol, Self

import torch
from annotated_types import Ge
from torch import Tensor, nn

from recdistill.data.csr import Csr
from recdistill.models import dot
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
        return Needs(max(self.top_k, other.top_k), self.scores or other.scores, self.embeddings or other.embeddings)


class View(Protocol):
    """One model's answers for the queries of one step: rows of a table, or users or histories as in :class:`ListView`.

    Attributes:
        users: int64 ``[Q]``, the numbers of the queries.
        regression: whether the scores are means of a number; otherwise they are logits.
    """

    users: Tensor

    @property
    def regression(self) -> bool: ...

    def of(self, users: Tensor) -> Self:
        """The view for other queries, with what does not depend on them shared."""
        ...

    def scores(self) -> Tensor:
        """``[Q, C]``: of all classes, or all items."""
        ...


class ListView(Protocol):
    """One model's answers for users, or for histories of users, whose scores rank the catalogue."""

    users: Tensor
    n_items: int

    def scores(self, items: Tensor | None = None) -> Tensor:
        """Scores ``[Q, n_items]`` of all items, or ``[Q, K]`` of items ``[K]`` or ``[Q, K]``."""
        ...

    def log_normaliser(self, temperature: float = 1.0) -> Tensor:
        """log Σ_i e^{z_i / temperature} over the catalogue, ``[Q]``."""
        ...

    def top_items(self, k: int) -> tuple[Tensor, Tensor]:
        """The k best items that are not in training, best first: ids ``[Q, k]`` and scores ``[Q, k]``.

        A user who has fewer left has a shorter list: behind its end the scores are -inf, and the ids are of
        training items, so that they can be gathered; :func:`on_list` is what tells them apart.
        """
        ...

    def user_vectors(self) -> Tensor:
        """``[Q, d]``."""
        ...

    def item_vectors(self, items: Tensor) -> Tensor:
        """``[K, d]`` for items ``[K]``."""
        ...


def on_list(top_scores: Tensor) -> Tensor:
    """bool: which places of a teacher's list hold an item, from the scores of :meth:`View.top_items`."""
    return top_scores > -torch.inf


class ModelView:
    """A view that computes its answers with the model, with gradients where the model has them.

    Args:
        model: the model.
        users: int64 ``[Q]``.
        seen: training items, left out of :meth:`top_items`.
    """

    regression = False

    def __init__(self, model: RankingModel, users: Tensor, seen: Csr):
        self.model, self.users, self.seen = model, users, seen
        self.n_items = model.schema.n_items
        # Shared by objective and distillers of the step: factors may come from a graph, and the scores of all
        # items are the largest tensor there is.
        self._factors: tuple[Tensor, Tensor] | None = None
        self._all: Tensor | None = None
        self._log_normaliser: dict[float, Tensor] = {}

    def of(self, users: Tensor) -> Self:
        """The view for other users, with what does not depend on users shared."""
        other = type(self)(self.model, users, self.seen)
        other._factors = self.factors() if self.factorised else None
        return other

    @property
    def factorised(self) -> bool:
        """Whether the scores are the dot products of :meth:`factors`."""
        return isinstance(self.model, FactorModel)

    @property
    def rows(self) -> Tensor:
        """int64 ``[Q]``, the rows of the first factors and of ``seen`` that are asked for."""
        return self.users

    def factors(self) -> tuple[Tensor, Tensor]:
        """Those of the model, which must have them."""
        if self._factors is None:
            assert isinstance(self.model, FactorModel)
            self._factors = self.model.factors()
        return self._factors

    def scores(self, items: Tensor | None = None) -> Tensor:
        if items is not None:
            return self._score(items)
        if self._all is None:
            self._all = self._score(None)
        return self._all

    def _score(self, items: Tensor | None) -> Tensor:
        if self.factorised:
            return dot.dot_scores(*self.factors(), self.rows, items).float()
        return self.model.scores(self.users, items).float()

    def pair_scores(self, row: Tensor, item: Tensor) -> Tensor:
        """Scores ``[n]`` of the items ``[n]`` for the users at the places ``[n]`` of ``users``."""
        if not self.factorised:
            return self.scores()[row, item]
        # By the vectors of the pairs: the backward pass through a few of all scores writes a matrix of zeros.
        return dot.pair_scores(*self.factors(), self.rows[row], item).float()

    def log_normaliser(self, temperature: float = 1.0) -> Tensor:
        if temperature not in self._log_normaliser:
            if self._all is None and self.factorised:
                user, item = self.factors()
                query = nn.functional.embedding(self.rows, user) / temperature
                result = dot.log_normaliser(query, item)
            else:
                result = (self.scores() / temperature).logsumexp(-1)
            self._log_normaliser[temperature] = result
        return self._log_normaliser[temperature]

    def top_items(self, k: int) -> tuple[Tensor, Tensor]:
        scores = self.scores().detach().clone()
        row, item = self.seen.rows(self.rows)
        scores[row, item] = -torch.inf
        values, items = scores.topk(k)
        return items, values

    def user_vectors(self) -> Tensor:
        return nn.functional.embedding(self.rows, self.factors()[0]).float()

    def item_vectors(self, items: Tensor) -> Tensor:
        return nn.functional.embedding(items, self.factors()[1]).float()


class Distiller(nn.Module):
    """A soft loss between teacher and student. Projections it learns are its parameters; they are trained
    with the student and thrown away afterwards.

    Args:
        weight: factor of this term among the distillers of a run.
    """

    weight: float

    def __init__(self, weight: Annotated[float, Ge(0)] = 1.0):
        super().__init__()
        self.weight = weight

    def needs(self) -> Needs:
        raise NotImplementedError

    def prepare(self, student_dim: int, teacher_dim: int) -> None:
        """Build what depends on the sizes of both models' vectors; called once, before the optimizer is made.
        A size is 0 for a model that has no vectors."""

    def forward(self, student: Any, teacher: Any, rng: torch.Generator) -> Tensor:
        """The unweighted mean loss over the queries of the step, a scalar.

        Args:
            student, teacher: a :class:`View` each, or a :class:`ListView` where lists or vectors are needed.
            rng: for random choices; equal on all processes of a step.
        """
        raise NotImplementedError
