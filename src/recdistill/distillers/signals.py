"""Signals: the teacher's answers, computed once, stored, and shared by all students.

A folder holds ``signals.safetensors``, which is read from the disk as it is needed, and ``signals.json``, which says
what they are of and carries the hash of the former (docs/signals.md).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recdistill.distillers.base import Needs
from recdistill.distillers.teacher import FrozenTeacher, LiveTeacher, view_of_users
from recdistill.distillers.tensor_file import TensorFile
from recdistill.errors import InputError
from recdistill.models.base import FactorModel, Model, SequenceModel, vector_size
from recdistill.models.dot import dot_scores
from recdistill.models.ensemble import members_of
from recdistill.models.given import GivenLists
from recdistill.runs.atomic import atomic_path, file_digest, read_json, write_json

SIGNALS = "signals.safetensors"
SIGNALS_INFO = "signals.json"
MAX_SCORE_BYTES = 2 * 2**30
MEMBER = "member."  # of names: member.0.scores
MAX_CHUNK = 2**25  # scores at a time
SWAPPED = {
    "user_factors": "item_factors", "item_factors": "user_factors", "user_vectors": "item_vectors",
    "item_vectors": "user_vectors", "top_users": "top_items", "top_user_scores": "top_scores",
}  # fmt: skip


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
        self.identity = info["hash"]
        self.n_items: int = info["n_items"]
        self.queries: int = info["queries"]
        self.tensors: dict[str, Tensor] = load_file(folder / SIGNALS)
        self.informed = self.tensors.pop("informed", None)
        self.dim = next((t.shape[1] for name, t in self.tensors.items() if name in ("item_factors", "item_vectors")), 0)
        self.members = max((number for number, _ in map(of_member, self.tensors)), default=-1) + 1 or 1

    def to(self, device: torch.device, train: Any = None) -> None:  # noqa: ARG002
        """What would take more than half of the device's free memory stays mapped, but for vectors: of it a step's rows
        are moved."""
        fits = sum(tensor.nbytes for tensor in self.tensors.values()) <= free_memory(device) / 2
        self.tensors = {
            name: tensor.to(device) if fits or name.endswith(("_factors", "_vectors")) else tensor
            for name, tensor in self.tensors.items()
        }

    def view(self, users: Tensor) -> _StoredView:
        return _StoredView(self.tensors, users, self.n_items, self.queries)

    def widths(self) -> dict[str, int]:
        prefix = "layer."
        return {n.removeprefix(prefix): t.shape[1] for n, t in self.tensors.items() if n.startswith(prefix)}


def free_memory(device: torch.device) -> float:
    """Bytes that are free on a CUDA device; of any other as many as one wants."""
    return float(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else math.inf


class _StoredView:
    regression = False  # the student's says how scores are compared

    def __init__(self, tensors: dict[str, Tensor], users: Tensor, n_items: int, queries: int):
        self.tensors, self.users, self.n_items, self.queries = tensors, users, n_items, queries

    def of(self, users: Tensor) -> _StoredView:
        return _StoredView(self.tensors, users, self.n_items, self.queries)

    def _own(self, table: Tensor) -> Tensor:
        """The rows of the queries, where these are."""
        return table[self.users.to(table.device)].to(self.users.device)

    def scores(self, items: Tensor | None = None) -> Tensor:
        if "scores" in self.tensors:
            rows = self._own(self.tensors["scores"])
            if items is None:
                return rows
            return rows[:, items] if items.dim() == 1 else rows.gather(1, items)
        with torch.autocast(self.users.device.type, enabled=False):
            return dot_scores(self.tensors["user_factors"], self.tensors["item_factors"], self.users, items)

    def ranked_scores(self) -> Tensor:
        scores = self.scores().clone()
        if "floor" in self.tensors:
            scores.masked_fill_(scores <= self._own(self.tensors["floor"]).unsqueeze(1), -torch.inf)
        if "known_items" in self.tensors:
            known_items = self.tensors["known_items"].to(self.users.device)
            known = self._own(self.tensors["known_queries"]).unsqueeze(1) & known_items
            scores.masked_fill_(~known, -torch.inf)
        return scores

    def flipped(self, items: Tensor) -> _StoredView:
        swapped = {SWAPPED[name]: tensor for name, tensor in self.tensors.items() if name in SWAPPED}
        if "scores" in self.tensors:
            swapped["scores"] = self.tensors["scores"].T
        return _StoredView(swapped, items, n_items=self.queries, queries=self.n_items)

    def members(self) -> list[_StoredView]:
        parts: dict[int, dict[str, Tensor]] = {}
        for name, tensor in self.tensors.items():
            number, plain = of_member(name)
            parts.setdefault(number, {})[plain] = tensor
        parts.pop(-1, None)
        return [_StoredView(parts[n], self.users, self.n_items, self.queries) for n in sorted(parts)] or [self]

    def layer(self, name: str) -> Tensor:
        return self._own(self.tensors[f"layer.{name}"])

    def log_normaliser(self, temperature: float = 1.0) -> Tensor:
        return (self.scores() / temperature).logsumexp(-1)

    def top_items(self, k: int) -> tuple[Tensor, Tensor]:
        items, scores = (self._own(self.tensors[name][:, :k]) for name in ("top_items", "top_scores"))
        return items.long(), scores

    def top_confidences(self, k: int) -> Tensor:
        return self._own(self.tensors["top_confidences"][:, :k]).float()

    def log_tail(self, k: int, temperature: float) -> Tensor:
        behind = self._own(self.tensors["top_scores"][:, k:]) / temperature  # of a list that others want longer
        tail = self._own(self.tensors[tail_at(temperature)])
        return torch.cat([behind, tail.unsqueeze(1)], 1).logsumexp(1)

    def user_vectors(self) -> Tensor:
        return self._own(self._vectors("user"))

    def item_vectors(self, items: Tensor) -> Tensor:
        return self._vectors("item")[items]

    def _vectors(self, side: str) -> Tensor:
        name = f"{side}_vectors"
        return self.tensors[name if name in self.tensors else f"{side}_factors"]


def compute_signals(
    model: Any, train: Any, needs: Needs, folder: Path, chunk: int = 1024, data: str = "",
    ask: Callable[[Any, Any, Tensor], Any] = view_of_users, queries: int | None = None, teacher_name: str = "",
) -> None:  # fmt: skip
    """Writes what ``needs`` names, for all queries, from the training part alone.

    Top lists are int32 ids and float32 scores, so that stored and live answers agree; scores of all items are
    kept as factors where they are dot products and as a matrix otherwise. Answers go to the disk as they come, so that
    no more than a chunk of them is in memory.

    Args:
        train: the training part, as ``ask`` wants it.
        chunk: queries at a time, at most; fewer of a large catalogue.
        data: fingerprint of the data set that ``train`` is of.
        ask: see :class:`LiveTeacher`.
        queries: how many there are; None for a query a user.
        teacher_name: what the teacher is known by, for :func:`require_signals_of`.

    Raises:
        InputError: a score matrix would be larger than 2 GiB, or vectors are wanted of a model that has none.
    """
    n = train.n_users if queries is None else queries
    check_needs(model, needs, n)
    asked, needs = needs, needs if model.schema.n_items else needs.of_rows()
    teacher, vectors = LiveTeacher(model, train, ask, needs.layers), name_of_vectors(model)

    def some(part: Tensor) -> Iterator[tuple[str, Tensor]]:
        return answers(teacher.view(part), needs, vectors)

    first = teacher.view(torch.arange(1))
    shapes = {name: (x.dtype, (n, *x.shape[1:])) for name, x in some(torch.arange(1))}
    shapes |= shapes_of_items(first, needs, vectors if f"user_{vectors}" in shapes else "")
    beside = unranked(model, n) if needs.scores else {}
    beside |= {} if teacher.informed is None else {"informed": teacher.informed}
    shapes |= {name: (x.dtype, tuple(x.shape)) for name, x in beside.items()}
    info = {"data": data, "teacher": teacher_name, "needs": vars(asked), "n_items": model.schema.n_items, "queries": n}
    with signals_file(folder, shapes, info) as file:
        for name, tensor in beside.items():
            file.put(name, 0, tensor)
        for part in chunks(n, max(1, min(chunk, MAX_CHUNK // max(model.schema.n_items, 1)))):
            for name, answer in some(part):
                file.put(name, int(part[0]), answer)
        if f"item_{vectors}" in shapes:
            for part in chunks(first.n_items, chunk):
                file.put(f"item_{vectors}", int(part[0]), first.item_vectors(part))
        if needs.top_users:
            for part in chunks(first.n_items, max(1, min(chunk, MAX_CHUNK // n))):
                users, scores = first.flipped(part).top_items(needs.top_users)
                file.put("top_users", int(part[0]), users.int())
                file.put("top_user_scores", int(part[0]), scores)


def shapes_of_items(view: Any, needs: Needs, vectors: str) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Types and shapes of what is stored with a row for each item.

    Args:
        view: the teacher's answers for any queries.
        vectors: "factors" or "vectors" where those of the queries are stored, "" otherwise.
    """
    found: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
    if vectors:
        like = view.item_vectors(torch.arange(1))
        found[f"item_{vectors}"] = like.dtype, (view.n_items, like.shape[1])
    if needs.top_users:
        shape = (view.n_items, needs.top_users)
        found |= {"top_users": (torch.int32, shape), "top_user_scores": (torch.float32, shape)}
    return found


def require_signals_of(folder: Path, data: str, teacher_name: str, needs: Needs) -> None:
    """Raises InputError where the signals in a folder are of other data or another teacher, or not what is needed."""
    info = read_json(folder / SIGNALS_INFO)
    wanted = {"data": data, "teacher": teacher_name, "needs": json.loads(json.dumps(vars(needs)))}
    for name, value in wanted.items():
        if info.get(name) != value:
            raise InputError(
                f"the stored teacher signals are stale: their {name} is another",
                where=str(folder / SIGNALS_INFO), why=f"{name} is {info.get(name)!r} there, and {value!r} here",
                fix=f"remove the folder {folder} and run again: they are computed anew",
            )  # fmt: skip


@contextmanager
def signals_file(
    folder: Path, shapes: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], info: dict[str, Any]
) -> Iterator[TensorFile]:
    """The file to put tensors into; when the block ends well both files are there, the one that names the hash of the
    other last."""
    with atomic_path(folder / SIGNALS) as temporary, TensorFile(temporary, shapes) as file:
        yield file
    write_json(folder / SIGNALS_INFO, {"hash": file_digest(folder / SIGNALS), **info})


def chunks(n: int, size: int) -> Iterator[Tensor]:
    """The numbers below n, ``size`` at a time."""
    for start in range(0, n, size):
        yield torch.arange(start, min(start + size, n))


def name_of_vectors(model: Model) -> str:
    """What the vectors of a model are stored as: "factors" where their dot products are the scores, "vectors" where
    they are not, "" where there are none."""
    if isinstance(model, FactorModel | SequenceModel):
        return "factors"
    return "vectors" if vector_size(model) else ""


def answers(view: Any, needs: Needs, vectors: str) -> Iterator[tuple[str, Tensor]]:
    """What is stored of some queries, by name.

    Args:
        vectors: of :func:`name_of_vectors`.
    """
    if vectors and (needs.embeddings or (needs.scores and vectors == "factors")):
        yield f"user_{vectors}", view.user_vectors()
    if needs.scores and vectors != "factors":
        yield "scores", view.scores()
    if needs.top_k:
        items, scores = view.top_items(needs.top_k)
        yield "top_items", items.int()
        yield "top_scores", scores
        if needs.confidences:
            yield "top_confidences", view.top_confidences(needs.top_k).half()
        for temperature in needs.tails:
            yield tail_at(temperature), view.log_tail(needs.top_k, temperature)
    for name in needs.layers:
        yield f"layer.{name}", view.layer(name)
    if needs.members and len(members := view.members()) > 1:
        own = Needs(top_k=needs.top_k, scores=needs.scores)
        for number, member in enumerate(members):
            yield from ((f"{MEMBER}{number}.{name}", answer) for name, answer in answers(member, own, ""))


def tail_at(temperature: float) -> str:
    """Name of the tensor that holds the mass behind the lists at a temperature."""
    return f"top_tail.{float(temperature)!r}"


def unranked(model: Model, queries: int) -> dict[str, Tensor]:
    """What tells which of all scores say nothing, see
    :meth:`~recdistill.distillers.base.ListView.ranked_scores`."""
    if isinstance(model, GivenLists):
        return {"floor": model.floor(torch.arange(queries))}
    if model.known is None:
        return {}
    known_queries, known_items = model.known
    return {"known_queries": known_queries, "known_items": known_items}


def of_member(name: str) -> tuple[int, str]:
    """Whose signal a stored tensor is, -1 for that of the teacher itself, and its name there."""
    if not name.startswith(MEMBER):
        return -1, name
    number, _, plain = name.removeprefix(MEMBER).partition(".")
    return int(number), plain


def check_needs(model: Model, needs: Needs, queries: int) -> None:
    """Raises InputError where the teacher can't give what the distillers ask for, for so many queries."""
    n_items = model.schema.n_items
    needs = needs if n_items else needs.of_rows()
    if needs.embeddings and not vector_size(model):
        raise InputError(
            f"the teacher {type(model).__name__} has no user and item vectors, which a distiller needs",
            where="distiller",
            fix="leave out hint, or choose a teacher with vectors: teacher=mf or teacher=lightgcn",
        )
    if needs.confidences and not (isinstance(model, GivenLists) and model.confident):
        raise InputError(
            f"the teacher {type(model).__name__} has no confidences beside its lists, which a distiller asks for",
            where="distiller", why="they are a column of the file of teacher=files",
            fix="teacher.confidence=COLUMN; or distiller.dllm2rec.confidences=scores, for the softmax of its scores",
        )  # fmt: skip
    matrices = int(name_of_vectors(model) != "factors") + (len(members_of(model)) if needs.members else 0)
    size = 4 * queries * (n_items or model.schema.n_outputs) * matrices
    if needs.scores and size > MAX_SCORE_BYTES:
        raise InputError(
            f"all scores of the teacher {type(model).__name__} would take {size / 2**30:.1f} GiB",
            where="distiller",
            fix="use a distiller on lists (distiller=topk_kl or distiller=rrd), or signals=live",
        )
