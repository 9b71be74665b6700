"""A model as one function of plain tensors: what production asks, and what it is answered.

A query is a user, a history or a row. Of the first two the answer is a list: scores, what the user has at -inf, the k
best; of a row a probability, a number, or a probability for each class. Every format exports this one function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recdistill.data.csr import Csr
from recdistill.data.rows import Rows
from recdistill.errors import InputError
from recdistill.evaluation.topk import PAD
from recdistill.export.names import QUERY as QUERY
from recdistill.export.names import SEEN as SEEN
from recdistill.models.base import FactorModel, Model, SequenceModel, SetModel
from recdistill.models.ensemble import RankingEnsemble
from recdistill.models.folded import Folded
from recdistill.models.given import GivenLists
from recdistill.models.given_rows import GivenRows

Inputs = dict[str, Tensor]
REFUSED: dict[type, str] = {
    GivenLists: "it is a file of answers, not a model",
    GivenRows: "it is a file of answers, not a model",
    Folded: "it solves a system of equations for each history",
}


@dataclass(frozen=True)
class Graph:
    """A function to export.

    Attributes:
        module: takes the inputs one by one, in their order.
        inputs: examples of them, of two queries or more.
        outputs: names of what it returns.
    """

    module: nn.Module
    inputs: Inputs
    outputs: tuple[str, ...]

    @property
    def varying(self) -> dict[str, tuple[int, ...]]:
        """Name of an input to those of its dimensions that differ from call to call: how many queries, how long the
        histories are, how much each has seen."""
        lists = isinstance(self.module, ListGraph | VectorGraph)
        return {name: tuple(range(part.dim())) if lists else (0,) for name, part in self.inputs.items()}


class ListGraph(nn.Module):
    """Scores, without what the user has, and the ``k`` best.

    Args:
        model: a ranking or sequence model.
        k: length of the list; a shorter one is its beginning.
    """

    model: Any

    def __init__(self, model: Model, k: int):
        super().__init__()
        self.model, self.k = model, min(k, model.schema.n_items)

    def forward(self, query: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Args:
            query: users int64 ``[B]``, or histories ``[B, L]`` filled up with ``n_items``.
            seen: int64 ``[B, S]``, what is left out, filled up with ``n_items``.

        Returns:
            float ``[B, k]``, the best first, and int64 items ``[B, k]``; -inf and -1 where nothing is left.
        """
        return best(self.scores(query), seen, self.k)

    def scores(self, query: Tensor) -> Tensor:
        """``[B, n_items]``."""
        raise NotImplementedError


def best(scores: Tensor, seen: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best unseen of each row ``[B, n_items]``; see :meth:`ListGraph.forward`."""
    spare = torch.cat([scores, scores[:, :1]], 1)  # one more column takes what fills ``seen`` up
    left = spare.scatter(1, seen, -torch.inf)[:, :-1]
    value, item = torch.topk(left, k, dim=1)
    return value, torch.where(value == -torch.inf, PAD, item)


class UserGraph(ListGraph):
    """Of users of the training part."""

    def scores(self, query: Tensor) -> Tensor:
        found: Tensor = self.model.scores(query)
        return found


class SetGraph(ListGraph):
    """Of histories as sets, for models that know a user by these."""

    def scores(self, query: Tensor) -> Tensor:
        n_items = self.model.schema.n_items
        sets = torch.zeros(query.shape[0], n_items + 1).scatter(1, query, 1.0)[:, :-1]
        found: Tensor = self.model.score_sets(sets)
        return found


class HistoryGraph(ListGraph):
    """Of histories in the order of time."""

    def scores(self, query: Tensor) -> Tensor:
        found: Tensor = self.model.query(query) @ self.model.item_matrix().T
        return found


class VectorGraph(nn.Module):
    """The vector of a query alone: its dot products with the table of items are the scores."""

    model: Any

    def __init__(self, model: Model):
        super().__init__()
        self.model = model

    def forward(self, query: Tensor) -> Tensor:
        """``[B, d]`` of users int64 ``[B]`` or histories ``[B, L]``."""
        if isinstance(self.model, FactorModel):
            return self.model.user_factors(query)
        found: Tensor = self.model.query(query)
        return found


class RowGraph(nn.Module):
    """Predictions for rows.

    Args:
        model: of the rows of a table.
        names: of the inputs, in their order.
        predict: from the model's output to what is predicted, as a task measures it.
    """

    def __init__(self, model: Model, names: tuple[str, ...], predict: Callable[[Tensor], Tensor]):
        super().__init__()
        self.model, self.names, self.predict = model, names, predict

    def forward(self, *columns: Tensor) -> Tensor:
        """float ``[B]``, or ``[B, C]`` of classes."""
        rows = as_rows(dict(zip(self.names, columns, strict=True)))
        return self.predict(self.model.forward(rows)).float()  # weights of small integers have no precision to cast to


def require_exportable(model: type[Model], net: Mapping[str, Any], where: str, *, apart: bool = False) -> None:
    """Raises InputError for a model that no graph can hold or, with ``apart``, has no vectors of queries and items."""
    why = next((why for kind, why in REFUSED.items() if issubclass(model, kind)), None)
    if issubclass(model, RankingEnsemble) and net.get("combine", "zscore") != "zscore":
        why = f"combine={net['combine']} looks at what each user has, and combine=zscore does not"
    if why:
        raise InputError(f"{model.__name__} can't be exported as a graph", where=where, why=why, fix="export=bundle")
    if apart and not issubclass(model, FactorModel | SequenceModel):
        raise InputError(
            f"{model.__name__} can't be split into an encoder and a table of items", where=where,
            why="its scores are no dot products of vectors", fix="export=[bundle,onnx]",
        )  # fmt: skip


def list_graph(model: Model, k: int, inputs: Inputs) -> Graph:
    """From queries to lists, for any model of :func:`require_exportable` that ranks."""
    kind = HistoryGraph if isinstance(model, SequenceModel) else SetGraph if isinstance(model, SetModel) else UserGraph
    return Graph(kind(model, k).eval(), inputs, ("score", "item"))


def exported_graph(model: Model, k: int, inputs: Inputs, predict: Callable[[Tensor], Tensor] | None) -> Graph:
    """From queries to lists of ``k`` or, with ``predict``, from rows to predictions."""
    return list_graph(model, k, inputs) if predict is None else row_graph(model, inputs, predict)


def vector_graph(model: Model, inputs: Inputs) -> Graph:
    """From queries to vectors; what was seen is no input."""
    return Graph(VectorGraph(model).eval(), {QUERY: inputs[QUERY]}, ("vector",))


def row_graph(model: Model, inputs: Inputs, predict: Callable[[Tensor], Tensor]) -> Graph:
    """From rows to predictions."""
    return Graph(RowGraph(model, tuple(inputs), predict).eval(), inputs, ("prediction",))


def item_vectors(model: Model) -> Tensor:
    """float32 ``[n_items, d]``, whose dot products with :class:`VectorGraph`'s answers are the scores."""
    with torch.no_grad():
        if isinstance(model, FactorModel):
            return model.factors()[1].detach().float()
        assert isinstance(model, SequenceModel)
        return model.item_matrix().detach().float()


def row_inputs(rows: Rows) -> Inputs:
    """The columns of rows by name: ``categorical``, ``numeric``, ``NAME.vector`` of a vector, ``NAME.indptr`` and
    ``NAME.indices`` of a set."""
    single = {"categorical": rows.categorical, "numeric": rows.numeric}
    found = {name: columns for name, columns in single.items() if columns.shape[1]}
    for name, sets in rows.multi.items():
        found |= {f"{name}.indptr": sets.indptr, f"{name}.indices": sets.indices}
    return found | {f"{name}.vector": vectors for name, vectors in rows.vector.items()}


def as_rows(columns: Mapping[str, Tensor]) -> Rows:
    """The inverse of :func:`row_inputs`."""
    first_name, first = next(iter(columns.items()))
    n = first.shape[0] - first_name.endswith(".indptr")
    names = [name.removesuffix(".indptr") for name in columns if name.endswith(".indptr")]
    return Rows(
        columns.get("categorical", torch.zeros(n, 0, dtype=torch.int64)),
        columns.get("numeric", torch.zeros(n, 0)),
        {name: Csr(columns[f"{name}.indptr"], columns[f"{name}.indices"]) for name in names},
        {name.removesuffix(".vector"): part for name, part in columns.items() if name.endswith(".vector")},
    )
