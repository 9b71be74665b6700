"""Vectors of codes: one table for several vocabularies, of which large ones can share rows."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from recdistill.data.csr import Csr, smallest_integer
from recdistill.data.features import UNKNOWN
from recdistill.models.tables.base import Table, TableChoice, table_of


class CodeTable(nn.Module):
    """A vector for each code of some vocabularies, all in one table, so that the columns of a batch are one look-up.

    The vector of code 0, unknown, starts at zero, and stays there where no training row has it: a value that training
    lacks adds nothing.

    A vocabulary of more than ``max_rows`` codes gets so many rows. Its most frequent codes have rows of their own, the
    others share a tenth of the rows. Which code has which row is stored in any case, so these are dealt out in turn,
    by frequency: a hash would load the rows less evenly. It is the row within the vocabulary, a number of one or two
    bytes where ``max_rows`` is in the thousands.

    Args:
        sizes: name of each vocabulary to its number of codes; at least one.
        width: length of the vectors in the table.
        dim: length of the vectors that it gives: if this is another, through a linear map.
        max_rows: of a vocabulary, at least 2; None for a row per code.
        init_std: standard deviation of the initial table.
        table: how the vectors are stored, see :mod:`recdistill.models.tables.base`; None for a row of numbers each. Of
            a compressed table code 0 is all zeros, and stays so.
    """

    first: Tensor
    first_row: Tensor
    remap: Tensor | None

    def __init__(
        self,
        sizes: Mapping[str, int],
        width: int,
        dim: int,
        max_rows: int | None = None,
        init_std: float = 0.01,
        table: TableChoice = None,
    ):
        super().__init__()
        self.sizes, self.width = dict(sizes), width
        self.rows = {name: min(size, max_rows or size) for name, size in sizes.items()}
        self.table = table_of(table, sum(self.rows.values()), width, init_std)
        if isinstance(self.table, nn.Embedding):
            nn.init.normal_(self.table.weight, std=init_std)
            with torch.no_grad():
                self.table.weight[torch.tensor(_starts(self.rows)) + UNKNOWN] = 0.0
        self.map = nn.Linear(width, dim, bias=False) if width != dim else None
        self.place, self.row_place = (dict(zip(sizes, _starts(each), strict=True)) for each in (sizes, self.rows))
        self.register_buffer("first", torch.tensor(_starts(sizes)), persistent=False)
        self.register_buffer("first_row", torch.tensor(_starts(self.rows)), persistent=False)
        small = smallest_integer(max(self.rows.values()) - 1)
        self.register_buffer("remap", torch.zeros(sum(sizes.values()), dtype=small) if self.sharing else None)
        self.share_rows({})

    @property
    def sharing(self) -> list[str]:
        """The vocabularies whose codes share rows."""
        return [name for name, size in self.sizes.items() if size > self.rows[name]]

    def share_rows(self, counts: Mapping[str, Tensor]) -> None:
        """Say which code has which row.

        Args:
            counts: name to the number of training rows with each code, int64 ``[V]``; all are equal where it is left
                out.
        """
        if self.remap is None:
            return
        parts = []
        for name, size in self.sizes.items():
            if name in self.sharing:
                count = counts.get(name, torch.zeros(size, dtype=torch.int64))
                parts.append(dealt_rows(count.to(self.remap.device), self.rows[name]))
            else:
                parts.append(torch.arange(size, device=self.remap.device))
        self.remap.copy_(torch.cat(parts))

    def own_rows(self, name: str) -> Tensor | None:
        """The rows of all codes but 0 of one vocabulary, ``[V - 1, width]``, a view; None where codes share rows."""
        if name in self.sharing or isinstance(self.table, Table):
            return None
        start = self.row_place[name]
        rows: Tensor = self.table.weight[start + 1 : start + self.sizes[name]]
        return rows

    def rows_of(self, name: str, codes: Tensor) -> Tensor:
        """The rows int64 ``[...]`` of codes int64 ``[...]`` of one vocabulary."""
        return self._row(codes, self.place[name], self.row_place[name])

    def columns(self, codes: Tensor) -> Tensor:
        """Vectors ``[B, n, dim]`` of codes int64 ``[B, n]`` of the first n vocabularies."""
        n = codes.shape[1]
        return self._mapped(self._looked_up(codes, self._row(codes, self.first[:n], self.first_row[:n])))

    def vectors(self, name: str, codes: Tensor) -> Tensor:
        """Vectors ``[..., dim]`` of codes int64 ``[...]`` of one vocabulary."""
        return self._mapped(self._looked_up(codes, self.rows_of(name, codes)))

    def means(self, name: str, sets: Csr) -> Tensor:
        """Mean vectors ``[B, dim]`` of sets of codes of one vocabulary, zero for an empty one."""
        row = self.rows_of(name, sets.indices)
        weight = self.table.weight
        if isinstance(self.table, Table):  # a bag of the vectors that are asked for, rather than of all
            weight, row = self._looked_up(sets.indices, row), torch.arange(row.shape[0], device=row.device)
        return self._mapped(embedding_bag(row, weight, sets.indptr[:-1], mode="mean"))

    def _looked_up(self, code: Tensor, row: Tensor) -> Tensor:
        vectors: Tensor = self.table(row)
        return vectors * (code != UNKNOWN).unsqueeze(-1) if isinstance(self.table, Table) else vectors

    def _row(self, code: Tensor, place: Tensor | int, row_place: Tensor | int) -> Tensor:
        code = code + place
        return code if self.remap is None else self.remap[code].long() + row_place

    def _mapped(self, vectors: Tensor) -> Tensor:
        return vectors if self.map is None else self.map(vectors)


def dealt_rows(count: Tensor, n_rows: int) -> Tensor:
    """The row in ``[0, n_rows)`` of each code, int64 ``[V]``; code 0 has row 0 to itself.

    Args:
        count: how frequent each code is, int64 ``[V]``; among equals the lower code comes first.
        n_rows: at least 2; a tenth of them, at least one, is shared.
    """
    shared = max(1, n_rows // 10)
    own = n_rows - shared
    count = count.clone()
    count[UNKNOWN] = torch.iinfo(torch.int64).max
    rank = torch.arange(len(count), device=count.device)
    row = torch.empty_like(rank)
    row[count.argsort(descending=True, stable=True)] = torch.where(rank < own, rank, own + (rank - own) % shared)
    return row


@torch.no_grad()
def take_field(own: CodeTable, other: CodeTable, name: str) -> Tensor | None:
    """Copies what belongs to one vocabulary from a table that has it too, of as many rows and columns; of one that is
    compressed gives the vectors ``[rows, width]`` that it stands for instead."""
    if own.remap is not None and other.remap is not None:
        own.remap[_slice(own.place[name], own.sizes[name])] = other.remap[
            _slice(other.place[name], own.sizes[name])
        ].to(own.remap.dtype)
    if own.map is not None and other.map is not None:
        own.map.weight.copy_(other.map.weight)
    rows = other.table.weight[_slice(other.row_place[name], other.rows[name])].clone()
    if isinstance(own.table, Table):
        return rows
    own.table.weight[_slice(own.row_place[name], own.rows[name])] = rows
    return None


def _slice(start: int, length: int) -> slice:
    return slice(start, start + length)


def _starts(sizes: Mapping[str, int]) -> list[int]:
    """Where each vocabulary begins when they stand one behind the other."""
    return list(accumulate(sizes.values(), initial=0))[:-1]
