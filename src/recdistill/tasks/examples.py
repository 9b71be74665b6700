"""Interactions of users with items as a table of labelled rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.features import UNKNOWN, Features, Strings, take
from recdistill.data.interactions import Dataset, Examples, Interactions, TableDataset
from recdistill.errors import InputError

USER, ITEM, HISTORY = "user", "item", "history"
PARTS = ("train", "valid", "test")


def as_table(data: Dataset, threshold: float | None = None, history: int = 0) -> TableDataset:
    """A row for each event, with the user, the item, the features of both and of the event; its label is the value.

    Columns are ``user`` and ``item`` (unknown where training lacks them), those of users and items with the prefixes
    ``user_`` and ``item_``, those of events by their own names, and :data:`HISTORY`.

    Args:
        threshold: makes the label 1 for values from here on and 0 below; None leaves it as it is.
        history: how many items with label 1 that the user met strictly before the event, in training or, for the test
            part, in validation, are the feature :data:`HISTORY`; 0 for none. Its codes are those of ``item``.

    Raises:
        InputError: the events have no values or, for a history, no times.
    """
    if data.train.value is None:
        raise InputError(
            "these interactions have no values to predict", where="data",
            why="every one of them says that a user met an item, and none that a user refused one",
            fix="name the column: data.value=..., or task=ranking",
        )  # fmt: skip
    parts = {name: _examples(data, getattr(data, name), threshold) for name in PARTS}
    if history:
        parts = _with_history(data, parts, history)
    return TableDataset(**parts, report=data.report, manifest=data.manifest, fingerprint=data.fingerprint)


def _examples(data: Dataset, part: Interactions, threshold: float | None) -> Examples:
    value = part.value if part.value is not None else torch.zeros(len(part))
    label = value if threshold is None else (value >= threshold).float()
    n_users, n_items = part.n_users, part.n_items
    ids = Features(
        {USER: _known(part.user, n_users), ITEM: _known(part.item, n_items)},
        vocabularies={USER: _words(data.users[:n_users]), ITEM: _words(data.items[:n_items])},
    )
    sides = [
        _prefixed(take(data.user_features, part.user), USER), _prefixed(take(data.item_features, part.item), ITEM)
    ]  # fmt: skip
    return Examples(label, _joined(ids, *sides, part.context), part.time, part.user)


def _known(ids: Tensor, n: int) -> Tensor:
    """Codes of ids, from 1 on; ids that training lacks are unknown."""
    return torch.where(ids < n, ids + 1, UNKNOWN)


def _words(ids: Strings) -> Strings:
    return np.concatenate([np.array([""], dtype=object), ids])


def _prefixed(features: Features, prefix: str) -> Features:
    return Features(
        *({f"{prefix}_{name}": column for name, column in kind.items()} for kind in vars(features).values())
    )


def _joined(*several: Features) -> Features:
    merged: list[dict[str, Any]] = [{} for _ in vars(several[0])]
    for features in several:
        for into, kind in zip(merged, vars(features).values(), strict=True):
            twice = set(into) & set(kind)
            if twice:
                raise InputError(
                    f"two features are called {sorted(twice)[0]!r}", where="data", fix="rename the column of the events"
                )
            into.update(kind)
    return Features(*merged)


def _with_history(data: Dataset, parts: dict[str, Examples], length: int) -> dict[str, Examples]:
    if data.train.time is None:
        raise InputError(
            "a history needs times, and these interactions have none", where="task.history",
            fix="task.history=0, or name the column: data.time=...",
        )  # fmt: skip
    found, said_yes = {}, ["train"]
    for name, examples in parts.items():
        if name == "test":
            said_yes.append("valid")
        liked = [(getattr(data, known), parts[known].label) for known in said_yes]
        sets = _history(getattr(data, name), liked, length)
        words = {HISTORY: examples.features.vocabularies[ITEM]}
        found[name] = replace(
            examples, features=_joined(examples.features, Features(multi={HISTORY: sets}, vocabularies=words))
        )
    return found


def _history(part: Interactions, liked: list[tuple[Interactions, Tensor]], length: int) -> Csr:
    """The last items with label 1 of each event's user before the event, the latest last; codes from 1 on."""
    user, item, time = (torch.cat([_column(events, name)[label == 1] for events, label in liked])
                        for name in ("user", "item", "time"))  # fmt: skip
    known = item < part.n_items
    user, item, time = user[known], item[known], time[known]
    times = torch.unique(torch.cat([time, _column(part, "time")]))
    keys = user * (len(times) + 1) + torch.searchsorted(times, time)
    keys, order = keys.sort(stable=True)
    asked = part.user * (len(times) + 1)
    end = torch.searchsorted(keys, asked + torch.searchsorted(times, _column(part, "time")))
    start = torch.maximum(torch.searchsorted(keys, asked), end - length)
    indptr = torch.cat([end.new_zeros(1), (end - start).cumsum(0)])
    row = torch.repeat_interleave(torch.arange(len(end)), end - start)
    at = start[row] + torch.arange(len(row)) - indptr[row]
    return Csr(indptr, item[order][at] + 1)


def _column(part: Interactions, name: str) -> Tensor:
    column: Tensor | None = getattr(part, name)
    return torch.zeros(len(part), dtype=torch.int64) if column is None else column


def with_logarithms(data: TableDataset) -> TableDataset:
    """Numbers x as sign(x) · log(1 + |x|), with the mean and the deviation of the training rows."""
    logged = {
        name: {
            key: column.sign() * column.abs().log1p() for key, column in getattr(data, name).features.numeric.items()
        }
        for name in PARTS
    }
    moments = {}
    for key, column in logged["train"].items():
        there = column[~column.isnan()].double()
        moments[key] = (float(there.mean()), float(there.std(correction=0))) if len(there) else (0.0, 0.0)
    parts = {
        name: replace(part, features=replace(part.features, numeric=logged[name], moments=moments))
        for name, part in ((name, getattr(data, name)) for name in PARTS)
    }
    return replace(data, **parts)
