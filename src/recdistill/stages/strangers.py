"""Users that training need not know: histories from a file, read in parts, and what a model says to them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.sources.files import existing_file
from recdistill.errors import InputError
from recdistill.models.base import FactorModel, Model, RankingModel, SequenceModel
from recdistill.stages.nodes import class_of

log = logging.getLogger(__name__)

HISTORIES = "recommend.histories"
ROWS = 100_000  # read at a time
SCANS: dict[str, Callable[..., pl.LazyFrame]] = {
    ".parquet": pl.scan_parquet, ".jsonl": pl.scan_ndjson, ".ndjson": pl.scan_ndjson,
    ".csv": lambda path: pl.scan_csv(path, infer_schema=False),
    ".tsv": lambda path: pl.scan_csv(path, infer_schema=False, separator="\t"),
}  # fmt: skip


@dataclass(frozen=True)
class Strangers:
    """Some users and what they had.

    Attributes:
        names: str ``[B]``.
        row: int64 ``[N]``, whose each event is, ascending.
        item: int64 ``[N]``, of the catalogue; the oldest of a user first.
    """

    names: np.ndarray[Any, Any]
    row: Tensor
    item: Tensor

    def split(self, size: int) -> Iterator[Strangers]:
        """So many users at a time."""
        starts = torch.searchsorted(self.row, torch.arange(len(self.names) + 1))
        for first in range(0, len(self.names), size):
            last = min(first + size, len(self.names))
            part = slice(int(starts[first]), int(starts[last]))
            yield Strangers(self.names[first:last], self.row[part] - first, self.item[part])

    @property
    def sets(self) -> Csr:
        return Csr.from_pairs(self.row, self.item, len(self.names))

    def last(self, length: int, pad: int) -> Tensor:
        """int64 ``[B, L]``: the last items of each, the oldest first, filled up with ``pad`` at the end."""
        counts = torch.bincount(self.row, minlength=len(self.names))
        starts = counts.cumsum(0) - counts
        place = torch.arange(len(self.row)) - starts[self.row] - (counts - length).clamp(min=0)[self.row]
        kept = place >= 0
        table = torch.full((len(self.names), min(length, int(counts.max()))), pad)
        table[self.row[kept], place[kept]] = self.item[kept]
        return table


def require_strangers(cfg: dict[str, Any]) -> None:
    """Raises InputError where histories are asked for and the model can't read any, before anything is trained."""
    settings = cfg["recommend"]
    if not settings["histories"]:
        return
    scan_of(settings["histories"])
    if settings["users"] is not None:
        raise InputError("users are chosen by recommend.users or by recommend.histories, not by both",
                         where=HISTORIES, fix="leave one of them out")  # fmt: skip
    role = "teacher" if settings["model"] == "teacher" else "student"
    model = class_of(cfg[role], role)
    if not reads_histories(model):
        raise InputError(
            f"{model.__name__} can't answer users by their histories", where=HISTORIES,
            why="it knows a user by training data alone",
            fix=f"{role}=mf, lightgcn, ease or item_knn; or task=sequence {role}=sasrec",
        )  # fmt: skip


def reads_histories(model: type[Model]) -> bool:
    if issubclass(model, SequenceModel):
        return True
    return issubclass(model, RankingModel) and model.fold_in is not RankingModel.fold_in


def scan_of(file: str) -> pl.LazyFrame:
    """The columns user, item and, where there is one, time of a file, as text.

    Raises:
        InputError: there is no such file, it is of no known kind, or a column lacks.
    """
    path = existing_file(file, HISTORIES)
    scan = SCANS.get(path.suffix.lower())
    if scan is None:
        raise InputError(f"histories are read from {', '.join(SCANS)}, not {path.suffix or 'a file without an ending'}",
                         where=HISTORIES, fix="a Parquet or CSV file with the columns user, item and time")  # fmt: skip
    try:
        found = scan(path)
        columns = found.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(path, error) from error
    if lacking := [name for name in ("user", "item") if name not in columns]:
        raise InputError(
            f"'{path}' has no column {' and none called '.join(lacking)}", where=HISTORIES,
            why=f"it has: {', '.join(columns[:20])}", fix="the columns are user, item and, where order counts, time",
        )  # fmt: skip
    return found.select(pl.col(name).cast(pl.String) for name in ("user", "item", "time") if name in columns)


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"'{path}' can't be read", where=HISTORIES, why=str(error).splitlines()[0],
                      fix="a Parquet or CSV file with the columns user, item and time")  # fmt: skip


def read_strangers(file: str, items: np.ndarray[Any, Any]) -> Iterator[Strangers]:
    """The users of a file in parts. Events of one user stand together, in the order of their times or, without any, in
    that of the file. Items that are not in the catalogue, and users without any other, are passed over and told of.

    Args:
        items: ids of the catalogue.

    Raises:
        InputError: a user comes back after another one, an id lacks, or the file is damaged.
    """
    scan, known = scan_of(file), np.zeros(0, dtype=np.uint64)
    catalogue = pl.DataFrame({"item": pl.Series(items.astype(str), dtype=pl.String), "row": np.arange(len(items))})
    rest = pl.DataFrame()
    lost = {"events": 0, "users": 0}
    try:
        for batch in scan.collect_batches(chunk_size=ROWS, maintain_order=True):
            rest = pl.concat([rest, batch]) if len(rest) else batch
            runs = rest["user"].rle_id()
            whole, rest = rest.filter(runs < runs[-1]), rest.filter(runs == runs[-1])  # who may go on in the next
            if len(whole):
                known = _never_before(whole, known, file)
                yield from _strangers(whole, catalogue, lost)
    except pl.exceptions.PolarsError as error:
        raise _unreadable(Path(file), error) from error
    if len(rest):
        _never_before(rest, known, file)
        yield from _strangers(rest, catalogue, lost)
    if any(lost.values()):
        log.warning("%s: events of items that the catalogue lacks: %d; users without any others, who get no list: %d",
                    file, lost["events"], lost["users"])  # fmt: skip


def _never_before(events: pl.DataFrame, known: np.ndarray[Any, Any], file: str) -> np.ndarray[Any, Any]:
    """The hashes of all users so far."""
    if lacking := events.select("user", "item").null_count().sum_horizontal()[0]:
        raise InputError(f"{lacking} ids are missing in '{file}'", where=HISTORIES, fix="leave these rows out")
    names = events["user"].filter(events["user"].rle_id().is_first_distinct())
    hashes = names.hash(seed=0).to_numpy()
    again = np.isin(hashes, known) | names.is_duplicated().to_numpy()
    if again.any():
        raise InputError(
            f"the events of user {names[int(again.argmax())]!r} do not stand together in '{file}'", where=HISTORIES,
            why="the file is read in parts, so that a million users take little memory", fix="sort it by user",
        )  # fmt: skip
    return np.concatenate([known, hashes])


def _strangers(events: pl.DataFrame, catalogue: pl.DataFrame, lost: dict[str, int]) -> Iterator[Strangers]:
    names = events["user"].unique(maintain_order=True)
    found = events.with_columns(events["user"].rle_id().cast(pl.Int64).alias("at")).join(
        catalogue, on="item", how="inner", maintain_order="left"
    )
    if "time" in found.columns:  # numbers by size; what is none, such as 2026-11-21, as text
        found = found.sort("at", pl.col("time").cast(pl.Float64, strict=False), "time", maintain_order=True)
    there = found["at"].unique(maintain_order=True).to_numpy()
    lost["events"] += len(events) - len(found)
    lost["users"] += len(names) - len(there)
    if len(there):
        row = torch.from_numpy(found["at"].rle_id().cast(pl.Int64).to_numpy().copy())
        yield Strangers(names.to_numpy()[there], row, torch.from_numpy(found["row"].to_numpy().copy()))


def scorer_of_strangers(model: Model, new: Tensor | None = None) -> Callable[[Strangers], Tensor]:
    """A function from users to scores ``[B, n_items]``, outside autocast.

    Args:
        model: for which :func:`reads_histories`.
        new: vectors ``[n, d]`` of items that are scored too, behind the catalogue, by a model of dot products.
    """
    with torch.inference_mode():
        table = None
        if isinstance(model, FactorModel | SequenceModel):
            table = (model.factors()[1] if isinstance(model, FactorModel) else model.item_matrix()).float()
            table = table if new is None else torch.cat([table, new.float()])

    def score(users: Strangers) -> Tensor:
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            if isinstance(model, SequenceModel):
                vectors = model.query(users.last(model.schema.max_length, model.schema.n_items))
            elif isinstance(model, FactorModel):
                vectors = model.folded(users.sets)
            else:
                assert isinstance(model, RankingModel)
                return model.fold_in(users.sets).float()
            assert table is not None
            return vectors.float() @ table.T

    return score
