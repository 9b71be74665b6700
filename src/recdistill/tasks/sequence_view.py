"""What a distiller, or a hard loss, sees of a sequence model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding

from recdistill.distillers.views import ModelView
from recdistill.errors import InputError
from recdistill.models.base import SequenceModel
from recdistill.models.ensemble import members_of
from recdistill.models.layers import giving, of_each, recorded, silent
from recdistill.tasks.augment import leave_out
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
        self._watched: tuple[str, ...] = ()
        self._layers: dict[str, Tensor] = {}
        self._items: Tensor | None = None
        self._changed: Tensor | None = None

    factorised = True

    @property
    def rows(self) -> Tensor:
        return torch.arange(len(self.users), device=self.users.device)

    def of(self, users: Tensor) -> SequenceView:
        """The view for other events, with the items' vectors shared."""
        other = type(self)(self.net, users, self.train).watch(self._watched)
        other._items = self.items()
        return other

    def augmented(self, share: float, noise: float, rng: torch.Generator) -> SequenceView:  # noqa: ARG002
        """The view for the same events, with a share of the earlier items of their histories left out."""
        other = self.of(self.users)
        other._changed = leave_out(self._history(), self.n_items, share, rng)
        return other

    def members(self) -> list[ModelView]:
        return [SequenceView(member, self.users, self.train) for member in members_of(self.net)] or [self]

    def watch(self, layers: Sequence[str]) -> SequenceView:
        self._watched = tuple(layers)
        return self

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
                where="objective", fix="objective@objective=sequence_cloze",
            )  # fmt: skip
        if self._hidden is None:
            assert self.batch is not None
            with recorded(self.net, self._watched) as self._layers:
                self._hidden = self.net(self.batch.history)
        return self._hidden

    def factors(self) -> tuple[Tensor, Tensor]:
        if self._factors is None:
            self._factors = self._queries(), self.items()
        return self._factors

    def _queries(self) -> Tensor:
        if self.batch is not None and self.net.causal:
            return embedding(self.batch.place, self.hidden().flatten(0, 1))
        with recorded(self.net, self._watched) as self._layers:
            return self.net.query(self._history())

    def _history(self) -> Tensor:
        if self._changed is not None:
            return self._changed
        return self.train.timeline.upto(self.users, self.train.max_length)

    def layers(self) -> list[str]:
        """Raises InputError for a model whose places see what comes after them."""
        self._require_causal()
        history = self._history()
        return giving(self.net, lambda: self.net.query(history), history.shape)

    def layer(self, name: str, rows: Tensor | None = None) -> Tensor:
        """Raises InputError for a model whose places see what comes after them, and for a layer that gives nothing of
        each place."""
        self._require_causal()
        self.factors()
        history = self._history() if self.batch is None else self.batch.history
        found = self._layers.get(name)
        if found is None or not of_each(found, history.shape):
            raise silent(self.net, name, self.layers())
        output = found.unsqueeze(-1).flatten(2).float()  # [B, L, d]
        if self.batch is not None:
            return embedding(self.batch.place if rows is None else self.batch.place[rows], output.flatten(0, 1))
        last = (history < self.n_items).sum(1) - 1
        rows = self.rows if rows is None else rows
        return output[rows, last[rows]]

    def _require_causal(self) -> None:
        if not self.net.causal:
            raise InputError(
                f"the layers of {type(self.net).__name__} see both sides of a place", where="distiller",
                fix="leave out the hint on layers, or choose a causal model such as sasrec or gru4rec",
            )  # fmt: skip

    def target(self) -> Tensor:
        timeline = self.train.timeline
        following = (self.users + 1).clamp(max=len(timeline) - 1)
        same = (self.users + 1 < len(timeline)) & (timeline.users(following) == timeline.users(self.users))
        return torch.where(same, timeline.next_item(following - 1), -1)


class WindowView(SequenceView):
    """The answers for many events in a row: one pass of a causal model reads the events of a user in windows, and
    answers for all places of each. Much as in training, a user's last window ends with the last event, and a place near
    the start of a window sees less than its history: an event among the first ``max_length`` of a user sees all."""

    def _queries(self) -> Tensor:
        timeline, length = self.train.timeline, self.train.max_length
        user = timeline.users(self.users)
        begin, end = timeline.indptr[user], timeline.indptr[user + 1]
        begin = torch.minimum(begin + (self.users - begin) // length * length, torch.maximum(begin, end - length))
        first, window = torch.unique(begin, return_inverse=True)
        last = torch.zeros_like(first).scatter_reduce(0, window, self.users, "amax", include_self=False)
        hidden: Tensor = self.net(timeline.between(first, last + 1, length))
        return hidden[window, self.users - begin]
