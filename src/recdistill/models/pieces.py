"""Pieces of a model that can be left out, so that what is left is the same architecture with smaller tensors.

An architecture says so beside its layers: :attr:`~recdistill.models.base.Model.cuttable` names the kinds of pieces and
the hyper-parameter with their number, :meth:`~recdistill.models.base.Model.pieces` says where they lie in its tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

Kind = Literal["units", "feed_forward", "heads", "layers", "dims"]
State = dict[str, Tensor]


@dataclass(frozen=True)
class Cut:
    """Where pieces lie in one tensor.

    Attributes:
        name: of the tensor in the state dict.
        dim: of the tensor.
        places: int64 ``[n, m]``, the m positions in this dimension of each of n pieces; what belongs to none stays.
        gate: whether the derivative of the loss by a factor before the piece is Σ gradient · weight over this tensor;
            such are the weights that read what a unit gives. They are zero where the piece is not there.
    """

    name: str
    dim: int
    places: Tensor
    gate: bool = False


@dataclass(frozen=True)
class Pieces:
    """``count`` pieces, such as the units of one layer."""

    kind: Kind
    count: int
    cuts: tuple[Cut, ...]

    def total(self, values: Mapping[str, Tensor], gates: bool = False) -> Tensor:
        """The sum of some values of weights over each piece, ``[count]``.

        Args:
            values: by the name of the parameter; of a tensor that has none here nothing is added.
            gates: whether over those of the gates alone.
        """
        found = torch.zeros(self.count, dtype=torch.float64)
        for cut in self.cuts:
            if cut.name in values and (cut.gate or not gates):
                value = values[cut.name].double()
                others = [dim for dim in range(value.dim()) if dim != cut.dim]
                found += (value.sum(others) if others else value)[cut.places].sum(1)
        return found

    def renamed(self, state: State, kept: Tensor) -> State:
        """The tensors under the names that they have where only pieces of these numbers are left."""
        del kept
        return state

    def silence(self, state: State, gone: Tensor) -> State:
        """The tensors of the whole model, in which the pieces of these numbers have no effect: their gates are zero."""
        for cut in self.cuts:
            if cut.gate:
                state[cut.name] = state[cut.name].index_fill(cut.dim, cut.places[gone].flatten(), 0.0)
        return state


@dataclass(frozen=True)
class Layers(Pieces):
    """Whole layers of a stack, each of which adds something to what it gets.

    Attributes:
        stack: name of the module that holds them, numbered from 0.
        adding: endings of the names of the weights that make what a layer adds.
    """

    stack: str = ""
    adding: tuple[str, ...] = field(default=())

    def total(self, values: Mapping[str, Tensor], gates: bool = False) -> Tensor:
        found = torch.zeros(self.count, dtype=torch.float64)
        for name, value in values.items():
            number, ending = self._place(name)
            if ending and (not gates or ending in self.adding):
                found[number] += value.double().sum()
        return found

    def renamed(self, state: State, kept: Tensor) -> State:
        new = {str(old): str(number) for number, old in enumerate(kept.tolist())}
        left = {}
        for name, tensor in state.items():
            number, ending = self._place(name)
            if not ending:
                left[name] = tensor
            elif str(number) in new:
                left[f"{self.stack}.{new[str(number)]}.{ending}"] = tensor
        return left

    def silence(self, state: State, gone: Tensor) -> State:
        for number in gone.tolist():
            for ending in self.adding:
                name = f"{self.stack}.{number}.{ending}"
                state[name] = torch.zeros_like(state[name])
        return state

    def _place(self, name: str) -> tuple[int, str]:
        """Number of the layer that a tensor is of, and the rest of its name; "" for one of no layer."""
        if not name.startswith(f"{self.stack}."):
            return 0, ""
        number, _, ending = name.removeprefix(f"{self.stack}.").partition(".")
        return int(number), ending


def without_others(state: State, chosen: Sequence[tuple[Pieces, Tensor]]) -> State:
    """The tensors of the smaller model.

    Args:
        state: those of the whole one.
        chosen: pieces, and the numbers of those that are kept, int64 ``[k]`` in rising order.
    """
    left: dict[tuple[str, int], Tensor] = {}
    for pieces, kept in chosen:
        gone = torch.ones(pieces.count, dtype=torch.bool)
        gone[kept] = False
        for cut in pieces.cuts:
            mask = left.setdefault((cut.name, cut.dim), torch.ones(state[cut.name].shape[cut.dim], dtype=torch.bool))
            mask[cut.places[gone].flatten()] = False
    small = dict(state)
    for (name, dim), mask in left.items():
        small[name] = small[name].index_select(dim, mask.nonzero().flatten())
    for pieces, kept in chosen:
        small = pieces.renamed(small, kept)
    return small


def places(count: int, *, times: int = 1, step: int = 0, width: int = 1, offset: int = 0) -> Tensor:
    """Positions int64 ``[count, times · width]``: piece n has ``width`` in a row from ``n · width`` on, and so again
    ``times`` times, ``step`` apart (by default one whole row of pieces)."""
    own = torch.arange(count)[:, None] * width + torch.arange(width)
    again = torch.arange(times) * (step or count * width)
    return (own[:, None, :] + again[:, None] + offset).flatten(1)


def perceptron(name: str, layers: nn.Sequential, readers: Sequence[tuple[str, int]]) -> list[Pieces]:
    """The units of each linear layer of :func:`~recdistill.models.blocks.hidden_layers`.

    Args:
        name: of the module.
        layers: linear layers, and what works on each of their outputs by itself.
        readers: names of the weights that read the last layer, and from which column on.
    """
    linear = [number for number, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    found = []
    for number, following in zip(linear, [*linear[1:], len(layers)], strict=False):
        width = int(layers[number].out_features)  # type: ignore[arg-type]
        rows = places(width)
        cuts = [Cut(f"{name}.{number}.weight", 0, rows)]
        if layers[number].bias is not None:
            cuts.append(Cut(f"{name}.{number}.bias", 0, rows))
        for between in range(number + 1, following):
            own = layers[between].state_dict()
            cuts += [Cut(f"{name}.{between}.{key}", 0, rows) for key, part in own.items() if part.shape == (width,)]
        read = [(f"{name}.{following}.weight", 0)] if following < len(layers) else readers
        cuts += [Cut(reader, 1, places(width, offset=first), gate=True) for reader, first in read]
        found.append(Pieces("units", width, tuple(cuts)))
    return found


def first_reader(name: str, layers: nn.Sequential, otherwise: str) -> str:
    """Name of the weight that reads the input of a perceptron: that of its first layer, if it has any."""
    return f"{name}.0.weight" if len(layers) else otherwise
