"""From a source to a :class:`~recdistill.data.interactions.Dataset`: read, filter, split, number, account.

The vocabulary is that of the training part, numbered in the order of the original ids, so that neither the
order of rows nor anything of the other parts has a say in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import polars as pl
import torch

from recdistill.data.encoding import encode
from recdistill.data.features import Features, take
from recdistill.data.filters import Filters, codes
from recdistill.data.hashing import fingerprint_of, hash_features, hash_ids, hash_part
from recdistill.data.interactions import Dataset, Interactions, TableDataset
from recdistill.data.sources.base import PARTS, TEST, TRAIN, VALID, RawLog, Source
from recdistill.data.splits import Assignment, GivenSplit, Split, require_test
from recdistill.data.statistics import log_facts, part_counts, popularity, warnings_of
from recdistill.data.tables import origin, prepare_table
from recdistill.errors import InputError

Array = np.ndarray[Any, Any]


def prepare(source: Source, filters: Filters, split: Split) -> Dataset | TableDataset:
    """The data set of a source: interactions of users with items, or a table of examples.

    Args:
        source: where the log is read.
        filters: what is left out before the split.
        split: how the rest is shared out.

    Raises:
        InputError: for input that can't be read, or that leaves nothing to train on.
    """
    log = source.read()
    return prepare_pairs(log, source, filters, split) if log.has_pairs else prepare_table(log, source, filters, split)


def prepare_pairs(log: RawLog, source: Source, filters: Filters, split: Split) -> Dataset:
    """The data set of a log of interactions.

    Returns:
        Users and items of ``train`` numbered by original id. In ``valid`` and ``test``, items that train
        lacks get ids from ``n_items`` on, users that it lacks are left out, and so are pairs of an earlier
        part: all counted.
    """
    events, users, items = _coded(log.events)
    replaced = "part" in events.columns and not isinstance(split, GivenSplit)
    if replaced:
        events = events.drop("part")
    events, steps = filters.apply(events)
    events = events.sort([name for name in ("user", "time", "item", "value") if name in events.columns])
    assignment = split.assign(events)
    require_test(split, assignment, log.events.height)
    parts, lost = _parts(events, assignment.part)
    numbers = _number(parts)
    context = _context(parts, log)
    encoded = {
        name: _encode(part, numbers, features) for name, part, features in zip(PARTS, parts, context, strict=True)
    }
    ids = {"user": users[numbers.users], "item": items[numbers.items]}
    known = {"user": np.full(numbers.users.size, True), "item": np.arange(numbers.items.size) < numbers.n_items}
    side = {name: _of_side(log, name, ids[name], known[name]) for name in ("user", "item")}
    manifest = _manifest(source, filters, split, assignment, encoded, ids, numbers.n_items, side)
    report = _report(log, steps, lost, encoded, numbers.items.size - numbers.n_items, manifest)
    report["warnings"] = [*log.warnings, *warnings_of(report, replaced)]
    return Dataset(
        encoded["train"],
        encoded["valid"],
        encoded["test"],
        ids["user"],
        ids["item"],
        report,
        manifest,
        fingerprint_of(manifest),
        _titles(log, ids["item"]),
        side["user"],
        side["item"],
    )


def _coded(events: pl.DataFrame) -> tuple[pl.DataFrame, Array, Array]:
    """The events with ids as integers in the order of the ids, and the id of each integer."""
    vocabularies = []
    for column in ("user", "item"):
        vocabularies.append(events[column].unique().sort().to_numpy())
        events = events.with_columns(pl.Series(column, codes(events[column])))
    return events, vocabularies[0], vocabularies[1]


def _parts(events: pl.DataFrame, part: Array) -> tuple[list[pl.DataFrame], dict[str, dict[str, int]]]:
    """The three parts without what can't be evaluated, and the rows that this cost, by part and reason."""
    parts = [events.filter(pl.Series(part == number)) for number in (TRAIN, VALID, TEST)]
    train = parts[TRAIN]
    if not train.height:
        raise InputError(
            "the training part is empty",
            where="data.split",
            why=f"there are {events.height} rows, all in the other parts",
            fix="data/split=random",
        )
    lost: dict[str, dict[str, int]] = {}
    known = train["user"].unique().implode()
    for number in (VALID, TEST):
        has_history = parts[number].filter(pl.col("user").is_in(known))
        kept = has_history
        if "part" in events.columns:
            earlier = pl.concat([frame.select("user", "item") for frame in parts[:number]])
            kept = kept.join(earlier, on=["user", "item"], how="anti", maintain_order="left")
        lost[PARTS[number]] = {
            "user without training history": parts[number].height - has_history.height,
            "pair of an earlier part": has_history.height - kept.height,
        }
        parts[number] = kept
    return parts, lost


@dataclass(frozen=True)
class _Numbers:
    """``users`` and ``items``: the code behind each number; the first ``n_items`` items are train's."""

    users: Array
    items: Array
    n_items: int


def _number(parts: list[pl.DataFrame]) -> _Numbers:
    users = np.unique(parts[TRAIN]["user"].to_numpy())
    items = np.unique(parts[TRAIN]["item"].to_numpy())
    n_items = items.size
    # Validation's cold items before the test's, so that validation doesn't depend on the test.
    for number in (VALID, TEST):
        items = np.concatenate([items, np.setdiff1d(parts[number]["item"].to_numpy(), items)])
    return _Numbers(users, items, n_items)


def _context(parts: list[pl.DataFrame], log: RawLog) -> list[Features]:
    """The context features of each part, in the vocabularies of the first."""
    kinds = log.kinds.get("context", {})
    ends = np.cumsum([0, *(part.height for part in parts)])
    whole = encode(pl.concat([part.select(list(kinds)) for part in parts]), kinds, np.arange(ends[-1]) < ends[1])
    return [take(whole, torch.arange(start, end)) for start, end in pairwise(ends.tolist())]


def _of_side(log: RawLog, side: Literal["user", "item"], ids: Array, known: Array) -> Features:
    """The features of the given ids; missing where the source does not list one."""
    frame, kinds = {"user": log.users, "item": log.items}[side], log.kinds.get(side, {})
    if frame is None or not kinds:
        return Features()
    wanted = pl.DataFrame({side: pl.Series(ids, dtype=pl.String)})
    return encode(wanted.join(frame, on=side, how="left", maintain_order="left"), kinds, known)


def _encode(part: pl.DataFrame, numbers: _Numbers, context: Features) -> Interactions:
    item_number = np.zeros(int(numbers.items.max()) + 1, dtype=np.int64)
    item_number[numbers.items] = np.arange(numbers.items.size)
    user = np.searchsorted(numbers.users, part["user"].to_numpy())
    value = part["value"].cast(pl.Float32).to_numpy() if "value" in part.columns else None
    time = part["time"].to_numpy() if "time" in part.columns else None
    return Interactions(
        torch.from_numpy(user.astype(np.int64)),
        torch.from_numpy(item_number[part["item"].to_numpy()]),
        numbers.users.size,
        numbers.n_items,
        None if value is None else torch.from_numpy(value.copy()),
        None if time is None else torch.from_numpy(time.copy()),
        context,
    )


def _manifest(
    source: Source,
    filters: Filters,
    split: Split,
    assignment: Assignment,
    parts: dict[str, Interactions],
    ids: dict[str, Array],
    n_items: int,
    side: dict[str, Features],
) -> dict[str, Any]:
    return {
        **origin(source, filters, split, assignment),
        "parts": {name: hash_part(part) for name, part in parts.items()},
        "catalogue": hash_ids(ids["user"], ids["item"][:n_items]),
        "cold_items": hash_ids(ids["item"][n_items:]),
        "features": {name: hash_features(features) for name, features in side.items() if features},
    }


def _report(
    log: RawLog,
    steps: list[dict[str, Any]],
    lost: dict[str, dict[str, int]],
    parts: dict[str, Interactions],
    n_cold: int,
    manifest: dict[str, Any],
) -> dict[str, Any]:
    train = parts["train"]
    return {
        **log_facts(log, manifest),
        "time_unit": log.time_unit if train.time is not None else None,
        "filters": steps,
        "users": train.n_users,
        "items": train.n_items,
        "rows": sum(len(part) for part in parts.values()),
        **popularity(train),
        "parts": {name: part_counts(part) for name, part in parts.items()},
        "lost": lost,
        "n_cold_items": n_cold,
    }


def _titles(log: RawLog, items: Array) -> Array | None:
    """A name for each of ``items``, its id where the source has none."""
    if log.items is None or "title" not in log.items.columns:
        return None
    names = pl.DataFrame({"item": pl.Series(items, dtype=pl.String)})
    joined = names.join(log.items.select("item", "title"), on="item", how="left", maintain_order="left")
    return joined["title"].fill_null(joined["item"]).to_numpy()
