"""From a source to a :class:`~recdistill.data.interactions.Dataset`: read, filter, split, number, account.

The vocabulary is that of the training part, numbered in the order of the original ids, so that neither the
order of rows nor anything of the other parts has a say in it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recdistill.data.columns import codes, content_order, labelled
from recdistill.data.encoding import encode
from recdistill.data.features import Features, take
from recdistill.data.filters import Filters
from recdistill.data.graph import KnowledgeGraph
from recdistill.data.hashing import fingerprint_of, hash_features, hash_graph, hash_ids, hash_part
from recdistill.data.interactions import Dataset, Interactions, TableDataset
from recdistill.data.linking import account, link
from recdistill.data.parts import NAMES, Cut, Numbers, cut
from recdistill.data.sources.base import KNOWN, TRAIN, RawLog, Source
from recdistill.data.splits import Assignment, GivenSplit, Split, require_clock, require_test
from recdistill.data.statistics import log_facts, part_counts, popularity, train_only, warnings_of
from recdistill.data.tables import origin, prepare_table

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
    if not log.has_pairs:
        return prepare_table(log, source, filters, split)
    log = _labelled(log)  # from here on ids take four bytes a row, and their text is there once
    return prepare_pairs(log, source, filters, split)


def prepare_pairs(log: RawLog, source: Source, filters: Filters, split: Split) -> Dataset:
    """The data set of a log of interactions, its ids as :func:`~recdistill.data.columns.labelled` gives them.

    Returns:
        Users and items of ``train`` numbered by original id. In the other parts, items that train lacks get ids from
        ``n_items`` on, and users that it lacks from ``n_users`` on where the split leaves a known history of them;
        other users are left out, and so are pairs of an earlier part: all counted.
    """
    events = log.events
    replaced = "part" in events.columns and not isinstance(split, GivenSplit)
    if replaced:
        events = events.drop("part")
    events, steps = filters.apply(events, log.time_unit)
    events = events.sort(content_order(events, ("user", "time", "item", "value")), maintain_order=True)
    require_clock(split, log.time_unit)
    assignment = split.assign(events)
    require_test(split, assignment, log.events.height)
    parts = cut(events, assignment.part, pairs_repeat=filters.repeats == "all" or "part" in events.columns)
    users, items = (Numbers.of(codes(events[side]), parts.rows) for side in ("user", "item"))
    encoded = _encode(events, parts, users, items, log)
    ids = {"user": _ids(events["user"], users), "item": _ids(events["item"], items)}
    known = {"user": np.arange(users.codes.size) < users.n, "item": np.arange(items.codes.size) < items.n}
    side = {name: _of_side(log, name, ids[name], known[name]) for name in ("user", "item")}
    catalogue = ids["item"][: items.n]
    graph = None if log.graph is None else link(log.graph, catalogue)
    manifest = _manifest(source, filters, split, assignment, encoded, ids, side, graph)
    report = _report(log, steps, parts, encoded, (users, items), manifest)
    if log.graph is not None and graph is not None:
        report["graph"] = account(log.graph, graph, catalogue)
    report["warnings"] = [*log.warnings, *warnings_of(report, replaced)]
    return Dataset(
        replace(encoded["train"], user_features=side["user"], item_features=side["item"], graph=graph),
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
        encoded.get("known"),
        graph,
    )


def _labelled(log: RawLog) -> RawLog:
    return replace(log, events=log.events.with_columns(labelled(log.events[side]) for side in ("user", "item")))


def _ids(column: pl.Series, numbers: Numbers) -> Array:
    """The original id of each number, str ``[n + n_cold]``."""
    return column.dtype.categories.to_numpy()[numbers.codes]  # type: ignore[attr-defined,no-any-return]


def _encode(events: pl.DataFrame, parts: Cut, users: Numbers, items: Numbers, log: RawLog) -> dict[str, Interactions]:
    """The parts in numbers; ``known`` only where there is one."""
    wanted = [number for number, rows in enumerate(parts.rows) if number != KNOWN or rows.size]
    user = torch.from_numpy(users.number[codes(events["user"])])
    item = torch.from_numpy(items.number[codes(events["item"])])
    value = torch.from_numpy(events["value"].cast(pl.Float32).to_numpy().copy()) if "value" in events.columns else None
    time = torch.from_numpy(events["time"].to_numpy().copy()) if "time" in events.columns else None
    rows = [torch.from_numpy(parts.rows[number]) for number in wanted]
    return {
        NAMES[number]: Interactions(
            user[at],
            item[at],
            users.n,
            items.n,
            None if value is None else value[at],
            None if time is None else time[at],
            features,
            0 if number == TRAIN else users.codes.size - users.n,
        )
        for number, at, features in zip(wanted, rows, _context(events, rows, log), strict=True)
    }


def _context(events: pl.DataFrame, rows: list[Tensor], log: RawLog) -> list[Features]:
    """The context features of each part, in the vocabularies of the first."""
    kinds = log.kinds.get("context", {})
    if not kinds:
        return [Features() for _ in rows]
    trained = np.zeros(events.height, dtype=bool)
    trained[rows[TRAIN].numpy()] = True
    whole = encode(events.select(list(kinds)), kinds, trained)
    return [take(whole, part) for part in rows]


def _of_side(log: RawLog, side: Literal["user", "item"], ids: Array, known: Array) -> Features:
    """The features of the given ids; missing where the source does not list one."""
    frame, kinds = {"user": log.users, "item": log.items}[side], log.kinds.get(side, {})
    if frame is None or not kinds:
        return Features()
    wanted = pl.DataFrame({side: pl.Series(ids, dtype=pl.String)})
    return encode(wanted.join(frame, on=side, how="left", maintain_order="left"), kinds, known)


def _manifest(
    source: Source,
    filters: Filters,
    split: Split,
    assignment: Assignment,
    parts: dict[str, Interactions],
    ids: dict[str, Array],
    side: dict[str, Features],
    graph: KnowledgeGraph | None,
) -> dict[str, Any]:
    n_users, n_items = parts["train"].n_users, parts["train"].n_items
    return {
        **origin(source, filters, split, assignment),
        "holds_out_items": split.holds_out_items,
        "parts": {name: hash_part(part) for name, part in parts.items()},
        "catalogue": hash_ids(ids["user"][:n_users], ids["item"][:n_items]),
        "cold_items": hash_ids(ids["item"][n_items:]),
        "cold_users": hash_ids(ids["user"][n_users:]),
        "features": {name: hash_features(features) for name, features in side.items() if features},
        **({} if graph is None else {"graph": hash_graph(graph)}),
    }


def _report(
    log: RawLog,
    steps: list[dict[str, Any]],
    cut_parts: Cut,
    parts: dict[str, Interactions],
    numbers: tuple[Numbers, Numbers],
    manifest: dict[str, Any],
) -> dict[str, Any]:
    train = parts["train"]
    users, items = (side.codes.size - side.n for side in numbers)
    return {
        **log_facts(log, manifest),
        "time_unit": log.time_unit if train.time is not None else None,
        "filters": steps,
        "users": train.n_users,
        "items": train.n_items,
        "rows": sum(len(part) for part in parts.values()),
        **popularity(train),
        "parts": {name: part_counts(part) for name, part in parts.items()},
        "lost": cut_parts.lost,
        "n_cold_items": items,
        "n_cold_users": users,
        "n_train_only": train_only(parts),
    }


def _titles(log: RawLog, items: Array) -> Array | None:
    """A name for each of ``items``, its id where the source has none."""
    if log.items is None or "title" not in log.items.columns:
        return None
    names = pl.DataFrame({"item": pl.Series(items, dtype=pl.String)})
    joined = names.join(log.items.select("item", "title"), on="item", how="left", maintain_order="left")
    return joined["title"].fill_null(joined["item"]).to_numpy()
