"""DIN: of a user's history, what resembles the candidate counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from recdistill.config.suggest import listing
from recdistill.data.csr import Csr
from recdistill.data.features import Sizes
from recdistill.data.interactions import Schema
from recdistill.data.rows import Rows
from recdistill.errors import InputError
from recdistill.models.blocks import Dice, Rate, Std, Width, Widths, hidden_layers, last_width
from recdistill.models.fields import Dims, FieldEmbedding, FieldModel, MaxRows, column_of
from recdistill.models.pieces import Kind, Pieces, perceptron
from recdistill.models.tables.base import TableChoice


class DIN(FieldModel):
    """z = w · MLP([e_1; …; e_F; v]) + b with v = Σ_j a(e_j, e_t) e_j over the history, where e_t is the vector of the
    candidate and a(e_j, e_t) = MLP([e_j; e_t; e_j - e_t; e_j ∘ e_t]).

    The weights a are not normalised, so that v tells how strong an interest is. History and candidate share their
    vectors.

    Source: Zhou et al., Deep interest network for click-through rate prediction, KDD 2018, eq. 3 and section 4.3; what
    the network a sees of the two vectors is that of the authors' code. Its regularisation of section 5.1 is left out.

    Args:
        schema: sizes of the fields.
        target: categorical field of the candidate.
        history: set-valued field with the codes of earlier candidates.
        dim: length of the vectors.
        attention: widths of the layers of a.
        hidden: widths of the layers of the network.
        activation: of both, "dice" or "prelu".
        dropout: share of a layer's output that is dropped in training, 0 for none.
        dims: of single fields that have another length, by name.
        max_rows: rows of the table for a field, the rest of whose values, the rare ones, share; None for no limit.
        init_std: standard deviation of the initial vectors.
        table: how the vectors of large fields are stored, see :class:`~recdistill.models.fields.FieldEmbedding`.

    Raises:
        InputError: one of the two fields is not there, or their codes are not those of one vocabulary.
    """

    tasks = ("ctr",)
    trunk = "deep"
    cuttable: ClassVar[Mapping[Kind, str]] = {"units": "hidden"}

    def __init__(
        self,
        schema: Schema,
        target: str = "item",
        history: str = "history",
        dim: Width = 16,
        attention: Widths = (36,),
        hidden: Widths = (200, 80),
        activation: Literal["dice", "prelu"] = "dice",
        dropout: Rate = 0.0,
        dims: Dims | None = None,
        max_rows: MaxRows | None = None,
        init_std: Std = 0.01,
        table: TableChoice = None,
    ):
        super().__init__(schema)
        others = _without_history(schema, target, history)
        self.target, self.history = target, history
        act = Dice if activation == "dice" else nn.PReLU
        self.fields = FieldEmbedding(others, dim, dims, max_rows, init_std, table)
        self.place = self.fields.names.index(target)
        self.activation_unit = nn.Sequential(
            hidden_layers(4 * dim, attention, activation=act), nn.Linear(last_width(4 * dim, attention), 1)
        )
        width = self.fields.width + dim
        self.deep = hidden_layers(width, hidden, dropout, activation=act)
        self.out = nn.Linear(last_width(width, hidden), 1)

    def pieces(self) -> list[Pieces]:
        return perceptron("deep", self.deep, [("out.weight", 0)])

    def forward(self, rows: Rows) -> Tensor:
        vectors = self.fields(rows)
        interest = self._interest(vectors[:, self.place], rows.multi[self.history])
        logit: Tensor = self.start + self.out(self.deep(torch.cat([vectors.flatten(1), interest], 1))).squeeze(1)
        return logit

    def _interest(self, target: Tensor, history: Csr) -> Tensor:
        """v ``[B, d]``, zero for an empty history, of candidates ``[B, d]``."""
        past = self.fields.table(self.target).vectors(self.target, history.indices)  # [n, d]
        row = history.owners()
        now = target.index_select(0, row)
        weight = self.activation_unit(torch.cat([past, now, past - now, past * now], 1))
        return torch.zeros_like(target).index_add(0, row, (weight * past).to(target.dtype))


def _without_history(schema: Schema, target: str, history: str) -> Sizes:
    """The fields besides the history, which is pooled by its own rule."""
    sets = schema.features.get("multi", {})
    if history not in sets:
        raise InputError(f"the data have no set-valued column '{history}'", where="net.history",
                         why="din needs interactions with a history" + (f"; there are {listing(sets)}" if sets else ""),
                         fix="take a log: data=ml100k data.path=... task.threshold=4 task.history=20")  # fmt: skip
    column_of(schema, target, "net.target")
    size = schema.features["categorical"][target]
    if sets[history] != size:
        raise InputError(f"'{history}' and '{target}' have different vocabularies", where="net.history",
                         why=f"they have {sets[history]:,} and {size:,} codes; din needs interactions with a history",
                         fix="take a log, task.history=20, and the default net.target and net.history")  # fmt: skip
    return {**schema.features, "multi": {name: n for name, n in sets.items() if name != history}}
