"""What every source of interactions gives: the raw log, and a fingerprint known without parsing it."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

TRAIN, VALID, TEST, KNOWN = 0, 1, 2, 3
PARTS = ("train", "valid", "test")

Kind = Literal["categorical", "numeric", "multi", "text", "vector"]
"""What a feature is. Its column is String, Float64, List(String), String and Array(Float32, d), in this order; null
where it is missing."""
Side = Literal["user", "item", "context"]
"""Whose feature it is: the user's, the item's, or the event's own."""
POSITION = "position"
"""The time unit of a log whose times are places in the sequence of one user: they don't compare between users."""
RESERVED = ("user", "item", "value", "time", "part", "title")


@dataclass(frozen=True)
class RawGraph:
    """A knowledge graph as it was read, with its own ids.

    Attributes:
        triples: ``head``, ``relation``, ``tail`` (String, never missing), one row a triple.
        links: ``item`` and ``entity`` (String, never missing): which entities the items are.
    """

    triples: pl.DataFrame
    links: pl.DataFrame


@dataclass(frozen=True)
class RawLog:
    """Events as they were read, with the ids of the user's own world.

    A log of interactions has ``user`` and ``item``; a table of labelled examples, as for click prediction, has
    neither: its label is ``value`` and all else are context features.

    Attributes:
        events: ``user`` and ``item`` (String, never missing) or neither; optionally ``value`` (Float64, finite),
            ``time`` (Int64, in ``time_unit``), ``part`` (Int8, where the source gives the split: 0 train, 1 valid,
            2 test, 3 known at evaluation and never trained on), and one column a context feature, of the dtype of
            its :data:`Kind`.
        items: ``item`` (String), optionally ``title`` (String), and one column a feature; one row an item, or
            None. It may list items without events.
        dropped: rows left out, by reason.
        note: what the reader decided on its own, one sentence each.
        time_unit: ``s``, ``ms``, ``us``, ``ns``, or ``step`` for integers that are no clock time,
            or :data:`POSITION` where they only order the events of one user.
        users: ``user`` (String) and one column a feature; one row a user, or None.
        kinds: the kind of each feature, by side and name. Names are none of :data:`RESERVED`.
        facts: what the source counted in its files beyond the events, such as ``{"tags": 46391}``; shown as it is.
        warnings: oddities of the files that a user should know, one sentence each.
        group: of a table of examples, the categorical feature that tells whose row it is, for metrics by user.
        graph: what is known of items as a knowledge graph, where the config asks for it.
    """

    events: pl.DataFrame
    items: pl.DataFrame | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    note: str = ""
    time_unit: str = "s"
    users: pl.DataFrame | None = None
    kinds: dict[Side, dict[str, Kind]] = field(default_factory=dict)
    facts: dict[str, int | str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    group: str | None = None
    graph: RawGraph | None = None

    @property
    def has_pairs(self) -> bool:
        """Whether these are interactions of users with items, and not a table of examples."""
        return "user" in self.events.columns


class Source(ABC):
    """Where interactions come from. A source is one file here and one YAML under ``conf/data``."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of what :meth:`read` depends on: the content of the files, and the arguments."""

    @abstractmethod
    def read(self) -> RawLog:
        """The log. Raises InputError, with file, row and column, for what can't be read."""

    @abstractmethod
    def where(self) -> str:
        """The place, for messages and reports: a path, or the name of a generator."""


def hash_arguments(**arguments: Any) -> str:
    """Hex digest of plain values by name."""
    text = json.dumps(arguments, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def hash_files(*paths: Path) -> str:
    """Hex digest of the contents of files, streamed; names and dates don't count."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        with path.open("rb") as stream:
            part = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16))
        digest.update(part.digest())
    return digest.hexdigest()
