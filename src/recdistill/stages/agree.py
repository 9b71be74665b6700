"""Whether figures that were stored are the ones that were found anew."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from recdistill.reporting.verify import Check

TOLERANCE = 1e-9


def equal(what: str, stored: Any, found: Any) -> Check:
    """Values that must be the very same."""
    return Check(what, stored, found, stored == found)


def figures_agree(what: str, stored: Any, found: Any) -> Iterator[Check]:
    """One check for all that agrees in two nested containers, and one for each value that does not."""
    ours, theirs = dict(leaves(stored)), dict(leaves(json.loads(json.dumps(found))))
    wrong, largest = 0, 0.0
    for key in dict.fromkeys([*ours, *theirs]):
        a, b = ours.get(key, "nothing"), theirs.get(key, "nothing")
        difference = distance(a, b)
        if difference is None or difference > TOLERANCE:
            wrong += 1
            yield Check(f"{what} {key}", a, b, False, difference)
        else:
            largest = max(largest, difference)
    count = len(set(ours) | set(theirs)) - wrong
    yield Check(f"{what} {count} {'other ' if wrong else ''}figures", None, None, True, largest)


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of all that is in nested containers; an empty one is a value."""
    if isinstance(value, dict | list) and value:
        for name, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(child, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def distance(a: Any, b: Any) -> float | None:
    """Between two numbers; 0 for other values that are equal, and None where they are not."""
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (a, b)]
    if all(numbers) and math.isfinite(a) and math.isfinite(b):
        return float(abs(a - b))
    same = a == b or (all(numbers) and math.isnan(a) and math.isnan(b))
    return 0.0 if same and type(a) is type(b) else None


def units_agree(what: str, stored: Path, found: Path) -> Iterator[Check]:
    """The values of each user, or of each row, in two Parquet files, matched by their ids, which are the first column;
    the worst value is named."""
    theirs = pl.read_parquet(found)
    unit, *names = theirs.columns
    theirs = theirs.sort(unit)
    try:
        more = set(pl.read_parquet_schema(stored)) - set(theirs.columns)
        yield from (Check(f"{what} column {name}", "there", "not of a run", False) for name in sorted(more))
        ours = pl.read_parquet(stored, columns=theirs.columns).sort(unit)
        ours = ours.cast({unit: pl.String, **dict.fromkeys(names, pl.Float64())})
    except (OSError, pl.exceptions.PolarsError) as error:
        yield Check(f"{what} values by {unit}", str(error).splitlines()[0], f"{theirs.height} {unit}s", False)
        return
    if not ours[unit].equals(theirs[unit]):
        yield Check(f"{what} {unit}s", f"{ours.height} {unit}s", f"{theirs.height} {unit}s", False)
        return
    gaps = {name: (ours[name] - theirs[name]).abs().fill_nan(math.inf).fill_null(math.inf) for name in names}
    worst = max(names, key=lambda name: _largest(gaps[name]))
    largest, at = _largest(gaps[worst]), gaps[worst].arg_max()
    if at is None or largest <= TOLERANCE:
        yield Check(f"{what} {len(names)} x {theirs.height:,} values", None, None, True, largest)
    else:
        yield Check(f"{what} {worst} of {unit} {ours[unit][at]}", ours[worst][at], theirs[worst][at], False, largest)


def _largest(gaps: pl.Series) -> float:
    return float(gaps.max() or 0.0)  # type: ignore[arg-type]
