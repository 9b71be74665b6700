"""HSTU: attention without softmax, gated, which keeps how strongly the past agrees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn
from torch.nn.functional import silu

from recdistill.data.interactions import Schema
from recdistill.models.attention import head_length
from recdistill.models.fusion import Fusion
from recdistill.models.pieces import Cut, Kind, Layers, Pieces, places
from recdistill.models.tables.base import TableChoice
from recdistill.models.tied import TiedSequenceModel

EPS = 1e-6  # of the layer norms, as in the authors' code: attention divided by a long length is small


class TransductionUnit(nn.Module):
    """x + W (LN(A V) ⊙ U), with A = silu(Q Kᵀ + r) / n below the diagonal and on it, 0 above,
    and [U V Q K] = silu(LN(x) W').

    Args:
        dim: length of the vectors.
        heads: each with its part of Q, K and V, and all with the same r.
        max_length: n; r has a number for each distance of two places.
        dropout: share of LN(A V) ⊙ U that training drops.
        init_std: standard deviation of the initial r.
        head_dim: length of the part of U, V, Q and K of each head; None for ``dim / heads``.
    """

    def __init__(
        self, dim: int, heads: int, max_length: int, dropout: float, init_std: float, head_dim: int | None = None
    ):
        super().__init__()
        width = heads * (head_dim or head_length(dim, heads))
        self.heads, self.max_length = heads, max_length
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.uvqk, self.out = nn.Linear(dim, 4 * width, bias=False), nn.Linear(width, dim)
        self.attended_norm = nn.LayerNorm(width, eps=EPS)
        self.distance = nn.Parameter(init_std * torch.randn(max_length))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, L, d]`` to the same."""
        gate, *others = silu(self.uvqk(self.norm(x))).chunk(4, -1)
        parts = (*x.shape[:2], self.heads, gate.shape[2] // self.heads)
        values, queries, keys = (other.view(parts).transpose(1, 2) for other in others)  # [B, h, L, d/h]
        place = torch.arange(x.shape[1], device=x.device)
        back = place.unsqueeze(1) - place  # [L, L]
        bias = self.distance[back.clamp(min=0)]
        # By the longest length, not the batch's, so that padding changes nothing.
        weights = silu(queries @ keys.transpose(-1, -2) + bias) / self.max_length * (back >= 0)  # [B, h, L, L]
        attended = (weights @ values).transpose(1, 2).flatten(2)
        added: Tensor = x + self.out(self.dropout(self.attended_norm(attended) * gate))
        return added


class HSTU(TiedSequenceModel):
    """Score = h · e_i, where h is the vector at the last place, and e the vectors of the items.

    A place starts as √d e_i; units of :class:`TransductionUnit` and a last layer norm give h. The order of the places
    is known by their distances alone; gaps of time, which the paper's bias also holds, are not in a history.

    Source: Zhai et al., Actions speak louder than words: Trillion-parameter sequential transducers for generative
    recommendations, ICML 2024; sizes, 1 / n and √d as in the authors' code for public data, whose vectors of
    absolute places and L2 norm of h are left out.

    Args:
        schema: sizes of the data.
        dim: d, length of the vectors.
        layers: number of units.
        heads: of the attention; they must divide ``dim``.
        dropout: share that training drops, of what the first unit gets and of what each adds, before its linear map.
        init_std: standard deviation of the initial vectors and biases of distances.
        head_dim: length of each head's part; None for ``dim / heads``.
        fusion, features, adapter, table: whether the items' vectors are made of their features, too, and how they are
            stored, see :class:`~recdistill.models.tied.TiedSequenceModel`.

    Raises:
        InputError: ``heads`` does not divide ``dim``.
    """

    trunk = "norm"
    cuttable: ClassVar[Mapping[Kind, str]] = {"heads": "heads", "layers": "layers"}

    def __init__(
        self,
        schema: Schema,
        dim: Annotated[int, Ge(1)] = 64,
        layers: Annotated[int, Ge(1)] = 2,
        heads: Annotated[int, Ge(1)] = 1,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
        init_std: Annotated[float, Gt(0)] = 0.02,
        fusion: Fusion = "ids",
        features: Sequence[str] | None = None,
        adapter: Annotated[int, Ge(0)] = 0,
        head_dim: Annotated[int, Ge(1)] | None = None,
        table: TableChoice = None,
    ):
        super().__init__(schema, dim, init_std, fusion, features, adapter, table)
        self.scale = dim**0.5
        self.dropout = nn.Dropout(dropout)
        self.units = nn.Sequential(
            *(TransductionUnit(dim, heads, schema.max_length, dropout, init_std, head_dim) for _ in range(layers))
        )
        self.norm = nn.LayerNorm(dim)

    def pieces(self) -> list[Pieces]:
        found: list[Pieces] = []
        for number, unit in enumerate(self.units):
            assert isinstance(unit, TransductionUnit)
            heads, at = unit.heads, f"units.{number}"
            width = unit.out.in_features // heads
            own = places(heads, width=width)
            found.append(Pieces("heads", heads, (
                Cut(f"{at}.uvqk.weight", 0, places(heads, width=width, times=4)),
                Cut(f"{at}.attended_norm.weight", 0, own), Cut(f"{at}.attended_norm.bias", 0, own),
                Cut(f"{at}.out.weight", 1, own, gate=True),
            )))  # fmt: skip
        return [*found, Layers("layers", len(self.units), (), "units", ("out.weight", "out.bias"))]

    @classmethod
    def spelled_out(cls, net: dict[str, Any]) -> dict[str, Any]:
        return net | {"head_dim": net["head_dim"] or head_length(net["dim"], net["heads"])}

    def forward(self, history: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.units(self.dropout(self.scale * self.look_up(history))))
        return normed
