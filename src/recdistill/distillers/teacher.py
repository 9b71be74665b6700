"""The frozen teacher: answers live or from stored signals, and never learns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recdistill.data.interactions import Interactions
from recdistill.distillers.base import ModelView, Needs
from recdistill.errors import InputError
from recdistill.models.base import Model, RankingModel, vector_size
from recdistill.models.dot import dot_scores
from recdistill.runs.atomic import atomic_path, file_digest, read_json, write_json

SIGNALS = "signals.safetensors"
SIGNALS_INFO = "signals.json"
MAX_SCORE_BYTES = 2 * 2**30


def view_of_users(model: RankingModel, train: Interactions, users: Tensor) -> ModelView:
    """The answers of a ranking model for users."""
    return ModelView(model, users, train.csr)


class FrozenTeacher:
    """Answers a distiller's questions about queries.

    Not an ``nn.Module``, so that no ``.train()``, ``.to()``, optimizer, checkpoint or DDP wrapper of the
    student's module can reach the weights.

    Attributes:
        dim: length of its vectors, 0 if it has none.
    """

    dim: int = 0

    def to(self, device: torch.device, train: Any) -> None:
        """Move to where the student trains, and where its training part is."""
        raise NotImplementedError

    def view(self, users: Tensor) -> Any:
        """The answers for queries int64 ``[Q]``: a :class:`~recdistill.distillers.base.View`."""
        raise NotImplementedError


class LiveTeacher(FrozenTeacher):
    """Computes the answers with the model at every step, in its own precision.

    Args:
        model: put into eval mode for ever; its parameters take no gradients.
        train: the training part, as ``ask`` wants it.
        ask: gives the answers of a model for queries, see :meth:`recdistill.tasks.base.Task.view`.
    """

    def __init__(self, model: Model, train: Any, ask: Callable[[Any, Any, Tensor], Any] = view_of_users):
        self.model = model.eval().requires_grad_(False)
        self.train, self.ask = train, ask
        self.dim = vector_size(model)

    def to(self, device: torch.device, train: Any) -> None:
        self.model.to(device)
        self.train = train

    def view(self, users: Tensor) -> QuietView:
        with quiet(users.device):
            return QuietView(self.ask(self.model, self.train, users))


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

    def scores(self, *items: Tensor) -> Any:
        return self._quietly("scores", *items)

    def log_normaliser(self, temperature: float = 1.0) -> Any:
        return self._quietly("log_normaliser", temperature)

    def top_items(self, k: int) -> Any:
        return self._quietly("top_items", k)

    def user_vectors(self) -> Any:
        return self._quietly("user_vectors")

    def item_vectors(self, items: Tensor) -> Any:
        return self._quietly("item_vectors", items)

    def _quietly(self, name: str, *arguments: Any) -> Any:
        with quiet(self.users.device):
            return getattr(self.inner, name)(*arguments)


class StoredTeacher(FrozenTeacher):
    """Answers from the signals that :func:`compute_signals` wrote.

    Args:
        folder: where they are.

    Attributes:
        data: fingerprint of the data set that they are of, "" where it is unknown.

    Raises:
        InputError: there are no signals, or they do not match their hash.
    """

    def __init__(self, folder: Path):
        from safetensors.torch import load_file

        if not (folder / SIGNALS_INFO).is_file() or not (folder / SIGNALS).is_file():
            raise InputError(
                "there are no teacher signals here", where=str(folder), fix=f"remove {folder} and run again"
            )
        info = read_json(folder / SIGNALS_INFO)
        if file_digest(folder / SIGNALS) != info["hash"]:
            raise InputError(
                "the stored teacher signals are damaged",
                where=str(folder / SIGNALS),
                fix=f"remove the folder {folder} and run again: they are computed anew",
            )
        self.data: str = info.get("data", "")
        self.n_items: int = info["n_items"]
        self.tensors: dict[str, Tensor] = load_file(folder / SIGNALS)
        self.dim = self.tensors["item_factors"].shape[1] if "item_factors" in self.tensors else 0

    def to(self, device: torch.device, train: Any = None) -> None:  # noqa: ARG002
        self.tensors = {name: tensor.to(device) for name, tensor in self.tensors.items()}

    def view(self, users: Tensor) -> _StoredView:
        return _StoredView(self.tensors, users, self.n_items)


class _StoredView:
    def __init__(self, tensors: dict[str, Tensor], users: Tensor, n_items: int):
        self.tensors, self.users, self.n_items = tensors, users, n_items
        self.regression = False  # the student's says how scores are compared

    def of(self, users: Tensor) -> _StoredView:
        return _StoredView(self.tensors, users, self.n_items)

    def scores(self, items: Tensor | None = None) -> Tensor:
        if "scores" in self.tensors:
            rows = self.tensors["scores"][self.users]
            if items is None:
                return rows
            return rows[:, items] if items.dim() == 1 else rows.gather(1, items)
        with torch.autocast(self.users.device.type, enabled=False):
            return dot_scores(self.tensors["user_factors"], self.tensors["item_factors"], self.users, items)

    def log_normaliser(self, temperature: float = 1.0) -> Tensor:
        return (self.scores() / temperature).logsumexp(-1)

    def top_items(self, k: int) -> tuple[Tensor, Tensor]:
        items = self.tensors["top_items"][self.users, :k].long()
        return items, self.tensors["top_scores"][self.users, :k]

    def user_vectors(self) -> Tensor:
        return self.tensors["user_factors"][self.users]

    def item_vectors(self, items: Tensor) -> Tensor:
        return self.tensors["item_factors"][items]


def compute_signals(
    model: Any, train: Any, needs: Needs, folder: Path, chunk: int = 1024, data: str = "",
    ask: Callable[[Any, Any, Tensor], Any] = view_of_users, queries: int | None = None,
) -> None:  # fmt: skip
    """Writes what ``needs`` names, for all queries, from the training part alone.

    Top lists are int32 ids and float32 scores, so that stored and live answers agree; scores of all items are
    kept as vectors where the model has them and as a matrix otherwise.

    Args:
        train: the training part, as ``ask`` wants it.
        chunk: queries at a time.
        data: fingerprint of the data set that ``train`` is of.
        ask: see :class:`LiveTeacher`.
        queries: how many there are; None for a query a user.

    Raises:
        InputError: a score matrix would be larger than 2 GiB, or vectors are wanted of a model that has none.
    """
    from safetensors.torch import save_file

    n = train.n_users if queries is None else queries
    check_needs(model, needs, n)
    teacher = LiveTeacher(model, train, ask)
    vectors, matrix = teacher.dim and (needs.scores or needs.embeddings), needs.scores and not teacher.dim
    found: dict[str, list[Tensor]] = {}
    first = teacher.view(torch.arange(0))
    for start in range(0, n, chunk) if vectors or matrix or needs.top_k else ():
        view = first.of(torch.arange(start, min(start + chunk, n)))
        if vectors:
            found.setdefault("user_factors", []).append(view.user_vectors())
        if matrix:
            found.setdefault("scores", []).append(view.scores())
        if needs.top_k:
            items, scores = view.top_items(needs.top_k)
            found.setdefault("top_items", []).append(items.int())
            found.setdefault("top_scores", []).append(scores)
    tensors = {name: torch.cat(parts).contiguous() for name, parts in found.items()}
    if vectors:
        tensors["item_factors"] = first.item_vectors(torch.arange(first.n_items)).contiguous()
    with atomic_path(folder / SIGNALS) as temporary:
        save_file(tensors, temporary)
    info = {
        "hash": file_digest(folder / SIGNALS), "data": data, "needs": vars(needs), "n_items": model.schema.n_items,
    }  # fmt: skip
    write_json(folder / SIGNALS_INFO, info)


def check_needs(model: Model, needs: Needs, queries: int) -> None:
    """Raises InputError where the teacher can't give what the distillers ask for, for so many queries."""
    n_items = model.schema.n_items
    if needs.embeddings and not vector_size(model):
        raise InputError(
            f"the teacher {type(model).__name__} has no user and item vectors, which a distiller needs",
            where="distiller",
            fix="leave out hint, or choose a teacher with vectors: teacher=mf or teacher=lightgcn",
        )
    if needs.top_k > n_items:
        raise InputError(
            f"a distiller wants lists of {needs.top_k} items, the catalogue has {n_items}",
            where="distiller",
            fix=f"set its k (or pool) to at most {n_items}",
        )
    size = 4 * queries * (n_items or model.schema.n_outputs)
    if needs.scores and not vector_size(model) and size > MAX_SCORE_BYTES:
        raise InputError(
            f"all scores of the teacher {type(model).__name__} would take {size / 2**30:.1f} GiB",
            where="distiller",
            fix="use a distiller on lists (distiller=topk_kl or distiller=rrd), or signals=live",
        )
