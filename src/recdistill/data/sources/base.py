"""What every source of interactions gives: the raw log, and a fingerprint known without parsing it."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

TRAIN, VALID, TEST = 0, 1, 2
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class RawLog:
    """Events as they were read, with the ids of the user's own world.

    Attributes:
        events: columns ``user`` and ``item`` (String, never missing), optionally ``value`` (Float64, finite),
            ``time`` (Int64, in ``time_unit``) and ``part`` (Int8: 0 train, 1 valid, 2 test, where the source
            gives the split).
        titles: columns ``item`` and ``title`` (String), optionally ``genres``; one row an item, or None.
        dropped: rows left out, by reason.
        note: what the reader decided on its own, one sentence each.
        time_unit: ``s``, ``ms``, ``us``, ``ns``, or ``step`` for integers that are no clock time.
    """

    events: pl.DataFrame
    titles: pl.DataFrame | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    note: str = ""
    time_unit: str = "s"


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
