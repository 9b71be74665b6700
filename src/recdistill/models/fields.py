"""Vectors of the fields of a table, which are the columns of its rows, and what models of fields have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn

from recdistill.config.suggest import listing, nearest
from recdistill.data.features import Features, Sizes
from recdistill.data.interactions import Examples, Schema
from recdistill.data.rows import Rows, columns
from recdistill.errors import InputError
from recdistill.models.base import TableModel
from recdistill.models.blocks import Width
from recdistill.models.code_table import CodeTable
from recdistill.models.encoders import key
from recdistill.models.pieces import Cut, Pieces, places
from recdistill.models.tables.base import Table, TableChoice, count_rows

Dims = Mapping[str, Width]
MaxRows = Annotated[int, Ge(2)]
LARGE = 256
"""Codes from which on a compressed table pays: those of smaller fields weigh little, and sharing costs them most."""


class FieldEmbedding(nn.Module):
    """A vector for each field of a row: of a categorical field that of its code, of a set the mean of those of its
    members, zero for an empty one, of a number its value times a vector, of a vector its linear map.

    Source: Song et al., AutoInt, CIKM 2019, section 4.3, for all kinds but the last.

    Args:
        sizes: of the fields, see :func:`recdistill.data.features.sizes_of`.
        dim: length of the vectors.
        dims: lengths of the vectors of single categorical or set-valued fields, which are then mapped to ``dim``.
        max_rows: see :class:`~recdistill.models.code_table.CodeTable`.
        init_std: standard deviation of the initial weights, those of the maps of ``dims`` aside: vectors of a code and
            of a unit vector start at one scale.
        table: how the vectors of each field of more than ``LARGE`` codes are stored, see
            :mod:`recdistill.models.tables.base`; None for a row of numbers each, in one table for all fields.

    Attributes:
        names: of the fields, in the order of their vectors.

    Raises:
        InputError: there are no fields, or ``dims`` names one that is not there.
    """

    def __init__(
        self,
        sizes: Sizes,
        dim: int,
        dims: Dims | None = None,
        max_rows: int | None = None,
        init_std: float = 0.01,
        table: TableChoice = None,
    ):
        super().__init__()
        coded = {**sizes.get("categorical", {}), **sizes.get("multi", {})}
        _check(sizes, coded, dims or {})
        dims = {name: width for name, width in (dims or {}).items() if width != dim}
        single, self.sets, numbers, self.vectors = (
            columns(sizes, kind) for kind in ("categorical", "multi", "numeric", "vector")
        )
        large = {name for name, size in coded.items() if table and size > LARGE}
        apart = {name: dims.get(name, dim) for name in coded if name in dims or name in large}
        # The table of all fields of length ``dim`` comes first, with the columns in the order of the rows.
        self.common = [place for place, name in enumerate(single) if name not in apart]
        self.special = [place for place, name in enumerate(single) if name in apart]
        self.looked_up = [single[place] for place in (*self.common, *self.special)]
        # How vectors are stored does not change their order.
        self.singles = sorted(single, key=lambda name: name in dims)
        self.order = [self.looked_up.index(name) for name in self.singles] if self.singles != self.looked_up else []
        together = [name for name in (*self.looked_up, *self.sets) if name not in apart]
        groups = [(together, dim)] if together else []
        groups += [([name], apart[name]) for name in (*self.looked_up, *self.sets) if name in apart]
        self.tables = nn.ModuleList(
            CodeTable({name: coded[name] for name in names}, width, dim, max_rows, init_std,
                      table if names[0] in large else None)
            for names, width in groups
        )  # fmt: skip
        self.table_of = {name: number for number, (names, _) in enumerate(groups) for name in names}
        self.number_vectors = nn.Parameter(torch.empty(len(numbers), dim)) if numbers else None
        self.maps = nn.ModuleDict(
            {key("vector", name): nn.Linear(sizes["vector"][name], dim, bias=False) for name in self.vectors}
        )
        for weight in (*self.maps.parameters(), *([] if self.number_vectors is None else [self.number_vectors])):
            nn.init.normal_(weight, std=init_std)
        self.names = [*self.singles, *self.sets, *numbers, *self.vectors]
        self.dim = dim

    @property
    def width(self) -> int:
        """Length of the vectors of a row, one behind the other."""
        return len(self.names) * self.dim

    def forward(self, rows: Rows) -> Tensor:
        """``[B, F, dim]``."""
        parts = []
        if self.common:
            codes = rows.categorical if not self.special else rows.categorical[:, self.common]
            parts.append(self.table(self.looked_up[0]).columns(codes))
        for place, name in zip(self.special, self.looked_up[len(self.common) :], strict=True):
            parts.append(self.table(name).columns(rows.categorical[:, place : place + 1]))
        if self.order:
            parts = [torch.cat(parts, 1)[:, self.order]]
        parts += [self.table(name).means(name, rows.multi[name]).unsqueeze(1) for name in self.sets]
        if self.number_vectors is not None:
            parts.append(rows.numeric.unsqueeze(-1) * self.number_vectors)
        parts += [self.maps[key("vector", name)](rows.vector[name]).unsqueeze(1) for name in self.vectors]
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]

    def table(self, name: str) -> CodeTable:
        """The table with the vectors of a categorical or set-valued field."""
        table = self.tables[self.table_of[name]]
        assert isinstance(table, CodeTable)
        return table

    def dims(self, name: str, readers: Iterable[tuple[str, int]] = (), more: Iterable[Cut] = ()) -> list[Pieces]:
        """The numbers of the vectors.

        Args:
            name: of this module.
            readers: names of weights that read all vectors one behind the other, and how many vectors these are.
            more: other places of the same numbers.
        """
        found = places(self.dim)
        cuts = [Cut(f"{name}.{of}", dim, found, gate=True) for of, dim in self._makers()]
        cuts += [Cut(reader, 1, places(self.dim, times=count)) for reader, count in readers]
        return [Pieces("dims", self.dim, (*cuts, *more))]

    def _makers(self) -> list[tuple[str, int]]:
        """The weights that make the vectors, and along which of their dimensions."""
        mapped = [(f"tables.{n}", table.map is not None) for n, table in enumerate(self.tables)]
        found = [(f"{at}.map.weight", 0) if is_mapped else (f"{at}.table.weight", 1) for at, is_mapped in mapped]
        found += [("number_vectors", 1)] if self.number_vectors is not None else []
        return found + [(f"maps.{name}.weight", 0) for name in self.maps]

    def count(self, train: Features) -> None:
        """Choose which codes share rows, or have long vectors, by their frequency in the training rows."""
        for table in self.tables:
            assert isinstance(table, CodeTable)
            compressed = isinstance(table.table, Table)
            codes = {
                name: train.multi[name].indices if name in self.sets else train.categorical[name]
                for name in (table.sizes if compressed else table.sharing)
            }
            table.share_rows({n: torch.bincount(codes[n], minlength=table.sizes[n]) for n in table.sharing})
            if compressed:
                count_rows(table.table, torch.cat([table.rows_of(name, of) for name, of in codes.items()]))


class LinearTerm(nn.Module):
    """First-order term b + Σ w_f: a weight for each code, the mean weight of a set, w · x of numbers and vectors. All
    start at zero.

    Args:
        sizes: of the fields.
        max_rows: most weights of a field, see :class:`~recdistill.models.code_table.CodeTable`.
    """

    def __init__(self, sizes: Sizes, max_rows: int | None = None):
        super().__init__()
        self.weights = FieldEmbedding(sizes, dim=1, max_rows=max_rows, init_std=0.0)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, rows: Rows) -> Tensor:
        """``[B]``."""
        term: Tensor = self.weights(rows).sum((1, 2)) + self.bias
        return term


class FieldModel(TableModel):
    """A model whose output is ``start`` plus what it learns.

    Attributes:
        start: a constant that is set from the training labels and kept with the weights, so that learning begins at
            the mean rating or the mean rate of clicks, and not at 0.
    """

    tasks: ClassVar[tuple[str, ...]] = ("ctr", "rating")
    start: Tensor

    def __init__(self, schema: Schema):
        super().__init__(schema)
        self.register_buffer("start", torch.zeros(()))

    def item_table(self) -> Tensor | None:
        """That of the column ``item``, whose codes from 1 on are the items; the widest where it has several."""
        tables = [module for module in self.modules() if isinstance(module, CodeTable) and "item" in module.sizes]
        tables = [table for table in tables if table.width > 1]
        widest = max(tables, key=lambda table: table.width, default=None)
        return None if widest is None else widest.own_rows("item")

    def bind(self, train: Examples) -> None:
        self.start.fill_(starting_point(train.label, clicks="ctr" in self.tasks))
        for module in self.modules():
            if isinstance(module, FieldEmbedding):
                module.count(train.features)


def starting_point(label: Tensor, clicks: bool) -> float:
    """The log-odds of a click, where all labels are 0 or 1 and ``clicks`` allows for it; their mean otherwise.

    One click and one other row are added to the counts, so that the odds are finite.
    """
    total, n = float(label.sum(dtype=torch.float64)), len(label)
    if clicks and bool(((label == 0) | (label == 1)).all()):
        return math.log((total + 1) / (n - total + 1))
    return total / max(n, 1)


def column_of(schema: Schema, name: str, where: str) -> int:
    """Place of a categorical column.

    Raises:
        InputError: there is none of this name.
    """
    known = columns(schema.features, "categorical")
    if name not in known:
        raise InputError(f"the data have no categorical column '{name}'", where=where,
                         why=f"there are {listing(known)}" if known else "there is none of this kind",
                         fix=_fix(where, name, known))  # fmt: skip
    return known.index(name)


def _check(sizes: Sizes, coded: Mapping[str, int], dims: Dims) -> None:
    if not any(sizes.values()):
        raise InputError("there is no column to learn from", where="data",
                         why="the rows have a label alone, or besides it text, which this model does not read",
                         fix="name more columns as features in the data's config")  # fmt: skip
    for name in dims:
        if name not in coded:
            raise InputError(f"'{name}' is no categorical or set-valued column", where=f"net.dims.{name}",
                             why=f"there are {listing(coded)}" if coded else "there is none of this kind",
                             fix=_fix("net.dims", name, coded))  # fmt: skip


def _fix(where: str, name: str, known: Mapping[str, int] | list[str]) -> str:
    near = nearest(name, known, 1) or list(known)[:1]
    return f"did you mean {near[0]}?" if near else f"leave out {where}, or choose data with such a column"
