"""A log and the events that came after it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from recdistill.data.sources.base import POSITION, RawLog, Source, hash_arguments, hash_files
from recdistill.errors import InputError

EVENTS = "events"
LAST_SECOND = 4_102_444_800  # of the year 2099
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9, "step": 1}


class Appended(Source):
    """The events of another source and those of a file: JSON lines, Parquet or CSV with ``user``, ``item`` and ``time``
    in seconds since 1970 (of a log whose times are steps, a step). Where the log has
    values, a new event without one has the log's largest: it happened. An event that is there already counts once.

    Args:
        source: of the log.
        events: the file.
    """

    def __init__(self, source: Source, events: str):
        self.source, self.events = source, Path(events)

    def fingerprint(self) -> str:
        return hash_arguments(source=self.source.fingerprint(), events=hash_files(self.events))

    def where(self) -> str:
        return f"{self.source.where()} and {self.events}"

    def read(self) -> RawLog:
        log = self.source.read()
        if not log.has_pairs or "time" not in log.events.columns or log.time_unit == POSITION:
            raise InputError("new events can't be put behind a log without times", where=self.source.where())
        new = read_events(self.events, log.time_unit)
        if "value" in log.events.columns:
            given = pl.col("value").cast(pl.Float64) if "value" in new.columns else pl.lit(None, dtype=pl.Float64)
            new = new.with_columns(given.fill_null(log.events["value"].max()).alias("value"))
        new = new.select(name for name in ("user", "item", "value", "time") if name in log.events.columns)
        new = new.unique(maintain_order=True).join(log.events, on=["user", "item", "time"], how="anti")
        old = log.events.drop("part") if "part" in log.events.columns else log.events
        events = pl.concat([old, new.select(name for name in new.columns if name in old.columns)], how="diagonal")
        return replace(log, events=events, facts={**log.facts, "new events": len(new)})


def read_events(file: Path, time_unit: str = "s") -> pl.DataFrame:
    """``user``, ``item`` (String) and ``time`` (Int64, in ``time_unit``) of a file of events, and any other columns.

    Raises:
        InputError: it can't be read, a column or an id lacks, or a time is no number.
    """
    if not file.is_file():
        raise InputError(f"there are no events in {file}", where=EVENTS, fix="give a .jsonl, .parquet or .csv file")
    readers: dict[str, Any] = {
        ".parquet": pl.read_parquet, ".jsonl": pl.read_ndjson, ".ndjson": pl.read_ndjson, ".csv": pl.read_csv,
    }  # fmt: skip
    if file.suffix.lower() not in readers:
        raise InputError(
            f"events are read from {', '.join(readers)}, not {file.suffix or 'a file without an ending'}",
            where=str(file), fix='JSON lines: {"user": "u1", "item": "i1", "time": 1700000000}',
        )  # fmt: skip
    if not file.stat().st_size:
        raise InputError("there are no events in an empty file", where=str(file))
    options = {"infer_schema": False} if file.suffix.lower() == ".csv" else {}
    try:
        found: pl.DataFrame = readers[file.suffix.lower()](file, **options)
        found = found.with_columns(pl.col(name).cast(pl.String) for name in ("user", "item") if name in found.columns)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError("the events can't be read", where=str(file), why=str(error).splitlines()[0]) from error
    if lacking := [name for name in ("user", "item", "time") if name not in found.columns]:
        raise InputError(f"the events have no {' and no '.join(lacking)}", where=str(file),
                         why=f"their columns are: {', '.join(found.columns[:20])}")  # fmt: skip
    seconds = pl.col("time").cast(pl.Float64, strict=False)
    if time_unit != "step" and (late := found.filter(seconds > LAST_SECOND)).height:
        raise InputError(f"the time {late['time'][0]} of an event is no second since 1970", where=str(file),
                         why="it would be after the year 2100", fix="divide milliseconds by 1,000")  # fmt: skip
    found = found.with_columns((seconds * PER_SECOND[time_unit]).cast(pl.Int64, strict=False).alias("time"))
    if bad := found.select("user", "item", "time").null_count().sum_horizontal()[0]:
        raise InputError(f"{bad} ids or times of the events are missing, or no seconds since 1970", where=str(file))
    return found.sort("time", maintain_order=True)
