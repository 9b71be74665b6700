"""From a request to an answer, with the user's own ids."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np

from recdistill.serving.batcher import BusyError
from recdistill.serving.catalogue import NONE, Catalogue, Rows
from recdistill.serving.ranker import List, ListAsk, Ranker
from recdistill.serving.requests import MAX_ROWS, RecommendBody, ScoreBody, SimilarBody
from recdistill.serving.served import Served, reads_histories, similar_by
from recdistill.serving.table import BadValueError

SHOWN = 5  # ids in a message
Json = dict[str, Any]


class RefusedError(Exception):
    """A request that can't be answered.

    Args:
        status: of HTTP.
        what, where, why, fix: as in every message.
    """

    def __init__(self, status: int, what: str, *, where: str | None = None, why: str | None = None,
                 fix: str | None = None):  # fmt: skip
        super().__init__(what)
        self.status = status
        said = {"what": what, "where": where, "why": why, "fix": fix}
        self.body: Json = {"error": {key: text for key, text in said.items() if text}}


async def recommend(served: Served, body: RecommendBody, fallback: str) -> Json:
    """The list of a user or of a history.

    Raises:
        RefusedError: the model does not know the user, or can't do what is asked.
    """
    catalogue, ranker = _ranks(served, body.k)
    denied, unknown = catalogue.rows(body.deny)
    allowed, more = (None, []) if body.allow is None else catalogue.rows(body.allow)
    unknown += more
    answer: Json = {"model": served.name}
    if body.user is not None:
        answer["user"] = body.user
        row = catalogue.user_row.get(body.user)
        if row is None:
            return _stranger(served, catalogue, body, fallback, answer, denied, allowed, unknown)
        query, seen = _of_user(catalogue, ranker, row, body.exclude_seen)
    else:
        query, seen, missing = _of_history(served, catalogue, ranker, body)
        unknown = missing + unknown
    left_out = _left_out(len(catalogue.items), seen, denied, allowed)
    if body.user is None and ranker.takes == "user":
        assert served.vectors is not None
        slow = served.vectors.takes_long(len(query))
        found = await _searched(served, slow, served.vectors.of_history, query, left_out, body.k)
    else:
        assert served.lists is not None
        found = await served.lists.ask(ListAsk(query, left_out, body.k))
    return _listed(answer, catalogue, found, unknown)


async def _searched(served: Served, slow: bool, search: Callable[..., List], *asked: Any) -> List:
    """By the items' vectors: here, or in a thread.

    Raises:
        BusyError: too many wait for threads.
    """
    if not slow:
        return search(*asked)
    if served.searches >= served.max_queue:
        raise BusyError
    served.searches += 1
    try:
        return await asyncio.to_thread(search, *asked)
    finally:
        served.searches -= 1


def _ranks(served: Served, k: int) -> tuple[Catalogue, Ranker]:
    if served.catalogue is None or served.ranker is None:
        raise RefusedError(422, f"{served.name} predicts rows, it makes no lists", where="model", fix="POST /v1/score")
    if k > served.ranker.k:
        raise RefusedError(
            422, f"k is {served.ranker.k} at most", where="k", why="the model was exported with lists of this length",
            fix=f"k={served.ranker.k}, or export.onnx.k={k}",
        )  # fmt: skip
    return served.catalogue, served.ranker


def _of_user(catalogue: Catalogue, ranker: Ranker, row: int, exclude: bool) -> tuple[Rows, Rows]:
    """What the graph is asked for a user, and what is left out."""
    histories = catalogue.histories
    if histories is None and (exclude or ranker.takes != "user"):
        reads = "reads histories" if ranker.takes != "user" else "knows nothing of what users had"
        raise RefusedError(
            422, f"the bundle was exported without histories, and the model {reads}", where="user",
            fix="exclude_seen=false" if ranker.takes == "user" else "send history, or export.bundle.histories=true",
        )  # fmt: skip
    seen = histories.had(row) if histories is not None and exclude else NONE
    if ranker.takes == "user":
        return np.array([row], np.int64), seen
    assert histories is not None
    return histories.known(row), seen


def _of_history(
    served: Served, catalogue: Catalogue, ranker: Ranker, body: RecommendBody
) -> tuple[Rows, Rows, list[str]]:
    """What the graph is asked for a history, what is left out, and ids that the catalogue lacks."""
    if not reads_histories(served):
        raise RefusedError(
            422, f"{served.name} knows users by their rows, and no histories", where="history",
            why="a user's vector is learned in training", fix="send user; or serve a model of sets or sequences",
        )  # fmt: skip
    query, unknown = catalogue.rows(body.history or [])
    if not body.history:
        raise RefusedError(422, "the history is empty", where="history", fix="GET /v1/items finds items by title")
    if not len(query):
        raise RefusedError(
            422, "no item of the history is in the catalogue", where="history",
            why=f"given: {_some(unknown)}", fix="GET /v1/items finds items by title",
        )  # fmt: skip
    if ranker.takes != "history":  # a graph adds up what stands there twice
        query = np.unique(query)
    return query, query if body.exclude_seen else NONE, unknown


def _left_out(n_items: int, seen: Rows, denied: Rows, allowed: Rows | None) -> Rows:
    if allowed is None:
        return np.concatenate([seen, denied]) if len(denied) else seen
    out = np.ones(n_items, bool)
    out[allowed] = False
    out[seen] = out[denied] = True
    return np.flatnonzero(out)


def _stranger(
    served: Served, catalogue: Catalogue, body: RecommendBody, fallback: str, answer: Json,
    denied: Rows, allowed: Rows | None, unknown: list[str],
) -> Json:  # fmt: skip
    """What a user gets whom the model does not know."""
    if fallback != "popular" or catalogue.histories is None:
        history, popular = "send history, a list of item ids", "serve.fallback=popular gives them the popular items"
        raise RefusedError(
            404, f"there is no user {_short(body.user or '')} in the training data of {served.name}", where="user",
            fix=history if reads_histories(served) else popular,
        )  # fmt: skip
    out = np.zeros(len(catalogue.items), bool)
    out[_left_out(len(out), NONE, denied, allowed)] = True
    rows = catalogue.popular[~out[catalogue.popular]][: body.k]
    answer["fallback"] = "popular"
    return _listed(answer, catalogue, List(rows, np.zeros(0, np.float32)), unknown)


async def similar(served: Served, body: SimilarBody) -> Json:
    """The items most like one.

    Raises:
        RefusedError: there is no such item, or the model has no vectors.
    """
    catalogue, ranker = _ranks(served, body.k)
    by = similar_by(served)
    if by is None:
        raise RefusedError(422, f"{served.name} has no vectors of items", where="model",
                           why=f"{served.manifest.get('model')} scores pairs of user and item")  # fmt: skip
    row = catalogue.item_row.get(body.item)
    if row is None:
        raise RefusedError(404, f"there is no item {_short(body.item)} in the catalogue", where="item",
                           fix="GET /v1/items finds items by title")  # fmt: skip
    denied, unknown = catalogue.rows(body.deny)
    allowed, more = (None, []) if body.allow is None else catalogue.rows(body.allow)
    left_out = _left_out(len(catalogue.items), np.array([row], np.int64), denied, allowed)
    answer: Json = {"model": served.name, "by": by}
    if served.vectors is None:
        assert served.lists is not None
        found = await served.lists.ask(ListAsk(np.array([row], np.int64), left_out, min(body.k, ranker.k)))
    else:
        slow = served.vectors.takes_long()
        found = await _searched(served, slow, served.vectors.like, row, left_out, body.k)
    return _listed(answer, catalogue, found, unknown + more)


async def score(served: Served, body: ScoreBody) -> Json:
    """Predictions of rows.

    Raises:
        RefusedError: the model ranks, or a row has other features than the model's.
    """
    if served.columns is None or served.predictions is None:
        raise RefusedError(422, f"{served.name} ranks items, it predicts no rows", where="model",
                           fix="POST /v1/recommend")  # fmt: skip
    assert len(body.rows) <= MAX_ROWS
    try:
        inputs = served.columns.encode(body.rows)
    except BadValueError as error:
        raise RefusedError(422, str(error)[:500], where="rows", fix="GET /v1/models names the features") from error
    found = await served.predictions.ask(inputs)
    if not np.isfinite(found).all():
        row = int(np.flatnonzero(~np.isfinite(found).reshape(len(found), -1).all(1))[0])
        raise RefusedError(422, f"row {row}: there is no prediction for it", where="rows",
                           why="a number in it is too far from those of training")  # fmt: skip
    return {"model": served.name, "predictions": found.tolist()}


def history(served: Served, user: str, limit: int) -> Json:
    """What a user had, the latest last.

    Raises:
        RefusedError: no such user, or the bundle does not know.
    """
    catalogue, _ = _ranks(served, 1)
    row = catalogue.user_row.get(user)
    if row is None or catalogue.histories is None:
        what = "there is no such user" if row is None else "the bundle was exported without histories"
        raise RefusedError(404, what, where="user")
    had = catalogue.histories.had(row)
    return {"model": served.name, "user": user, "n": len(had), "items": [catalogue.shown(at) for at in had[-limit:]]}


def search(served: Served, text: str, limit: int) -> Json:
    """Items by a part of their title or id."""
    catalogue, _ = _ranks(served, 1)
    return {"model": served.name, "items": [catalogue.shown(row) for row in catalogue.search(text, limit)]}


def _listed(answer: Json, catalogue: Catalogue, found: List, unknown: list[str]) -> Json:
    shown = [catalogue.shown(row) for row in found.item.tolist()]
    for item, value in zip(shown, found.score.tolist(), strict=False):
        item["score"] = float(f"{value:.7g}")  # type: ignore[assignment]  # as many digits as a float32 has
    answer["items"] = shown
    if unknown:
        answer["unknown"] = unknown[:SHOWN]
    return answer


def _short(name: str) -> str:
    return ascii(name if len(name) <= 60 else name[:60] + "...")


def _some(names: list[str]) -> str:
    return ", ".join(map(_short, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")
