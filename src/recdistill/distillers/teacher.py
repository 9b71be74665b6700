"""The frozen teacher: answers live, or from :mod:`~recdistill.distillers.signals`, and never learns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from recdistill.data.interactions import Interactions
from recdistill.distillers.views import ModelView
from recdistill.models.base import Model, RankingModel, vector_size
from recdistill.models.ensemble import members_of


def view_of_users(model: RankingModel, train: Interactions, users: Tensor) -> ModelView:
    """The answers of a ranking model for users."""
    return ModelView(model, users, train.csr)


class FrozenTeacher:
    """Answers a distiller's questions about queries.

    Not an ``nn.Module``, so that no ``.train()``, ``.to()``, optimizer, checkpoint or DDP wrapper of the
    student's module can reach the weights.

    Attributes:
        dim: length of its vectors, 0 if it has none.
        members: how many models it is an ensemble of, 1 for any other.
        identity: a hash of what it answers from; a training is not gone on with under another one.
        informed: bool ``[Q]``, the queries for which it has an answer; None for all. The others are not distilled.
        changes: whether it learns while it teaches, as some that build on this class do.
    """

    dim: int = 0
    members: int = 1
    identity: str = ""
    informed: Tensor | None = None
    changes: bool = False

    def to(self, device: torch.device, train: Any) -> None:
        """Move to where the student trains, and where its training part is."""
        raise NotImplementedError

    def view(self, users: Tensor) -> Any:
        """The answers for queries int64 ``[Q]``: a :class:`~recdistill.distillers.base.View`."""
        raise NotImplementedError

    def widths(self) -> dict[str, int]:
        """Length of the outputs of the layers that it gives, by name."""
        raise NotImplementedError


class LiveTeacher(FrozenTeacher):
    """Computes the answers with the model at every step, in its own precision.

    Args:
        model: put into eval mode for ever; its parameters take no gradients.
        train: the training part, as ``ask`` wants it.
        ask: gives the answers of a model for queries, see :meth:`recdistill.tasks.base.Task.view`.
        layers: submodules whose outputs are wanted.
        own: gives the training part on a device, where the teacher sees more of it than the student; None otherwise.
    """

    def __init__(
        self, model: Model, train: Any, ask: Callable[[Any, Any, Tensor], Any] = view_of_users,
        layers: Sequence[str] = (), own: Callable[[torch.device], Any] | None = None,
    ):  # fmt: skip
        self.model, self.own = model.eval().requires_grad_(False), own
        self.train, self.ask, self.layers = train, ask, layers
        self.dim, self.members = vector_size(model), len(members_of(model)) or 1
        self.identity, self.informed = weights_hash(model), model.informed

    def to(self, device: torch.device, train: Any) -> None:
        self.model.to(device)
        self.train = train if self.own is None else self.own(device)

    def widths(self) -> dict[str, int]:
        if not self.layers:
            return {}
        answers = self.view(torch.arange(1, device=next(self.model.parameters()).device))
        return {name: answers.layer(name).shape[1] for name in self.layers}

    def view(self, users: Tensor) -> QuietView:
        with quiet(users.device):
            view = self.ask(self.model, self.train, users)
            return QuietView(view.watch(self.layers) if self.layers else view)


def weights_hash(model: Model) -> str:
    """Of all that is stored of a model."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@contextmanager
def quiet(device: torch.device) -> Iterator[None]:
    """No gradients, and no autocast: the student's precision is not the teacher's."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


class QuietView:
    """Another view, whose answers are computed without gradients and outside autocast."""

    def __init__(self, inner: Any):
        self.inner, self.users = inner, inner.users

    @property
    def n_items(self) -> int:
        return int(self.inner.n_items)

    @property
    def regression(self) -> bool:
        return bool(self.inner.regression)

    def of(self, users: Tensor) -> QuietView:
        with quiet(self.users.device):
            return QuietView(self.inner.of(users))

    def flipped(self, items: Tensor) -> QuietView:
        with quiet(self.users.device):
            return QuietView(self.inner.flipped(items))

    def members(self) -> list[QuietView]:
        with quiet(self.users.device):
            return [QuietView(view) for view in self.inner.members()]

    def layer(self, name: str, *rows: Tensor) -> Any:
        return self._quietly("layer", name, *rows)

    def scores(self, *items: Tensor) -> Any:
        return self._quietly("scores", *items)

    def log_normaliser(self, temperature: float = 1.0) -> Any:
        return self._quietly("log_normaliser", temperature)

    def ranked_scores(self) -> Any:
        return self._quietly("ranked_scores")

    def top_items(self, k: int) -> Any:
        return self._quietly("top_items", k)

    def top_confidences(self, k: int) -> Any:
        return self._quietly("top_confidences", k)

    def log_tail(self, k: int, temperature: float) -> Any:
        return self._quietly("log_tail", k, temperature)

    def seen_pairs(self) -> Any:
        return self._quietly("seen_pairs")

    def user_vectors(self) -> Any:
        return self._quietly("user_vectors")

    def item_vectors(self, items: Tensor) -> Any:
        return self._quietly("item_vectors", items)

    def _quietly(self, name: str, *arguments: Any) -> Any:
        with quiet(self.users.device):
            return getattr(self.inner, name)(*arguments)
