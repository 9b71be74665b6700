"""The frozen teacher: answers live or from stored signals, and never learns."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.interactions import Interactions
from recdistill.distillers.base import ModelView, Needs, View
from recdistill.errors import InputError
from recdistill.models.base import FactorModel, RankingModel, vector_size
from recdistill.models.dot import dot_scores
from recdistill.runs.atomic import atomic_path, file_digest, read_json, write_json

SIGNALS = "signals.safetensors"
SIGNALS_INFO = "signals.json"
MAX_SCORE_BYTES = 2 * 2**30


class FrozenTeacher:
    """Answers a distiller's questions about users.

    Not an ``nn.Module``, so that no ``.train()``, ``.to()``, optimizer, checkpoint or DDP wrapper of the
    student's module can reach the weights.

    Attributes:
        dim: length of its vectors, 0 if it has none.
    """

    dim: int = 0

    def to(self, device: torch.device) -> None:
        """Move to where the student trains."""
        raise NotImplementedError

    def view(self, users: Tensor) -> View:
        """The answers for users int64 ``[Q]``."""
        raise NotImplementedError


class LiveTeacher(FrozenTeacher):
    """Computes the answers with the model at every step, in its own precision.

    Args:
        model: put into eval mode for ever; its parameters take no gradients.
        train: the training part, whose items are left out of the lists.
    """

    def __init__(self, model: RankingModel, train: Interactions):
        self.model = model.eval().requires_grad_(False)
        self.seen = train.csr
        self.dim = vector_size(model)

    def to(self, device: torch.device) -> None:
        self.model.to(device)
        self.seen = Csr(self.seen.indptr.to(device), self.seen.indices.to(device))

    def view(self, users: Tensor) -> View:
        return _LiveView(self.model, users, self.seen)


class _LiveView(ModelView):
    """A view without gradients and outside autocast: the student's precision is not the teacher's.

    All answers come from these two.
    """

    def factors(self) -> tuple[Tensor, Tensor]:
        with torch.no_grad(), torch.autocast(self.users.device.type, enabled=False):
            return super().factors()

    def scores(self, items: Tensor | None = None) -> Tensor:
        with torch.no_grad(), torch.autocast(self.users.device.type, enabled=False):
            return super().scores(items)


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

    def to(self, device: torch.device) -> None:
        self.tensors = {name: tensor.to(device) for name, tensor in self.tensors.items()}

    def view(self, users: Tensor) -> View:
        return _StoredView(self.tensors, users, self.n_items)


class _StoredView:
    def __init__(self, tensors: dict[str, Tensor], users: Tensor, n_items: int):
        self.tensors, self.users, self.n_items = tensors, users, n_items

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
    model: RankingModel, train: Interactions, needs: Needs, folder: Path, chunk: int = 1024, data: str = ""
) -> None:
    """Writes what ``needs`` names, for all users, from the training part alone.

    Top lists are int32 ids and float32 scores, so that stored and live answers agree; scores of all items are
    kept as factors where the model has them and as a matrix otherwise.

    Args:
        chunk: users at a time.
        data: fingerprint of the data set that ``train`` is of.

    Raises:
        InputError: a score matrix would be larger than 2 GiB, or vectors are wanted of a model that has none.
    """
    from safetensors.torch import save_file

    check_needs(model, train, needs)
    teacher = LiveTeacher(model, train)
    tensors: dict[str, Tensor] = {}
    with torch.no_grad():
        if isinstance(model, FactorModel) and (needs.scores or needs.embeddings):
            user, item = model.factors()
            tensors |= {"user_factors": user.float().contiguous(), "item_factors": item.float().contiguous()}
        matrix = needs.scores and not isinstance(model, FactorModel)
        lists, scores = [], []
        for start in range(0, train.n_users, chunk) if needs.top_k or matrix else ():
            view = teacher.view(torch.arange(start, min(start + chunk, train.n_users)))
            if needs.top_k:
                lists.append(view.top_items(needs.top_k))
            if matrix:
                scores.append(view.scores())
    if lists:
        tensors["top_items"] = torch.cat([items.int() for items, _ in lists])
        tensors["top_scores"] = torch.cat([values for _, values in lists])
    if scores:
        tensors["scores"] = torch.cat(scores)
    with atomic_path(folder / SIGNALS) as temporary:
        save_file(tensors, temporary)
    info = {"hash": file_digest(folder / SIGNALS), "data": data, "needs": vars(needs), "n_items": train.n_items}
    write_json(folder / SIGNALS_INFO, info)


def check_needs(model: RankingModel, train: Interactions, needs: Needs) -> None:
    """Raises InputError where the teacher can't give what the distillers ask for."""
    if needs.embeddings and not isinstance(model, FactorModel):
        raise InputError(
            f"the teacher {type(model).__name__} has no user and item vectors, which a distiller needs",
            where="distiller",
            fix="leave out hint, or choose a teacher with vectors: teacher=mf or teacher=lightgcn",
        )
    if needs.top_k > train.n_items:
        raise InputError(
            f"a distiller wants lists of {needs.top_k} items, the catalogue has {train.n_items}",
            where="distiller",
            fix=f"set its k (or pool) to at most {train.n_items}",
        )
    size = 4 * train.n_users * train.n_items
    if needs.scores and not isinstance(model, FactorModel) and size > MAX_SCORE_BYTES:
        raise InputError(
            f"all scores of the teacher {type(model).__name__} would take {size / 2**30:.1f} GiB",
            where="distiller",
            fix="use a distiller on lists (distiller=topk_kl or distiller=rrd), or signals=live",
        )
