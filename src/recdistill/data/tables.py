"""Tables of labelled examples, as for click prediction: no users, no items, every column a feature."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import torch

from recdistill.data.encoding import encode
from recdistill.data.features import take
from recdistill.data.filters import Filters
from recdistill.data.hashing import fingerprint_of, hash_part
from recdistill.data.interactions import Examples, TableDataset
from recdistill.data.sources.base import PARTS, TEST, TRAIN, VALID, RawLog, Source
from recdistill.data.splits import Assignment, GivenSplit, Split, require_test
from recdistill.data.statistics import log_facts, table_warnings
from recdistill.errors import InputError


def prepare_table(log: RawLog, source: Source, filters: Filters, split: Split) -> TableDataset:
    """The data set of a table of examples; see :func:`recdistill.data.prepare.prepare`.

    Returns:
        Rows in an order of their content, so that the order in the file has no say. Duplicates are kept and
        counted: two people may well have done the same.
    """
    events = log.events
    replaced = "part" in events.columns and not isinstance(split, GivenSplit)
    if replaced:
        events = events.drop("part")
    events, steps = filters.apply(events)
    events = events.sort([name for name, dtype in events.schema.items() if not dtype.is_nested()])
    assignment = split.assign(events)
    require_test(split, assignment, log.events.height)
    order = np.argsort(assignment.part, kind="stable")
    sizes = np.bincount(assignment.part, minlength=len(PARTS))
    if not sizes[TRAIN]:
        raise InputError("the training part is empty", where="data.split", fix="data/split=random")
    parts = _parts(events[order], np.cumsum([0, *sizes[[TRAIN, VALID, TEST]]]), log)
    manifest = {
        **origin(source, filters, split, assignment),
        "parts": {name: hash_part(part) for name, part in parts.items()},
    }
    report = _report(log, steps, parts, manifest, int(events.is_duplicated().sum()))
    report["warnings"] = [*log.warnings, *table_warnings(report, replaced)]
    return TableDataset(**parts, report=report, manifest=manifest, fingerprint=fingerprint_of(manifest))


def origin(source: Source, filters: Filters, split: Split, assignment: Assignment) -> dict[str, Any]:
    """What a manifest says of where the data come from and how they were split."""
    return {
        "source": source.where(),
        "source_fingerprint": source.fingerprint(),
        "filters": filters.settings(),
        "split": split.settings(),
        "leaks_time": split.leaks_time,
        "cut_times": assignment.cuts,
        "split_note": assignment.note,
    }


def _parts(events: pl.DataFrame, ends: np.ndarray[Any, Any], log: RawLog) -> dict[str, Examples]:
    kinds = log.kinds["context"]
    features = encode(events.select(list(kinds)), kinds, np.arange(events.height) < ends[1])
    label = torch.from_numpy(events["value"].cast(pl.Float32).to_numpy().copy())
    time = torch.from_numpy(events["time"].to_numpy().copy()) if "time" in events.columns else None
    return {
        name: Examples(
            label[start:end], take(features, torch.arange(start, end)), None if time is None else time[start:end]
        )
        for name, (start, end) in zip(PARTS, pairwise(ends.tolist()), strict=True)
    }


def _report(
    log: RawLog, steps: list[dict[str, Any]], parts: dict[str, Examples], manifest: dict[str, Any], duplicates: int
) -> dict[str, Any]:
    train = parts["train"].features
    return {
        **log_facts(log, manifest),
        "time_unit": log.time_unit if "time" in log.events.columns else None,
        "filters": steps,
        "rows": sum(len(part) for part in parts.values()),
        "duplicates": duplicates,
        "fields": {name: len(train.vocabularies[name]) - 1 for name in (*train.categorical, *train.multi)},
        "numeric": {name: list(moments) for name, moments in train.moments.items()},
        "parts": {
            name: {"rows": len(part), "positive": int((part.label > 0).sum()), "unknown": _unknown(part)}
            for name, part in parts.items()
        },
    }


def _unknown(part: Examples) -> int:
    """How many categorical cells are missing or were not seen in training."""
    return sum(int((codes == 0).sum()) for codes in part.features.categorical.values())
