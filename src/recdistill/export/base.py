"""What an export is: a format writes files for one model, and each file is checked against the model."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recdistill.data.interactions import Data
from recdistill.errors import InputError
from recdistill.export.graphs import Inputs
from recdistill.models.base import Model


@dataclass(frozen=True)
class Queries:
    """Queries of the data, and what the evaluator's own path answers: the reference of every parity check.

    Attributes:
        count: how many there are; they are numbered from 0.
        inputs: numbers int64 ``[B]`` to the inputs of a graph.
        expected: numbers to scores ``[B, n_items]`` with -inf for what is left out, or to predictions of rows.
        predict: for rows, from a model's output to what is predicted; None where lists are.
    """

    count: int
    inputs: Callable[[Tensor], Inputs]
    expected: Callable[[Tensor], Tensor]
    predict: Callable[[Tensor], Tensor] | None = None

    def examples(self) -> Inputs:
        """What a graph is traced with: a few queries, since one could be taken for a constant."""
        return self.inputs(torch.arange(3).clamp(max=self.count - 1))


@dataclass(frozen=True)
class Subject:
    """What is exported.

    Attributes:
        model: as it is served, in eval mode.
        net: ``_target_`` and hyper-parameters of the model.
        codecs: how its tensors are stored, of ``model.json``.
        labels: which labels it may know, as in ``model.json``.
        data: that it was trained on, without the test part.
        queries: of the data.
        history: rows of users and items int64 ``[N]``, what each user had by the end of validation; None of a table.
        read: bool ``[N]``, which of these a model of sets reads; None where it is all of them, or none.
        fold_in: constants by which the table of items makes vectors of users whom training lacked; None where the model
            makes them otherwise, or makes none.
    """

    model: Model
    net: dict[str, Any]
    codecs: dict[str, Any]
    labels: dict[str, Any] | None
    data: Data
    queries: Queries
    history: tuple[Tensor, Tensor] | None = None
    read: Tensor | None = None
    fold_in: dict[str, float] | None = None


class Format:
    """Base of all formats. Every argument of a subclass is a key of its YAML under ``conf/export``."""

    def require(self, model: type[Model], net: dict[str, Any], where: str) -> None:
        """Raises InputError before anything is trained: a package is missing, or the format can't hold the model.

        Args:
            model: the class of what is exported.
            net: its hyper-parameters.
            where: the format's key in the config.
        """

    def write(self, subject: Subject, folder: Path) -> list[dict[str, Any]]:
        """Writes files into ``folder``.

        Returns:
            For each what a table shows: ``file``, ``bytes``, and where it was run ``parity`` and ``latency``.

        Raises:
            ParityError: what was written does not answer as the model does.
        """
        raise NotImplementedError


def require_packages(names: Sequence[str], extra: str, where: str) -> None:
    """Raises InputError where one of the packages of an extra is not installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"{where} needs {' and '.join(missing)}", where=where, fix=f"pip install 'recdistill[{extra}]'"
        )
