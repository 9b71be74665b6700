"""A multi-layer perceptron on the vectors and numbers of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Interval
from torch import Tensor, nn

from recdistill.data.interactions import Schema
from recdistill.data.rows import Rows, columns
from recdistill.errors import InputError
from recdistill.models.base import TableModel
from recdistill.models.pieces import Kind, Pieces, perceptron


class MLP(TableModel):
    """W_L relu(... relu(W_1 x + b_1) ...) + b_L, where x is all inputs one behind the other.

    Source: Rumelhart, Hinton and Williams, Learning representations by back-propagating errors, Nature 323, 1986, with
    rectified linear units (Glorot, Bordes and Bengio, AISTATS 2011).

    Args:
        schema: sizes of the data.
        hidden: widths of the hidden layers; none leaves softmax regression.
        dropout: share of the units of each hidden layer that a training step leaves out; 0 for none.
        inputs: features to look at, of kind vector or numeric; None takes all of these kinds. Others are not looked at.

    Raises:
        InputError: there is no such feature.
    """

    tasks = ("classification",)
    cuttable: ClassVar[Mapping[Kind, str]] = {"units": "hidden"}
    places: Tensor

    def __init__(
        self,
        schema: Schema,
        hidden: Sequence[Annotated[int, Ge(1)]] = (512, 256),
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0,
        inputs: Sequence[str] | None = None,
    ):
        super().__init__(schema)
        numeric, vectors = columns(schema.features, "numeric"), schema.features.get("vector", {})
        chosen = _chosen(inputs, [*numeric, *sorted(vectors)])
        self.vectors = [name for name in chosen if name in vectors]
        places = torch.tensor([numeric.index(name) for name in chosen if name in numeric], dtype=torch.int64)
        self.register_buffer("places", places, persistent=False)
        widths = [len(places) + sum(vectors[name] for name in self.vectors), *hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], schema.n_outputs))
        self.trunk = f"layers.{len(layers) - 1}" if layers else ""

    def pieces(self) -> list[Pieces]:
        last = len(self.layers) - 1
        return perceptron("layers", nn.Sequential(*list(self.layers)[:last]), [(f"layers.{last}.weight", 0)])

    def forward(self, rows: Rows) -> Tensor:
        inputs = [rows.numeric.index_select(1, self.places), *(rows.vector[name] for name in self.vectors)]
        logits: Tensor = self.layers(torch.cat(inputs, 1))
        return logits


def _chosen(inputs: Sequence[str] | None, known: list[str]) -> list[str]:
    """``inputs``, each once, checked to be among the features that can be read; all of them for None."""
    chosen = known if inputs is None else list(dict.fromkeys(inputs))
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        what = f"no vector or numeric feature '{unknown[0]}'" if unknown else "no vector or numeric feature to look at"
        raise InputError(
            f"the data have {what}",
            where="net.inputs",
            why=f"there are: {', '.join(known) or 'none'}",
            fix="net.inputs=null" if known else "data with such features, such as data=mnist",
        )
    return chosen
