"""Signals: the teacher's answers, computed once, stored, and shared by all students.

A folder holds ``signals.safetensors``, which is read from the disk as it is needed, and ``signals.json``, which says
what they are of and carries the hash of the former (docs/signals.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recdistill.distillers.base import Needs
from recdistill.distillers.stored import MEMBER, SIGNALS, SIGNALS_INFO, tail_at
from recdistill.distillers.teacher import LiveTeacher, view_of_users
from recdistill.distillers.tensor_file import TensorFile
from recdistill.errors import InputError
from recdistill.models.base import FactorModel, Model, SequenceModel, vector_size
from recdistill.models.ensemble import members_of
from recdistill.models.given import GivenLists
from recdistill.runs.atomic import atomic_path, file_digest, read_json, write_json

MAX_SCORE_BYTES = 2 * 2**30
MAX_CHUNK = 2**25  # scores at a time
CACHED = 2**20  # scores that a CPU keeps near it


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

    first = teacher.view(torch.arange(1))  # whose vectors of items are those of the other queries, too
    shapes = {name: (x.dtype, (n, *x.shape[1:])) for name, x in answers(first, needs, vectors)}
    shapes |= shapes_of_items(first, needs, vectors if f"user_{vectors}" in shapes else "")
    beside = unranked(model, n) if needs.scores else {}
    beside |= {} if teacher.informed is None else {"informed": teacher.informed}
    shapes |= {name: (x.dtype, tuple(x.shape)) for name, x in beside.items()}
    info = {"data": data, "teacher": teacher_name, "needs": vars(asked), "n_items": model.schema.n_items, "queries": n}
    with signals_file(folder, shapes, info) as file:
        for name, tensor in beside.items():
            file.put(name, 0, tensor)
        for part in portions(n, model.schema.n_items, chunk):
            for name, answer in answers(first.of(part), needs, vectors):
                file.put(name, int(part[0]), answer)
        if f"item_{vectors}" in shapes:
            for part in chunks(first.n_items, chunk):
                file.put(f"item_{vectors}", int(part[0]), first.item_vectors(part))
        if needs.top_users:
            for part in portions(first.n_items, n, chunk):
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


def portions(n: int, width: int, most: int = 1024, device: str = "cpu") -> Iterator[Tensor]:
    """The numbers below n, as many at a time as can have ``width`` scores each: on a CPU those that stay in its cache,
    or 32, whose products with a large catalogue are still fast."""
    width = max(width, 1)
    room = MAX_CHUNK // width
    if device == "cpu":
        room = min(room, max(CACHED // width, 32))
    return chunks(n, max(1, min(most, room)))


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


def unranked(model: Model, queries: int) -> dict[str, Tensor]:
    """What tells which of all scores say nothing, see
    :meth:`~recdistill.distillers.base.ListView.ranked_scores`."""
    if isinstance(model, GivenLists):
        return {"floor": model.floor(torch.arange(queries))}
    if model.known is None:
        return {}
    known_queries, known_items = model.known
    return {"known_queries": known_queries, "known_items": known_items}


def check_needs(model: Model, needs: Needs, queries: int) -> None:
    """Raises InputError where the teacher can't give what the distillers ask for, for so many queries."""
    n_items = model.schema.n_items
    needs = needs if n_items else needs.of_rows()
    if needs.embeddings and not vector_size(model):
        raise InputError(
            f"the teacher {type(model).__name__} has no user and item vectors, which a distiller needs",
            where="distiller",
            fix="choose a teacher with vectors: teacher=mf or teacher=lightgcn; or leave out what compares vectors",
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
