"""Exporting the end of the line: into one folder, by each format of the config, checked against the model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recdistill import __version__
from recdistill.compression.base import materialised
from recdistill.data.csr import Csr
from recdistill.data.interactions import Data, Dataset, TableDataset
from recdistill.errors import InputError
from recdistill.evaluation.topk import masked
from recdistill.export.base import Format, Queries, Subject
from recdistill.export.bundle import load_model, model_info
from recdistill.export.card import write_card
from recdistill.export.graphs import QUERY, SEEN, Inputs, row_inputs
from recdistill.export.manifest import whole_folder, write_manifest
from recdistill.models.base import FactorModel, Model, SequenceModel, SetModel, TableModel
from recdistill.models.build import instantiate
from recdistill.models.fold_in import RIDGE, UNOBSERVED
from recdistill.models.least_squares import table
from recdistill.models.mf import MF
from recdistill.stages.nodes import class_of
from recdistill.tasks.base import Task
from recdistill.tasks.sequence import histories
from recdistill.tasks.tables import TableTask, rows_for

EXPORT = "export"


def formats_of(cfg: dict[str, Any]) -> dict[str, Format]:
    """The formats of a config, by name."""
    return {name: instantiate(node) for name, node in dict(cfg.get("export") or {}).items()}


def require_formats(cfg: dict[str, Any]) -> None:
    """Raises InputError where a format can't hold what is exported, before anything is trained."""
    if cfg.get("export_also") and not cfg.get("export"):
        raise InputError("models are named, but no format is chosen", where="export_also", fix="export=[bundle,onnx]")
    roles = {"student", *("student" if also == "alone" else also for also in cfg.get("export_also") or [])}
    for role in sorted(roles):
        model = class_of(cfg[role], role)
        for name, form in formats_of(cfg).items():
            form.require(MF if issubclass(model, FactorModel) else model, cfg[role].get("net") or {}, f"export.{name}")


def export(
    cfg: dict[str, Any], task: Task, data: Data, model_folder: Path, run: Path, summary: dict[str, Any] | None,
    name: str = EXPORT,
) -> list[dict[str, Any]]:  # fmt: skip
    """Writes the model in each format of the config into ``run/export``, with a manifest and, of a run that was
    evaluated, a model card.

    Args:
        data: without the test part.
        model_folder: of the model.
        run: folder of the run.
        summary: of the run; its last row of the line with these weights is this model.
        name: of the folder in ``run``.

    Returns:
        What each format says of its files, see :meth:`~recdistill.export.base.Format.write`, and ``format``.

    Raises:
        ParityError: a file does not answer as the model does; nothing is left behind.
    """
    subject = subject_of(task, data, model_folder)
    found: list[dict[str, Any]] = []
    with whole_folder(run / name) as folder:
        for kind, form in formats_of(cfg).items():
            found += [{"format": kind, **said} for said in form.write(subject, folder)]
        if summary is not None:
            write_card(folder, summary, found, exported_row(summary, model_info(model_folder)["hash"]))
        facts = {
            "task": task.name, "model": type(subject.model).__name__, "data": data.fingerprint,
            "weights_hash": model_info(model_folder)["hash"], "recdistill": __version__, "exports": found,
            "logarithms": bool(getattr(task, "logarithms", False)), "fold_in": subject.fold_in,
        }  # fmt: skip
        write_manifest(folder, facts)
    return found


def folding(model: Model, served: Model) -> dict[str, float] | None:
    """See :attr:`~recdistill.export.base.Subject.fold_in`.

    Args:
        model: what ``recdistill recommend`` asks; one with a ``folded`` of its own answers by that.
        served: what is exported, whose factors of items may be more than the table.
    """
    if not isinstance(model, FactorModel) or type(model).folded is not FactorModel.folded:
        return None
    items = dict(served.named_parameters()).get("item.weight")
    if not isinstance(served, MF) or items is None or not torch.equal(served.factors()[1], items):
        return None
    return {"unobserved": UNOBSERVED, "ridge": RIDGE}


def exported_row(summary: dict[str, Any], weights: str) -> str:
    """Name of the last row of the line with these weights."""
    return [str(row["name"]) for row in summary["rows"] if row["weights_hash"] == weights and
            row["role"] not in ("baseline", "reranked")][-1]  # fmt: skip


def subject_of(task: Task, data: Data, model_folder: Path) -> Subject:
    """A model on disk with queries of its data."""
    info = model_info(model_folder)
    loaded = load_model(model_folder, data.train)
    # What derives its vectors, from a graph or from features, is served with these.
    served = materialised(loaded, info["net"])
    codecs = info["codecs"] if served.model is loaded else {}
    more: dict[str, Any] = {"net": served.net, "codecs": codecs, "labels": info.get("labels"), "data": data}
    if isinstance(data, TableDataset):
        assert isinstance(task, TableTask)
        return Subject(served.model.eval(), queries=row_queries(task, loaded, data), **more)
    queries, history = list_queries(task, loaded, data)
    read = in_training(data, *history) if isinstance(loaded, SetModel) else None
    fold_in = folding(loaded, served.model)
    return Subject(served.model.eval(), queries=queries, history=history, read=read, fold_in=fold_in, **more)


def list_queries(task: Task, model: Model, data: Dataset) -> tuple[Queries, tuple[Tensor, Tensor]]:
    """The users of the training part, answered as ``recdistill recommend`` does, and what each had."""
    users, n_items = torch.arange(data.train.n_users), data.train.n_items
    seen, score = data.seen("test"), task.scorer(model, data)
    if isinstance(model, SequenceModel):
        had = histories(data, "test")
        read: Callable[[Tensor], Tensor] = partial(had.last, length=model.schema.max_length)
        row = torch.repeat_interleave(torch.arange(len(had.indptr) - 1), had.indptr.diff())
        history = row, had.item
    else:
        read = partial(filled, data.train.csr, n_items) if isinstance(model, SetModel) else torch.clone
        history = seen.rows(users)
    inside = (history[0] < len(users)) & (history[1] < n_items)

    def inputs(asked: Tensor) -> Inputs:
        return {QUERY: read(asked), SEEN: filled(seen, n_items, asked)}

    def expected(asked: Tensor) -> Tensor:
        return masked(score(asked), asked, seen)

    return Queries(len(users), inputs, expected), (history[0][inside], history[1][inside])


def in_training(data: Dataset, user: Tensor, item: Tensor) -> Tensor:
    """bool ``[N]``: which pairs are of the training part, all that a model of sets reads of a user."""
    n_items = data.train.n_items
    return torch.isin(user * n_items + item, data.train.user * n_items + data.train.item)


def filled(sets: Csr, n_items: int, users: Tensor) -> Tensor:
    """int64 ``[B, S]``: the sets of some users, filled up with ``n_items``; what training lacks is left out."""
    return table(sets, users, n_items).clamp(max=n_items) if bool(sets.counts()[users].any()) else users[:, None][:, :0]


def row_queries(task: TableTask, model: TableModel, data: TableDataset) -> Queries:
    """The rows of the validation part, or of training where there is none."""
    rows = rows_for(model, data.valid if len(data.valid) else data.train)

    def expected(asked: Tensor) -> Tensor:
        return task.prediction(model(rows.take(asked))).float()

    return Queries(len(rows), lambda asked: row_inputs(rows.take(asked)), expected, task.prediction)
