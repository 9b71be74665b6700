"""What students are not given: the labels of most training rows, and columns that only the teacher reads.

Test and validation are whole for everybody, and so is what is masked in evaluation.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from recdistill.config.suggest import did_you_mean, listing
from recdistill.data.features import Features
from recdistill.data.interactions import Data, Examples, Interactions, TableDataset
from recdistill.errors import InputError

DRAW = 0x1ABE1  # kept apart from what else is drawn by the seed of a run
STRATA = 10_000  # different labels of a table, above which they are numbers and no classes


def few_labels(data: Any, share: float, seed: int) -> Any:
    """The data with a share of the training labels: ``train.labelled`` says of which rows. With a share of 1 they are
    as they were.

    Args:
        data: a :class:`~recdistill.data.interactions.Dataset` or a table's.
        share: from 0, for none, to 1.
        seed: of the draw.
    """
    return data if share == 1 else replace(data, train=with_labels(data.train, share, seed))


def with_labels(train: Interactions | Examples, share: float, seed: int) -> Any:
    """A training part, whole, with a share of its rows as ``labelled``: as many of each user as the share says but for
    one, or of each class of a table, of which at least one has a label."""
    if isinstance(train, Interactions):
        return replace(train, labelled=draw(train.user, share, seed, each=False))
    values, strata = torch.unique(train.label, return_inverse=True)
    classes = len(values) <= STRATA and bool((values == values.floor()).all())
    strata = strata if classes else torch.zeros_like(strata)
    return replace(train, labelled=draw(strata, share, seed, each=classes))


def draw(strata: Tensor, share: float, seed: int, *, each: bool) -> Tensor:
    """bool ``[N]``: a share of the rows, at least one; every stratum has its share, rounded up or down.

    The rows, stratum by stratum, both in random order, are cut into equal stretches, and one row of each is drawn: the
    same place in all of them.

    Args:
        strata: int64 ``[N]``, from 0; with ``each``, no number is left out.
        share: 0 for no rows at all.
        seed: of the draw.
        each: at least one of every stratum.
    """
    n = len(strata)
    chosen = torch.zeros(n, dtype=torch.bool)
    if not share or not n:
        return chosen
    rng = torch.Generator().manual_seed(seed ^ DRAW)
    rows = torch.randperm(n, generator=rng)
    place = torch.randperm(int(strata.max()) + 1, generator=rng)
    rows = rows[place[strata[rows]].argsort(stable=True)]
    count = max(1, round(share * n))
    start = int(torch.randint(n, (1,), generator=rng))
    chosen[rows[(torch.arange(count) * n + start) // count]] = True
    if each:
        first = torch.searchsorted(place[strata[rows]].contiguous(), place)
        none = torch.bincount(strata[chosen], minlength=len(place)) == 0
        chosen[rows[first[none]]] = True
    return chosen


def labels_left(train: Interactions | Examples) -> tuple[int, int]:
    """How many labels there are to learn from, and how many rows."""
    return len(train) if train.labelled is None else int(train.labelled.sum()), len(train)


def without_columns(data: Data, names: Collection[str]) -> Data:
    """A table without some of its columns.

    Raises:
        InputError: it is no table, or has not such a column, or no other.
    """
    if not names:
        return data
    if not isinstance(data, TableDataset):
        raise InputError(
            "columns are withheld from students of tables; these data are ranked by users and items",
            where="data.privileged", fix="data.privileged=[], or task=ctr, rating or classification",
        )  # fmt: skip
    known = column_names(data.train.features)
    for name in names:
        if name not in known:
            raise InputError(
                f"the data have no column '{name}'", where="data.privileged", why=f"there are {listing(known)}",
                fix=did_you_mean(name, known),
            )  # fmt: skip
    kept = set(known) - set(names)
    if not kept:
        raise InputError("all columns are privileged: the student has nothing to look at", where="data.privileged",
                         fix=f"data.privileged=[{known[0]}]")  # fmt: skip
    parts = {part: replace(of, features=only(of.features, kept))
             for part in ("train", "valid", "test") for of in [getattr(data, part)]}  # fmt: skip
    return replace(data, **parts)


def column_names(features: Features) -> list[str]:
    """The columns that a model can read."""
    return sorted(chain(features.categorical, features.numeric, features.multi, features.vector))


def only(features: Features, names: Collection[str]) -> Features:
    """Some of the columns, with their vocabularies."""
    return Features(**{
        kind.name: {name: column for name, column in getattr(features, kind.name).items() if name in names}
        for kind in fields(features)
    })  # fmt: skip
