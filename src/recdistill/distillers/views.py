"""A model's answers for users, computed by the model itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from recdistill.data.csr import Csr
from recdistill.errors import InputError
from recdistill.evaluation.topk import largest
from recdistill.models import dot
from recdistill.models.base import FactorModel, RankingModel, VectorModel
from recdistill.models.ensemble import members_of
from recdistill.models.given import GivenLists


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
        self._lists: dict[int, tuple[Tensor, Tensor]] = {}

    def of(self, users: Tensor) -> Self:
        """The view for other users, with what does not depend on users shared."""
        other = type(self)(self.model, users, self.seen)
        other._factors = self.factors() if self.factorised else None
        return other

    def watch(self, layers: Sequence[str]) -> Self:  # noqa: ARG002
        """Raises InputError: what a ranking model computes on the way is of no single user."""
        raise InputError(
            f"{type(self.model).__name__} has no layers of users or items alone", where="distiller",
            fix="distil its vectors: distiller=hint",
        )  # fmt: skip

    def members(self) -> list[ModelView]:
        return [type(self)(member, self.users, self.seen) for member in members_of(self.model)] or [self]

    def layers(self) -> list[str]:
        return []

    def layer(self, name: str, rows: Tensor | None = None) -> Tensor:
        raise NotImplementedError

    def target(self) -> Tensor:
        raise NotImplementedError

    def augmented(self, share: float, noise: float, rng: torch.Generator) -> Self:
        raise NotImplementedError

    @property
    def factorised(self) -> bool:
        """Whether the scores are the dot products of :meth:`factors`."""
        return isinstance(self.model, FactorModel)

    @property
    def rows(self) -> Tensor:
        """int64 ``[Q]``, the rows of the first factors and of ``seen`` that are asked for."""
        return self.users

    def factors(self) -> tuple[Tensor, Tensor]:
        """The vectors of the model, which must have them; the factors of its scores only if :attr:`factorised`."""
        if self._factors is None:
            assert isinstance(self.model, VectorModel)
            self._factors = self.model.vectors()
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

    def ranked_scores(self) -> Tensor:
        scores = self._apart()
        if isinstance(self.model, GivenLists):
            scores[scores <= self.floor(self.model)] = -torch.inf
        if self.model.known is not None:
            self.hide(scores, *self.model.known)
        return scores

    def _apart(self) -> Tensor:
        """Scores ``[Q, n_items]`` of all items without gradients, to be written to."""
        if self._all is None and self.factorised and torch.is_grad_enabled():
            self.factors()  # cached with their gradients, for whoever asks next
            with torch.no_grad():  # the scores are not cached, and so not copied: few losses want all of them
                return self._score(None)
        return self.scores().detach().clone()

    def top_items(self, k: int) -> tuple[Tensor, Tensor]:
        if k not in self._lists:
            values, items = largest(self._open(), min(k, self.n_items))
            if (missing := k - self.n_items) > 0:  # a short list of everybody
                items = torch.cat([items, items[:, -1:].expand(-1, missing)], -1)
                values = nn.functional.pad(values, (0, missing), value=-torch.inf)
            self._lists[k] = items, values
        return self._lists[k]

    def _open(self) -> Tensor:
        """Scores ``[Q, n_items]`` of one's own without gradients, -inf of what is on no list."""
        scores = self.ranked_scores()
        row, item = self.seen_pairs()
        scores[row, item] = -torch.inf
        return scores

    def log_tail(self, k: int, temperature: float) -> Tensor:
        # What stands behind the end of a list is open to none, so that it is hidden with the list.
        rest = self._open().scatter_(1, self.top_items(k)[0], -torch.inf)
        return rest.div_(temperature).logsumexp(-1)

    def log_rest(self, items: Tensor, listed: Tensor, temperature: float) -> Tensor:
        place, at = listed.nonzero(as_tuple=True)
        row, item = self.seen_pairs()
        row, item = torch.cat([row, place]), torch.cat([item, items[place, at]])
        if self._all is None and self.factorised:
            user, vectors = self.factors()
            return dot.log_normaliser(nn.functional.embedding(self.rows, user) / temperature, vectors, (row, item))
        hidden = (self.scores() / temperature).index_put((row, item), self.scores().new_tensor(dot.FLOOR))
        return hidden.logsumexp(-1)

    def top_confidences(self, k: int) -> Tensor:
        assert isinstance(self.model, GivenLists)
        return self.model.confidences(self.users, self.top_items(k)[0])

    def hide(self, scores: Tensor, users: Tensor, items: Tensor) -> None:
        """Takes what the model does not know off the lists; see :attr:`RankingModel.known`."""
        scores.masked_fill_(~users[self.rows].unsqueeze(1) | ~items, -torch.inf)

    def floor(self, model: GivenLists) -> Tensor:
        """The score of what is on no list, to be compared with all scores."""
        return model.floor(self.users).unsqueeze(1)

    def seen_pairs(self) -> tuple[Tensor, Tensor]:
        return self.seen.rows(self.rows)

    def user_vectors(self) -> Tensor:
        return nn.functional.embedding(self.rows, self.factors()[0]).float()

    def item_vectors(self, items: Tensor) -> Tensor:
        return nn.functional.embedding(items, self.factors()[1]).float()

    def flipped(self, items: Tensor) -> FlippedView:
        return FlippedView(self, items)


class FlippedView(ModelView):
    """The answers of a ranking model with the roles swapped: queries are items, and the catalogue is that of the users.

    Args:
        view: of any users.
        items: int64 ``[Q]``.
    """

    def __init__(self, view: ModelView, items: Tensor):
        super().__init__(view.model, items, view.seen.transposed(view.n_items))
        self.view = view
        self.n_items = view.model.schema.n_users

    def of(self, users: Tensor) -> Self:
        return type(self)(self.view, users)

    def members(self) -> list[ModelView]:
        views = self.view.members()
        return [self] if views == [self.view] else [FlippedView(view, self.users) for view in views]

    def factors(self) -> tuple[Tensor, Tensor]:
        user, item = self.view.factors()
        return item, user

    def floor(self, model: GivenLists) -> Tensor:
        return model.floor(torch.arange(self.n_items, device=self.users.device))

    def hide(self, scores: Tensor, users: Tensor, items: Tensor) -> None:
        super().hide(scores, items, users)

    def _score(self, items: Tensor | None) -> Tensor:
        if self.factorised:
            return super()._score(items)
        if items is None:
            items = torch.arange(self.n_items, device=self.users.device)
        if items.dim() == 1:
            return self.model.scores(items, self.users).float().T
        item = self.users.repeat_interleave(items.shape[1]).unsqueeze(1)
        return self.model.scores(items.flatten(), item).float().view_as(items)
