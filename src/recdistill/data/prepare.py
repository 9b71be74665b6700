"""From a source to a :class:`~recdistill.data.interactions.Dataset`: read, filter, split, number, account.

The vocabulary is that of the training part, numbered in the order of the original ids, so that neither the
order of rows nor anything of the other parts has a say in it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch

from recdistill.data.filters import Filters, codes
from recdistill.data.interactions import Dataset, Interactions
from recdistill.data.sources.base import PARTS, TEST, TRAIN, VALID, RawLog, Source, hash_arguments
from recdistill.data.splits import Assignment, GivenSplit, Split
from recdistill.data.statistics import part_counts, popularity, warnings_of
from recdistill.errors import InputError

Array = np.ndarray[Any, Any]


def prepare(source: Source, filters: Filters, split: Split) -> Dataset:
    """The data set of a source.

    Args:
        source: where the log is read.
        filters: what is left out before the split.
        split: how the rest is shared out.

    Returns:
        Users and items of ``train`` numbered by original id. In ``valid`` and ``test``, items that train
        lacks get ids from ``n_items`` on, users that it lacks are left out, and so are pairs of an earlier
        part: all counted.

    Raises:
        InputError: for input that can't be read, or that leaves nothing to train on.
    """
    log = source.read()
    events, users, items = _coded(log.events)
    replaced = "part" in events.columns and not isinstance(split, GivenSplit)
    if replaced:
        events = events.drop("part")
    events, steps = filters.apply(events)
    events = events.sort([name for name in ("user", "time", "item", "value") if name in events.columns])
    assignment = split.assign(events)
    if split.no_test and not (assignment.part == TEST).any():
        raise _without_test(split, *split.no_test, log.events.height, events.height)
    parts, lost = _parts(events, assignment.part)
    numbers = _number(parts)
    encoded = {name: _encode(part, numbers) for name, part in zip(PARTS, parts, strict=True)}
    train_users, all_items = users[numbers.users], items[numbers.items]
    manifest = _manifest(source, filters, split, assignment, encoded, train_users, all_items, numbers.n_items)
    report = _report(log, steps, lost, encoded, all_items.size - numbers.n_items, manifest)
    report["warnings"] = warnings_of(report, replaced)
    return Dataset(
        encoded["train"],
        encoded["valid"],
        encoded["test"],
        train_users,
        all_items,
        report,
        manifest,
        _fingerprint(manifest),
        _titles(log, all_items),
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


def _without_test(split: Split, why: str, fix: str, read: int, left: int) -> InputError:
    why = why.format(**{**vars(split), "rows": left})
    rows = f"there {'is 1 row' if left == 1 else f'are {left} rows'}"
    if left < read:
        rows += f", which the filters left of {read}"
        fix += ", or loosen data.filters"
    return InputError("the split leaves no test rows", where="data.split", why=f"{rows}: {why}", fix=fix)


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


def _encode(part: pl.DataFrame, numbers: _Numbers) -> Interactions:
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
    )


def hash_part(part: Interactions) -> str:
    """Hex digest of the encoded events of a part."""
    digest = hashlib.blake2b(f"{part.n_users} {part.n_items}".encode(), digest_size=16)
    for column in (part.user, part.item, part.value, part.time):
        digest.update(b"-" if column is None else np.ascontiguousarray(column.numpy()).data)
        digest.update(b";")
    return digest.hexdigest()


def hash_ids(*ids: Array) -> str:
    """Hex digest of lists of original ids."""
    digest = hashlib.blake2b(digest_size=16)
    for part in ids:
        digest.update(json.dumps(part.tolist()).encode())
    return digest.hexdigest()


def _manifest(
    source: Source,
    filters: Filters,
    split: Split,
    assignment: Assignment,
    parts: dict[str, Interactions],
    users: Array,
    items: Array,
    n_items: int,
) -> dict[str, Any]:
    return {
        "source": source.where(),
        "source_fingerprint": source.fingerprint(),
        "filters": filters.settings(),
        "split": split.settings(),
        "leaks_time": split.leaks_time,
        "cut_times": assignment.cuts,
        "split_note": assignment.note,
        "parts": {name: hash_part(part) for name, part in parts.items()},
        "catalogue": hash_ids(users, items[:n_items]),
        "cold_items": hash_ids(items[n_items:]),
    }


def _fingerprint(manifest: dict[str, Any]) -> str:
    """Hash of content and config. A BOM or another order of rows in the source changes nothing."""
    counted = ("filters", "split", "parts", "catalogue", "cold_items")
    return hash_arguments(**{key: manifest[key] for key in counted})


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
        "source": manifest["source"],
        "rows_read": log.events.height,
        "dropped": dict(log.dropped),
        "note": "; ".join(text for text in (log.note, manifest["split_note"]) if text),
        "time_unit": log.time_unit if train.time is not None else None,
        "filters": steps,
        "users": train.n_users,
        "items": train.n_items,
        "rows": sum(len(part) for part in parts.values()),
        **popularity(train),
        "split": manifest["split"],
        "leaks_time": manifest["leaks_time"],
        "cut_times": manifest["cut_times"],
        "parts": {name: part_counts(part) for name, part in parts.items()},
        "lost": lost,
        "n_cold_items": n_cold,
    }


def _titles(log: RawLog, items: Array) -> Array | None:
    """A name for each of ``items``, its id where the source has none."""
    if log.titles is None:
        return None
    names = pl.DataFrame({"item": pl.Series(items, dtype=pl.String)})
    joined = names.join(log.titles.select("item", "title"), on="item", how="left", maintain_order="left")
    return joined["title"].fill_null(joined["item"]).to_numpy()
