"""What a distiller, or a hard loss, sees of a sequence model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recdistill.distillers.base import ModelView
from recdistill.errors import InputError
from recdistill.models.base import SequenceModel
from recdistill.tasks.sequence_batches import SequenceBatch
from recdistill.tasks.windows import Sequences


class SequenceView(ModelView):
    """A sequence model's answers for what comes after some events: those of a model of dot products whose users are
    the histories up to these events.

    Args:
        model: the model.
        query: int64 ``[Q]``, rows of events in the timeline.
        train: the training part; what its user has had up to an event is left out of :meth:`top_items`, and what comes
            later, the next item first of all, is not.
        batch: the step that the queries are of. One pass of a causal model over its histories then answers for them
            too; a place near the start of a window sees less there than the history that another view asks for.
    """

    def __init__(self, model: SequenceModel, query: Tensor, train: Sequences, batch: SequenceBatch | None = None):
        unused: Any = model  # of a ranking model ModelView asks scores and factors, which are given here
        super().__init__(unused, query, train.timeline.had(query))
        self.net, self.train, self.batch = model, train, batch
        self._hidden: Tensor | None = None
        self._items: Tensor | None = None

    factorised = True

    @property
    def rows(self) -> Tensor:
        return torch.arange(len(self.users), device=self.users.device)

    def of(self, users: Tensor) -> SequenceView:
        """The view for other events, with the items' vectors shared."""
        other = SequenceView(self.net, users, self.train)
        other._items = self.items()
        return other

    def items(self) -> Tensor:
        """Vectors ``[n_items, d]``."""
        if self._items is None:
            self._items = self.net.item_matrix()
        return self._items

    def hidden(self) -> Tensor:
        """The vectors of all places of the step, ``[B, L, d]``, each of the items up to there.

        Raises:
            InputError: the model sees what comes after a place.
        """
        if not self.net.causal:
            raise InputError(
                f"{type(self.net).__name__} sees both sides of a place, so that it would be told the next item",
                where="objective", fix="objective@student.objective=sequence_cloze; of a teacher likewise",
            )  # fmt: skip
        if self._hidden is None:
            assert self.batch is not None
            self._hidden = self.net(self.batch.history)
        return self._hidden

    def factors(self) -> tuple[Tensor, Tensor]:
        if self._factors is None:
            self._factors = self._queries(), self.items()
        return self._factors

    def _queries(self) -> Tensor:
        if self.batch is not None and self.net.causal:
            return torch.nn.functional.embedding(self.batch.place, self.hidden().flatten(0, 1))
        return self.net.query(self.train.timeline.upto(self.users, self.train.max_length))
