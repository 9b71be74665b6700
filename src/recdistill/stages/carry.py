"""A model of earlier data as the beginning of one of later data: users and items that both have keep their vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

SPARE = 2  # rows behind a table's, such as that which fills histories up


@dataclass(frozen=True)
class Rows:
    """Where the users or items of later data stand in earlier ones.

    Attributes:
        before, after: how many there were and are.
        at: int64 ``[after]``, the row before; -1 for who is new.
    """

    before: int
    after: int
    at: Tensor

    @classmethod
    def of(cls, before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> Rows:
        known = pl.DataFrame({"id": pl.Series(before.astype(str)), "at": np.arange(len(before))})
        asked = pl.DataFrame({"id": pl.Series(after.astype(str))})
        at = asked.join(known, on="id", how="left", maintain_order="left")["at"].fill_null(-1)
        return cls(len(before), len(after), torch.from_numpy(at.to_numpy().copy()))

    @property
    def known(self) -> Tensor:
        """bool ``[after]``."""
        return self.at >= 0

    def fits(self, old: Tensor, new: Tensor) -> bool:
        """Whether these are tables with a row for each, and as many spare ones."""
        spare = len(old) - self.before if old.dim() and new.dim() else -1
        return 0 <= spare <= SPARE and len(new) - self.after == spare and old.shape[1:] == new.shape[1:]


def carried(old: dict[str, Tensor], new: dict[str, Tensor], users: Rows, items: Rows) -> dict[str, Tensor]:
    """The weights of a new model with those of the old one in their places. What is new, and what has no counterpart,
    begins as the new model does."""
    return {name: _carried(name, old.get(name), tensor, users, items) for name, tensor in new.items()}


def _carried(name: str, old: Tensor | None, new: Tensor, users: Rows, items: Rows) -> Tensor:
    if old is None:
        return new
    sides = [side for side in (users, items) if side.fits(old, new)]
    if len(sides) == 2:
        sides = [users if "user" in name else items]
    named = any(word in name for word in ("user", "item"))
    if not sides or (old.shape == new.shape and not named):
        return old.clone() if old.shape == new.shape else new
    rows, found = sides[0], new.clone()
    found[: rows.after][rows.known] = old[rows.at[rows.known]]
    found[rows.after :] = old[rows.before :]
    return found
