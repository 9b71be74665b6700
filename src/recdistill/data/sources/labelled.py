"""What tables of labelled examples share: a file a part, labels of 0 and 1, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from recdistill.data.sources.base import PARTS, RESERVED, Kind, RawLog
from recdistill.data.sources.files import existing_file, names_in, nearest, printable
from recdistill.data.sources.folders import offer_below
from recdistill.errors import InputError

WHOLE = ""  # the part of a file that is not split yet
_LABELS = {0.0, 1.0, -1.0}


def part_files(path: Path, names: Mapping[str, str | None]) -> dict[str, Path]:
    """The file of each part in a folder; a single file under :data:`WHOLE` where ``path`` is one.

    Args:
        names: file name of each of ``train``, ``valid`` and ``test``, None for no such part.

    Raises:
        InputError: for a file that is not there, or a folder without names.
    """
    if not path.is_dir():
        return {WHOLE: existing_file(path, or_folder=True)}
    found = {part: path / name for part in PARTS if (name := names.get(part)) is not None}
    if "train" not in found:
        raise InputError(
            f"'{path}' is a folder, and its training file is not named",
            where="data.train",
            why=f"in it: {names_in(path)}",
            fix=f"data.train=FILE data.valid=FILE data.test=FILE data/split=given, or data.path={path}/FILE",
        )
    offer_below(path, [name for name in names.values() if name])
    return {part: existing_file(file, f"data.{part}") for part, file in found.items()}


def stack(frames: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The frames of the parts on top of each other, with ``part`` where they are parts."""
    return pl.concat(
        frame if part == WHOLE else frame.with_columns(pl.lit(PARTS.index(part), pl.Int8).alias("part"))
        for part, frame in frames.items()
    )


def binary(labels: pl.Series, rows: pl.Series, file: Path, name: str, fix: str = "repair it") -> pl.Series:
    """Labels as Float64: 1 for positive, 0 for negative, which may be written 0 or -1.

    Args:
        labels: String.
        rows: number of each row, as the user counts.
        name: the file's name of the column, for messages.
        fix: what to do about a bad one.

    Raises:
        InputError: for another label, or a file that holds -1, 0 and 1.
    """
    numbers = labels.str.strip_chars().cast(pl.Float64, strict=False)
    bad = ~numbers.is_in(list(_LABELS)).fill_null(False)
    why = "a label is 1 for positive, 0 or -1 for negative"
    if not bad.any() and numbers.n_unique() == len(_LABELS):
        bad, why = numbers == -1, "0 and 1 occur too, and one of the three must mean something else"
    if bad.any():
        at = bad.arg_max() or 0
        more = int(bad.sum()) - 1
        raise InputError(
            f"label {labels[at] or ''!r} in column {name!r}" + (f" (and {more} more rows)" if more else ""),
            where=f"{file}:{rows[at]}:{printable(name)}",
            why=why,
            fix=fix,
        )
    return (numbers > 0).cast(pl.Float64)


def _of_kinds(group: str | None, kinds: Mapping[str, Kind]) -> str | None:
    """``group``, checked to be a categorical feature."""
    if group is None or kinds.get(group) == "categorical":
        return group
    categorical = [name for name, kind in kinds.items() if kind == "categorical"]
    close = nearest(group, categorical)
    raise InputError(
        f"'{printable(group)}' is no categorical feature, and whose row it is has to be one",
        where="data.group",
        why=f"these are: {', '.join(categorical[:20])}",
        fix=f"data.group={close[0] if close else 'null'}",
    )


def table(
    events: pl.DataFrame,
    kinds: dict[str, Kind],
    facts: dict[str, int | str],
    *,
    dropped: dict[str, int] | None = None,
    group: str | None = None,
    note: str = "",
    warnings: list[str] | None = None,
    time_unit: str = "s",
) -> RawLog:
    """The log of a table of examples, with its positives among the facts.

    Raises:
        InputError: for a feature that has the name of one of the log's own columns.
    """
    for name in kinds:
        if name in RESERVED:
            raise InputError(
                f"a feature can't be called '{name}'",
                where="data",
                why=f"these names are the log's own: {', '.join(RESERVED)}",
                fix="give it another name",
            )
    positive = int(events["value"].sum())
    said = f"{positive:,} of {events.height:,} rows ({positive / events.height:.1%})"
    return RawLog(
        events,
        dropped=dropped or {},
        note=note,
        time_unit=time_unit,
        kinds={"context": kinds},
        group=_of_kinds(group, kinds),
        facts={"positive": said, **facts},
        warnings=warnings or [],
    )
