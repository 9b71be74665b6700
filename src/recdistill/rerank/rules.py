"""What must be shown, and what must not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recdistill.errors import InputError
from recdistill.evaluation.topk import PAD
from recdistill.rerank.base import Lists, Reranker, Shelf, in_order


class Rules(Reranker):
    """Items that are never shown, and items that come first, in the order of their list, unless the user has had them.
    Who is on both is not shown.

    Args:
        deny: ids of items, or a file with one a line.
        pin: the same.
        candidates: how many of the best items are chosen from; what is denied takes no place of others as long as there
            are more candidates than places.
    """

    def __init__(
        self, deny: str | Sequence[str | int] | None = None, pin: str | Sequence[str | int] | None = None,
        candidates: int = 100,
    ):  # fmt: skip
        super().__init__()
        self.deny, self.pin, self.candidates = deny, pin, candidates

    def bind(self, shelf: Shelf, where: str) -> None:
        self.denied = torch.zeros(shelf.n_items, dtype=torch.bool)
        denied, pinned = (rows_of(given, shelf.ids, f"{where}.{name}") for name, given in
                          (("deny", self.deny), ("pin", self.pin)))  # fmt: skip
        self.denied[denied] = True
        self.rank = torch.full((shelf.n_items,), shelf.n_items)
        self.rank[pinned] = torch.arange(len(pinned))
        self.always = pinned[~self.denied[pinned]]

    def __call__(self, lists: Lists, k: int) -> Lists:  # noqa: ARG002
        gone = (lists.items == PAD) | self.denied[lists.items.clamp(min=0)]
        items = lists.items.masked_fill(gone, PAD)
        rank = self.rank[items.clamp(min=0)].masked_fill(gone, len(self.rank))
        scores = lists.scores.masked_fill(gone, -torch.inf).sort(dim=1, descending=True).values
        return in_order(Lists(items, scores), rank.argsort(dim=1, stable=True))


def rows_of(given: str | Sequence[str | int] | None, ids: np.ndarray[Any, Any], where: str) -> Tensor:
    """The rows of some items, in their order.

    Raises:
        InputError: there is no such file, or no such item.
    """
    if given is None:
        return torch.zeros(0, dtype=torch.int64)
    if isinstance(given, str):
        if not Path(given).is_file():
            raise InputError(f"no such file: {given}", where=where, fix="a file with one item a line, or a list")
        given = Path(given).read_text(encoding="utf-8").splitlines()
    names = list(dict.fromkeys(str(name) for name in given if str(name)))
    known = {str(name): row for row, name in enumerate(ids)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(
            f"{len(unknown)} of the {len(names)} items are not in the catalogue: " + ", ".join(map(repr, unknown[:5])),
            where=where, fix="leave them out",
        )  # fmt: skip
    return torch.tensor([known[name] for name in names], dtype=torch.int64)
