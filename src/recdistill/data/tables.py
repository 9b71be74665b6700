"""Tables of labelled examples, as for click prediction: no users, no items, every column a feature."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recdistill.data.encoding import encode
from recdistill.data.features import UNKNOWN, take
from recdistill.data.filters import Filters
from recdistill.data.hashing import fingerprint_of, hash_part
from recdistill.data.interactions import Examples, TableDataset
from recdistill.data.sources.base import PARTS, TEST, TRAIN, VALID, RawLog, Source
from recdistill.data.splits import Assignment, GivenSplit, Split, require_test
from recdistill.data.statistics import log_facts, table_warnings
from recdistill.errors import InputError

Array = np.ndarray[Any, Any]


def prepare_table(log: RawLog, source: Source, filters: Filters, split: Split) -> TableDataset:
    """The data set of a table of examples; see :func:`recdistill.data.prepare.prepare`.

    Returns:
        Rows in an order of their content, so that the order of rows and columns in the file has no say. Duplicates
        are kept and counted: two people may well have done the same.

    Raises:
        InputError: nothing is left to train on, or the split lacks what it needs.
    """
    events = log.events
    replaced = "part" in events.columns and not isinstance(split, GivenSplit)
    if replaced:
        events = events.drop("part")
    events, steps = filters.apply(events, log.time_unit)
    events = events.select(sorted(events.columns)).sort(pl.all())
    assignment = split.assign(events)
    require_test(split, assignment, log.events.height)
    order = np.argsort(assignment.part, kind="stable")
    sizes = np.bincount(assignment.part, minlength=len(PARTS))
    if not sizes[TRAIN]:
        raise InputError("the training part is empty", where="data.split", fix="data/split=random")
    events, ends = events[order], np.cumsum([0, *sizes[[TRAIN, VALID, TEST]]])
    parts = _parts(events, ends, log)
    manifest = {
        **origin(source, filters, split, assignment),
        "parts": {name: hash_part(part) for name, part in parts.items()},
    }
    report = _report(log, steps, parts, manifest, events, ends)
    report["warnings"] = [*log.warnings, *table_warnings(report, replaced)]
    return TableDataset(**parts, report=report, manifest=manifest, fingerprint=fingerprint_of(manifest))


def origin(source: Source, filters: Filters, split: Split, assignment: Assignment) -> dict[str, Any]:
    """What a manifest says of where the data come from and how they were split."""
    return {
        "source": source.where(),
        "source_fingerprint": source.fingerprint(),
        "filters": filters.settings(),
        "split": split.settings(),
        # Under repeats=last, a later repeat takes an earlier event out of training.
        "leaks_time": True if split.leaks_time is False and filters.repeats == "last" else split.leaks_time,
        "cut_times": assignment.cuts,
        "split_note": assignment.note,
    }


def _parts(events: pl.DataFrame, ends: Array, log: RawLog) -> dict[str, Examples]:
    """The examples of each part, those between its ends."""
    kinds = log.kinds["context"]
    features = encode(events.select(list(kinds)), kinds, np.arange(events.height) < ends[1])
    label = torch.from_numpy(events["value"].cast(pl.Float32).to_numpy().copy())
    time = torch.from_numpy(events["time"].to_numpy().copy()) if "time" in events.columns else None
    group = _groups(events[log.group]) if log.group else None
    return {
        name: Examples(
            label[start:end].clone(),
            take(features, torch.arange(start, end)),
            None if time is None else time[start:end].clone(),
            None if group is None else group[start:end].clone(),
        )
        for name, (start, end) in zip(PARTS, pairwise(ends.tolist()), strict=True)
    }


def _groups(column: pl.Series) -> Tensor:
    """int64 ``[N]``: equal for equal values; a missing one is a group of its own."""
    return torch.from_numpy(column.fill_null("").rank("dense").cast(pl.Int64).to_numpy() - 1)


def _report(
    log: RawLog,
    steps: list[dict[str, Any]],
    parts: dict[str, Examples],
    manifest: dict[str, Any],
    events: pl.DataFrame,
    ends: Array,
) -> dict[str, Any]:
    train = parts["train"].features
    content = events.drop("part", strict=False)
    binary = bool(events["value"].is_in([0.0, 1.0]).all())
    return {
        **log_facts(log, manifest),
        "time_unit": log.time_unit if "time" in log.events.columns else None,
        "filters": steps,
        "rows": events.height,
        "duplicates": content.height - content.n_unique(),
        "fields": {name: len(train.vocabularies[name]) - 1 for name in (*train.categorical, *train.multi)},
        "numeric": {name: list(moments) for name, moments in train.moments.items()},
        "parts": {
            name: _counts(part, events[start:end].select(list(log.kinds["context"])), binary)
            for (name, part), (start, end) in zip(parts.items(), pairwise(ends.tolist()), strict=True)
        },
    }


def _counts(part: Examples, cells: pl.DataFrame, binary: bool) -> dict[str, int]:
    """Rows of a part, those with a positive label or, of other labels, how many differ, empty cells, and categories
    that training has not seen."""
    missing = cells.null_count()
    categorical = part.features.categorical
    unknown = sum(int((codes == UNKNOWN).sum()) for codes in categorical.values())
    labels = {"positive": int((part.label > 0).sum())} if binary else {"labels": np.unique(part.label.numpy()).size}
    return {
        "rows": len(part),
        **labels,
        "empty_cells": sum(missing.row(0)),
        "unseen_values": unknown - sum(missing[name].item() for name in categorical),
    }
