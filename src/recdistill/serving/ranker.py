"""Lists and predictions by ONNX Runtime: several requests in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from recdistill.errors import InputError
from recdistill.export.names import GRAPH, QUERY, SEEN
from recdistill.serving.catalogue import Rows
from recdistill.serving.table import Inputs, joined, n_rows

Takes = Literal["user", "set", "history"]
WIDE = 2048  # items left out; a request with more is run by itself, since all of a batch are padded to the longest


@dataclass(frozen=True)
class ListAsk:
    """A request for a list.

    Attributes:
        query: rows of items, or the row of a user alone.
        left_out: rows of items.
        k: length of the list.
    """

    query: Rows
    left_out: Rows
    k: int


@dataclass(frozen=True)
class List:
    """Rows of items, the best first, and their scores."""

    item: Rows
    score: npt.NDArray[np.float32]


def open_session(folder: Path, threads: int) -> Any:
    """An ONNX Runtime session.

    Raises:
        InputError: onnxruntime is not installed, there is no graph, or it can't be loaded.
    """
    try:
        import onnxruntime as runtime
    except ImportError as error:
        raise missing_extra("onnxruntime") from error
    file = folder / GRAPH
    if not file.is_file():
        raise InputError(
            f"there is no {GRAPH}", where=str(folder), why="the service runs ONNX graphs",
            fix="export=[bundle,onnx]",
        )  # fmt: skip
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for each status
        raise InputError(
            f"{GRAPH} can't be loaded", where=str(file), why=str(error).strip().splitlines()[0], fix="export again"
        ) from error


def missing_extra(package: str) -> InputError:
    return InputError(f"recdistill serve needs {package}", where=package, fix="pip install 'recdistill[serve]'")


class Ranker:
    """A graph from queries to lists.

    Args:
        session: of ONNX Runtime.
        n_items: size of the catalogue.
        in_order: whether histories are sequences.
        max_length: longest history that the graph reads; 0 for any.

    Raises:
        InputError: the graph has other inputs or outputs than an export's.
    """

    def __init__(self, session: Any, n_items: int, in_order: bool, max_length: int = 0):
        self._session, self.n_items, self.max_length = session, n_items, max_length
        inputs = {part.name: part.shape for part in session.get_inputs()}
        outputs = {part.name: part.shape for part in session.get_outputs()}
        k = outputs.get("score", [0, 0])[-1]
        if QUERY not in inputs or set(outputs) != {"score", "item"} or not isinstance(k, int) or k < 1:
            raise InputError(f"{GRAPH} is no graph of lists", where=GRAPH, why=f"it has {inputs} and {outputs}",
                             fix="export again")  # fmt: skip
        self.k, self._takes_seen = k, SEEN in inputs
        self.takes: Takes = "user" if len(inputs[QUERY]) == 1 else "history" if in_order else "set"

    def run(self, asked: Sequence[ListAsk]) -> list[List]:
        """The lists, in the order of the requests; shorter than ``k`` where nothing is left."""
        narrow = [at for at, ask in enumerate(asked) if len(ask.left_out) <= WIDE]
        found: list[List | None] = [None] * len(asked)
        for group in ([narrow] if narrow else []) + [[at] for at, ask in enumerate(asked) if len(ask.left_out) > WIDE]:
            for at, answer in zip(group, self._together([asked[at] for at in group]), strict=True):
                found[at] = answer
        return [answer for answer in found if answer is not None]

    def _together(self, asked: Sequence[ListAsk]) -> list[List]:
        if self.takes == "user":
            query: Rows = np.array([ask.query[0] for ask in asked], np.int64)
        else:
            query = self._padded([ask.query[-self.max_length :] if self.max_length else ask.query for ask in asked])
        given = {QUERY: query}
        if self._takes_seen:
            given[SEEN] = self._padded([ask.left_out for ask in asked])
        score, item = self._session.run(["score", "item"], given)
        lists = []
        for ask, scores, items in zip(asked, score, item, strict=True):
            n = int(np.count_nonzero(items[: ask.k] >= 0))
            lists.append(List(items[:n], scores[:n]))
        return lists

    def _padded(self, rows: Sequence[Rows]) -> Rows:
        """int64 ``[B, longest]``, at least one wide, filled up with what is no item."""
        if len(rows) == 1 and len(rows[0]):
            return rows[0][None]
        out = np.full((len(rows), max(1, *map(len, rows)) if rows else 1), self.n_items, np.int64)
        for at, row in enumerate(rows):
            out[at, : len(row)] = row
        return out


class Scorer:
    """A graph from rows of a table to predictions.

    Raises:
        InputError: the graph has other inputs or outputs than an export's.
    """

    def __init__(self, session: Any):
        self._session = session
        self._inputs = [part.name for part in session.get_inputs()]
        if [part.name for part in session.get_outputs()] != ["prediction"]:
            raise InputError(f"{GRAPH} is no graph of predictions", where=GRAPH, fix="export again")

    def run(self, asked: Sequence[Inputs]) -> list[npt.NDArray[np.float32]]:
        """The predictions of each request's rows, ``[N]`` or ``[N, C]``."""
        together = joined(asked)
        (found,) = self._session.run(["prediction"], {name: together[name] for name in self._inputs})
        ends = np.cumsum([n_rows(part) for part in asked])[:-1]
        return list(np.split(found, ends))
