"""The split that comes with the data."""

from __future__ import annotations

import numpy as np
import polars as pl

from recdistill.data.splits.base import Assignment, Split
from recdistill.errors import InputError


class GivenSplit(Split):
    """The split that the source brings. Whether it leaks time is for its author to say."""

    def assign(self, events: pl.DataFrame) -> Assignment:
        if "part" not in events.columns:
            raise InputError(
                "the source brings no split",
                where="data.split",
                fix="data/split=random, or data/split=global_temporal where there are times",
            )
        return Assignment(events["part"].to_numpy().astype(np.int8))
