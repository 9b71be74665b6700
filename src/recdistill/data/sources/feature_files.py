"""The features that a config names, read, joined by id, and compared with the ids of the log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from recdistill.data.sources.base import Kind, RawLog, Side
from recdistill.data.sources.files import existing_file, printable
from recdistill.data.sources.folders import data_files
from recdistill.data.sources.rows import Columns
from recdistill.data.sources.side import read_side
from recdistill.data.sources.spec import Column, FeatureSpec, SideFeatures
from recdistill.data.sources.vectors import read_vectors

_SIDES: tuple[Literal["user", "item"], ...] = ("user", "item")


@dataclass
class _Found:
    """The features of one side: one frame for each file, all with the column of the id."""

    frames: dict[str, pl.DataFrame] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def joined(self, side: str, titles: pl.DataFrame | None) -> pl.DataFrame | None:
        whole = titles
        for frame in self.frames.values():
            whole = frame if whole is None else _joined(whole, frame, side)
        return whole


class FeatureFiles:
    """Features beside a log.

    Args:
        spec: as in the config; None for no features.
        folder: of the log. A relative path is looked for there, then in the working directory.
        columns: of the log, whose names the ids have where the spec does not say.
    """

    def __init__(self, spec: Any, folder: Path, columns: Columns):
        self.spec = FeatureSpec.of(spec)
        self.folder, self.columns = folder, columns

    @property
    def context(self) -> dict[str, Column]:
        """The columns of the log that are features."""
        return dict(self.spec.context.columns) if self.spec.context else {}

    def settings(self) -> dict[str, Any]:
        """The spec as plain values."""
        return self.spec.model_dump(exclude_none=True)

    def paths(self) -> list[Path]:
        """All files, checked to be there."""
        return [file for side in _SIDES for file in self._paths(side)]

    def add(self, log: RawLog) -> RawLog:
        """The log with its features, and an account of ids that have none and of features that no id has.

        Raises:
            InputError: for a file that can't be read, lacks a column, or holds what is not of its kind.
        """
        sides: dict[str, pl.DataFrame | None] = {"user": log.users, "item": log.items}
        kinds: dict[Side, dict[str, Kind]] = {}
        facts, warnings = dict(log.facts), list(log.warnings)
        for side in _SIDES:
            wanted: SideFeatures | None = getattr(self.spec, side)
            if wanted is None:
                continue
            found = self._read(side, wanted)
            kinds[side] = {name: column.kind for name, column in wanted.columns.items()}
            ids = log.events[side].unique()
            for name, frame in found.frames.items():
                said, warned = _coverage(side, name, ids, frame[side])
                facts[f"features in {name}"] = said
                warnings += warned
            warnings += found.warnings
            sides[side] = found.joined(side, sides[side])
        if self.context:
            kinds["context"] = {name: column.kind for name, column in self.context.items()}
        return RawLog(
            log.events,
            sides["item"],
            log.dropped,
            log.note,
            log.time_unit,
            sides["user"],
            {**log.kinds, **kinds},
            facts,
            warnings,
        )

    def _read(self, side: Literal["user", "item"], wanted: SideFeatures) -> _Found:
        found, key = _Found(), f"data.features.{side}"
        inside = wanted.in_file
        if inside:
            file = self._path(wanted.file or "")
            found.frames[printable(file.name)] = read_side(
                file,
                side,
                getattr(self.columns, side) if wanted.id is None else str(wanted.id),
                {name: column.kind for name, column in inside.items()},
                rename={name: column.name_in_file(name) for name, column in inside.items()},
                separator={name: column.separator for name, column in inside.items()},
                key=f"{key}.file",
                form=wanted.form,
                warnings=found.warnings,
            )
        for name, column in wanted.vectors.items():
            at = f"{key}.columns.{name}"
            file = self._path(column.file or "")
            ids = self._path(column.ids) if column.ids else None
            tensor = None if column.column is None else str(column.column)
            found.frames[f"{name} ({printable(file.name)})"] = read_vectors(side, name, file, tensor, ids, at)
        return found

    def _paths(self, side: Literal["user", "item"]) -> Iterator[Path]:
        wanted: SideFeatures | None = getattr(self.spec, side)
        if wanted is None:
            return
        key = f"data.features.{side}"
        if wanted.in_file:
            yield from data_files(self._path(wanted.file or ""), f"{key}.file")
        for name, column in wanted.vectors.items():
            for end, file in (("file", column.file), ("ids", column.ids)):
                if file:
                    yield existing_file(self._path(file), f"{key}.columns.{name}.{end}")

    def _path(self, name: str) -> Path:
        beside, here = self.folder / Path(name).expanduser(), Path(name).expanduser()
        return here if here.exists() and not beside.exists() else beside


def _joined(left: pl.DataFrame, right: pl.DataFrame, side: str) -> pl.DataFrame:
    return left.join(right, on=side, how="full", coalesce=True, maintain_order="left_right")


def _coverage(side: str, name: str, log: pl.Series, listed: pl.Series) -> tuple[str, list[str]]:
    """How many ids a file describes, and a warning where it lacks some of the log's."""
    missing = len(log) - int(log.is_in(listed.implode()).sum())
    outside = len(listed) - (len(log) - missing)
    said = f"{len(listed):,} {side}s" + (f", {outside:,} of them not in the log" if outside else "")
    warned = f"{name}: features of {missing:,} of {len(log):,} {side}s are missing"
    return said, [warned] if missing else []
