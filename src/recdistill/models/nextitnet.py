"""NextItNet: convolutions with holes, which double what a place sees of the past with each block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval, MinLen
from torch import Tensor, nn
from torch.nn.functional import pad

from recdistill.data.interactions import Schema
from recdistill.models.fusion import Fusion
from recdistill.models.tables.base import TableChoice
from recdistill.models.tied import TiedSequenceModel


class CausalConvolution(nn.Module):
    """y_t = b + Σ_k W_k x_{t - (K - 1 - k) · dilation}, with zeros before the start.

    Args:
        dim: length of x and y.
        kernel: K, places that it looks at, itself included.
        dilation: distance between them.
        separable: W_k = W diag(w_k), about K times fewer weights.
    """

    def __init__(self, dim: int, kernel: int, dilation: int, separable: bool):
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        self.depthwise = nn.Parameter(torch.empty(kernel, dim)) if separable else None
        # The kernel side by side, as a table: compression works on those.
        self.mix = nn.Linear(dim if separable else kernel * dim, dim)
        if self.depthwise is not None:
            nn.init.uniform_(self.depthwise, -(kernel**-0.5), kernel**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, L, d]`` to the same."""
        length = x.shape[1]
        padded = pad(x, (0, 0, (self.kernel - 1) * self.dilation, 0))
        taps = [padded[:, k * self.dilation : k * self.dilation + length] for k in range(self.kernel)]
        if self.depthwise is None:
            mixed: Tensor = self.mix(torch.cat(taps, -1))
        else:
            mixed = self.mix((torch.stack(taps, -2) * self.depthwise).sum(-2))
        return mixed


class ResidualBlock(nn.Module):
    """x + f(x), with f two convolutions, the second of twice the dilation, each with layer norm and relu."""

    def __init__(self, dim: int, kernel: int, dilation: int, separable: bool, dropout: float):
        super().__init__()
        layers: list[nn.Module] = []
        for holes in (dilation, 2 * dilation):
            layers += [CausalConvolution(dim, kernel, holes, separable), nn.LayerNorm(dim), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = x + self.layers(x)
        return added


class NextItNet(TiedSequenceModel):
    """Score = (W relu(h) + b) · e_i, where h is what the last block gives at the last place, and e are the vectors of
    the items.

    Source: Yuan et al., A simple convolutional generative network for next item recommendation, WSDM 2019, with the
    residual block of the authors' code. There the output has a table of its own; here it is the items', behind a linear
    map. Dropout and separable convolutions (Chollet, Xception, CVPR 2017) are additions.

    Args:
        schema: sizes of the data.
        dim: length of the vectors.
        dilations: of the first convolution of each block; a place sees :attr:`receptive_field` items.
        kernel: places that a convolution looks at.
        separable: each convolution as one per number of the vectors and a linear map, about ``kernel`` times lighter.
        dropout: share of what the first block gets and each block adds that training drops.
        init_std: standard deviation of the initial vectors.
        fusion, features, adapter, table: whether the items' vectors are made of their features, too, and how they are
            stored, see :class:`~recdistill.models.tied.TiedSequenceModel`.
    """

    trunk = "blocks"

    def __init__(
        self,
        schema: Schema,
        dim: Annotated[int, Ge(1)] = 64,
        dilations: Annotated[Sequence[Annotated[int, Ge(1)]], MinLen(1)] = (1, 2, 4, 8),
        kernel: Annotated[int, Ge(2)] = 3,
        separable: bool = False,
        dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.2,
        init_std: Annotated[float, Gt(0)] = 0.02,
        fusion: Fusion = "ids",
        features: Sequence[str] | None = None,
        adapter: Annotated[int, Ge(0)] = 0,
        table: TableChoice = None,
    ):
        super().__init__(schema, dim, init_std, fusion, features, adapter, table)
        self.receptive_field = 1 + 3 * (kernel - 1) * sum(dilations)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(ResidualBlock(dim, kernel, n, separable, dropout) for n in dilations))
        self.out = nn.Linear(dim, dim)

    def forward(self, history: Tensor) -> Tensor:
        mapped: Tensor = self.out(self.blocks(self.dropout(self.look_up(history))).relu())
        return mapped
