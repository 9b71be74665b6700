"""Ids as small integers, and an order of rows that their content decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

Codes = np.ndarray[Any, np.dtype[np.int64]]


def labelled(ids: pl.Series) -> pl.Series:
    """Ids as an ``Enum``: text to look at, small integers in the order of the ids to work with."""
    if isinstance(ids.dtype, pl.Enum):
        return ids
    ids = ids.cast(pl.String)
    return ids.cast(pl.Enum(ids.unique().sort()))


def codes(ids: pl.Series) -> Codes:
    """Dense integers of ids, int64 ``[N]``, numbered in the order of the ids as text."""
    return labelled(ids).to_physical().to_numpy().astype(np.int64)


def content_order(events: pl.DataFrame, first: tuple[str, ...]) -> list[str]:
    """Columns to sort by, so that neither the order of rows nor that of columns has a say: those named, then others."""
    named = [name for name in first if name in events.columns]
    return named + sorted(set(events.columns) - set(named))
