"""Tables of vectors that take fewer bytes than a row of numbers each, and are trained in that form.

A table is asked as an ``nn.Embedding`` is: called with ids it gives their vectors, and ``weight`` is all of them. So
the plain table needs no class of its own: a model that is given no kind has an ``nn.Embedding``, and nothing that reads
tables knows the difference. A kind is one file here and one YAML under ``conf/table``; how many rows and columns there
are comes from the model.

What is stored is small; what is trained may be more (the vectors behind the codes of product quantization, the columns
behind the prefix that is served). A table that is built is *loose*: it has all that training needs.
:func:`stored_state` and :meth:`Table.settle` leave that out, :func:`stored_form` builds without it, and
:meth:`Table.loosen` puts it back to go on training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from recdistill.errors import InputError

TableKind = Callable[..., "Table"]
"""A class of tables with its settings; what is left to give is ``rows``, ``dim`` and ``init_std``."""


def _no_name(value: Any) -> Any:
    if isinstance(value, str):  # a natural thing to type
        text = "kinds of tables are options of a group of their own, with settings"
        raise PydanticCustomError("table", "{text}", {"text": text, "fix": f"table@student.net.table={value}"})
    return value


TableChoice = Annotated[TableKind | dict[str, Any] | None, BeforeValidator(_no_name)]
"""A kind; None, or the empty config of ``table=none``, for a plain table."""

HELD_ROWS = 4096  # most rows that are compared in a step
_STORED: ContextVar[bool] = ContextVar("stored_form", default=False)


class Table(nn.Module):
    """A vector for each of some rows.

    Args:
        rows: how many.
        dim: length of a vector.

    Attributes:
        loose: whether it holds what only training needs.
        prefixes: numbers of columns that are read, one after another, in a step of training; none where that is always
            all.
        read: that of the moment.
        anchor: vectors ``[rows, dim]`` that training is held to, None for none.
        hint: weight of this in the loss.
    """

    prefixes: tuple[int, ...] = ()
    read: int
    anchor: Tensor | None

    def __init__(self, rows: int, dim: int):
        super().__init__()
        self.rows, self.dim, self.loose, self.hint = rows, dim, False, 0.0
        self.register_buffer("anchor", None, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors ``[..., dim]`` of ids int64 ``[...]``."""
        raise NotImplementedError

    @property
    def weight(self) -> Tensor:
        """All vectors ``[rows, dim]``, in the order of their ids."""
        vectors: Tensor = self(torch.arange(self.rows, device=next(self.parameters()).device))
        return vectors

    @property
    def embedding_dim(self) -> int:
        """Length of a vector, by the name that ``nn.Embedding`` has for it."""
        return self.dim

    @property
    def nbytes(self) -> int:
        """What is stored of it, by its formula: bytes of the tensors in float32, without the header of a file."""
        raise NotImplementedError

    def fit(self, target: Tensor) -> None:
        """Come as near to vectors ``[rows, dim]`` as it can, by the sum of squares. Draws no random numbers."""
        raise NotImplementedError

    def count(self, counts: Tensor) -> None:
        """Told how frequent each row is in training, int64 ``[rows]``; before training, and never afterwards."""

    def require_sound(self) -> None:
        """Raises ValueError where whole numbers that were read from a file point nowhere."""

    def settle(self) -> None:
        """Leave out what only training needs; what it answers in eval mode stays, to the last bit."""

    def loosen(self) -> None:
        """The inverse of :meth:`settle`, as far as it has one."""

    def hold(self, anchor: Tensor, hint: float) -> None:
        """Add ``hint`` · mean ‖e_i - anchor_i‖² / dim, relative to the anchor's mean square, to the loss."""
        self.anchor, self.hint = anchor, hint

    def penalty(self) -> Tensor | None:
        """What it adds to the loss of a step, None for nothing."""
        if self.anchor is None or not self.hint:
            return None
        ids = torch.arange(self.rows, device=self.anchor.device)
        if self.rows > HELD_ROWS:  # by the generator that every step seeds
            ids = torch.randint(self.rows, (HELD_ROWS,)).to(ids.device)
        wanted = self.anchor[ids]
        error: Tensor = (self(ids) - wanted).square().mean()
        return self.hint * error / wanted.square().mean().clamp(min=torch.finfo(wanted.dtype).tiny)


def table_of(kind: TableChoice, rows: int, dim: int, init_std: float) -> nn.Embedding | Table:
    """A table of this kind; an ``nn.Embedding``, which the model initialises, without one and where it would take as
    many bytes or more: a few hundred rows are less than the codebooks that would stand for them.
    """
    if not kind:
        return nn.Embedding(rows, dim)
    assert callable(kind), kind
    table = kind(rows=rows, dim=dim, init_std=init_std)
    return table if table.nbytes < 4 * rows * dim else nn.Embedding(rows, dim)


def require_plain(kind: TableChoice, fusion: str) -> None:
    """Raises InputError for a kind of table that is to be fused with features: what is served of a fusion is a plain
    table of what came of it."""
    if kind and fusion != "ids":
        raise InputError(
            f"fusion={fusion} needs a plain table", where="net.table",
            why="what is served are the fused vectors, in a plain table of their own",
            fix="table@student.net.table=none and compression=[embedding_qr], or student.net.fusion=ids",
        )  # fmt: skip


def count_rows(table: nn.Module | None, ids: Tensor) -> None:
    """Tell a table how frequent its rows are among ids; a plain one does not ask."""
    if isinstance(table, Table):
        table.count(torch.bincount(ids, minlength=table.rows)[: table.rows])


def tables_of(model: nn.Module) -> dict[str, Table]:
    """The compressed tables of a model by the name of the submodule."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Table)}


def stored_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a model as it is stored."""
    if any(table.loose for table in tables_of(model).values()):
        model = copy.deepcopy(model)
        for table in tables_of(model).values():
            table.settle()
    return model.state_dict()


@contextmanager
def stored_form() -> Iterator[None]:
    """Inside, tables are built as they are stored: to be filled from a file, in no more memory than it has."""
    token = _STORED.set(True)
    try:
        yield
    finally:
        _STORED.reset(token)


def builds_stored() -> bool:
    """Whether :func:`stored_form` asks for tables that are not loose."""
    return _STORED.get()


def read_form(tables: Sequence[Table], number: int) -> None:
    """Make tables read their prefix of this number, from 0, while they train; the last one where they have fewer."""
    for table in tables:
        if table.prefixes:
            table.read = table.prefixes[min(number, len(table.prefixes) - 1)]


def with_penalties(loss: Tensor, terms: dict[str, Tensor], tables: Sequence[Table]) -> Tensor:
    """The loss of a step and what the tables add to it, which becomes a term of it, ``table_penalty``."""
    found = [penalty for table in tables if (penalty := table.penalty()) is not None]
    if not found:
        return loss
    terms["table_penalty"] = torch.stack(found).sum()
    return loss + terms["table_penalty"]


def least_squares_sum(index: Tensor, target: Tensor, n_rows: int, steps: int = 200) -> Tensor:
    """The E ``[n_rows, d]`` with least Σ_i ‖Σ_j E[index_ij] - target_i‖², of all such the shortest, by conjugate
    gradients on the normal equations.

    Args:
        index: int64 ``[n, k]``.
        target: ``[n, d]``.
        n_rows: of E.
        steps: most iterations.
    """
    wanted = target.double()

    def up(rows: Tensor) -> Tensor:  # [n_rows, d] -> [n, d]
        return rows[index].sum(1)

    def down(vectors: Tensor) -> Tensor:  # its transpose
        spread = vectors.unsqueeze(1).expand(-1, index.shape[1], -1).reshape(-1, vectors.shape[1])
        return vectors.new_zeros(n_rows, vectors.shape[1]).index_add(0, index.flatten(), spread)

    solution = wanted.new_zeros(n_rows, wanted.shape[1])
    residual = down(wanted)
    direction, size = residual.clone(), residual.square().sum()
    start = float(size)
    for _ in range(steps):
        if float(size) <= 1e-24 * start:
            break
        along = up(direction)
        step = size / along.square().sum()
        solution = solution + step * direction
        residual = residual - step * down(along)
        before, size = size, residual.square().sum()
        direction = residual + (size / before) * direction
    return solution.to(target.dtype)


def svd_factors(target: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """L ``[n, rank]`` and R ``[rank, d]`` whose product is nearest to ``[n, d]`` (Eckart and Young 1936); zeros beyond
    what it has."""
    left, size, right = torch.linalg.svd(target.double(), full_matrices=False)
    kept = min(rank, len(size))
    first, second = target.new_zeros(len(target), rank), target.new_zeros(rank, target.shape[1])
    first[:, :kept], second[:kept] = (left * size)[:, :kept].to(target.dtype), right[:kept].to(target.dtype)
    return first, second
