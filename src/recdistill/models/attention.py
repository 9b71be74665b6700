"""Blocks of Transformers over a history."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from recdistill.errors import InputError
from recdistill.models.pieces import Cut, Layers, Pieces, places

Activation = Literal["relu", "gelu"]
LOOK_BACK = 50  # places whose weights :meth:`SelfAttention.weights` tells


def head_length(dim: int, heads: int) -> int:
    """Length of the part of each head, where the vectors are divided among them.

    Raises:
        InputError: ``heads`` does not divide ``dim``.
    """
    if dim % heads:
        fitting = next(n for n in range(heads, 0, -1) if dim % n == 0)
        raise InputError(
            f"vectors of length {dim} can't be divided among {heads} heads", where="net.heads",
            fix=f"net.heads={fitting}, or net.dim={heads * max(1, round(dim / heads))}",
        )  # fmt: skip
    return dim // heads


class SelfAttention(nn.Module):
    """softmax(Q Kᵀ / √(d/h)) V in each of ``h`` heads, side by side through a linear map.

    Source: Vaswani et al., Attention is all you need, NeurIPS 2017, section 3.2.

    Args:
        dim: d, length of the vectors.
        heads: h.
        dropout: share of the attention weights that training drops.
        head_dim: length of queries, keys and values in each head; None for d/h.

    Attributes:
        told: methods whose results :func:`~recdistill.models.layers.recorded` keeps as if they were layers.
    """

    told: ClassVar[tuple[str, ...]] = ("weights",)

    def __init__(self, dim: int, heads: int, dropout: float, head_dim: int | None = None):
        super().__init__()
        width = heads * (head_dim or head_length(dim, heads))
        self.heads, self.dropout = heads, dropout
        self.qkv, self.out = nn.Linear(dim, 3 * width), nn.Linear(width, dim)

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        """
        Args:
            x: ``[B, L, d]``.
            visible: bool, broadcast to ``[B, h, L, L]``: which place sees which; None: itself and all before it.

        Returns:
            ``[B, L, d]``.
        """
        queries, keys, values = self._parts(x)
        dropout = self.dropout if self.training else 0.0
        seen = scaled_dot_product_attention(
            queries, keys, values, attn_mask=visible, dropout_p=dropout, is_causal=visible is None
        )
        mixed: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return mixed

    def at(self, x: Tensor, place: Tensor) -> Tensor:
        """What :meth:`forward` gives at one place of each row, int64 ``[B]``, which sees itself and all before it.

        Returns:
            ``[B, 1, d]``, without dropout.
        """
        queries, keys, values = self._parts(x)
        index = place.view(-1, 1, 1, 1).expand(-1, self.heads, 1, queries.shape[-1])
        visible = torch.arange(x.shape[1], device=x.device) <= place.view(-1, 1, 1, 1)
        seen = scaled_dot_product_attention(queries.gather(2, index), keys, values, attn_mask=visible)
        mixed: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return mixed

    def _parts(self, x: Tensor) -> Tensor:
        """Queries, keys and values, ``[3, B, h, L, d/h]``."""
        parts: Tensor = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return parts

    def weights(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        """softmax(Q Kᵀ / √(d/h)), the mean of the heads, without dropout: ``[B, L, LOOK_BACK]``, of each place for
        itself, the place before it and so on; 0 before the start. Arguments as of :meth:`forward`."""
        queries, keys, _ = self._parts(x)
        place = torch.arange(x.shape[1], device=x.device)
        seen = place.unsqueeze(1) >= place if visible is None else visible
        scores = queries @ keys.transpose(-1, -2) / keys.shape[-1] ** 0.5
        shares = scores.masked_fill(~seen, -torch.inf).softmax(-1).mean(1)  # [B, L, L]
        back = place.unsqueeze(1) - torch.arange(LOOK_BACK, device=x.device)
        told: Tensor = shares.gather(2, back.clamp(min=0).expand(x.shape[0], -1, -1)) * (back >= 0)
        return told


class TransformerBlock(nn.Module):
    """Self-attention and a network at each place, both with dropout, residual connection and layer norm.

    Args:
        dim: length of the vectors.
        heads: of the attention.
        hidden: width of the network's hidden layer.
        dropout: share that training drops, of the attention weights and of what either part gives.
        activation: of the network.
        pre_norm: x + g(LN(x)) instead of LN(x + g(x)).
        head_dim: see :class:`SelfAttention`.
    """

    def __init__(
        self, dim: int, heads: int, hidden: int, dropout: float, activation: Activation, pre_norm: bool,
        head_dim: int | None = None,
    ):  # fmt: skip
        super().__init__()
        self.attention = SelfAttention(dim, heads, dropout, head_dim)
        self.widen, self.narrow = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        self.activation = nn.ReLU() if activation == "relu" else nn.GELU()
        self.pre_norm = pre_norm

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        """``[B, L, d]`` to the same; ``visible`` as in :class:`SelfAttention`."""
        first, second = self.norms
        if self.pre_norm:
            x = x + self.dropout(self.attention(first(x), visible))
            x = x + self.dropout(self._network(second(x)))
        else:
            x = first(x + self.dropout(self.attention(x, visible)))
            x = second(x + self.dropout(self._network(x)))
        return x

    def at(self, x: Tensor, place: Tensor) -> Tensor:
        """What :meth:`forward` gives at one place of each row, int64 ``[B]``, outside training: of the last block no
        other is needed, which spares half of its products.

        Returns:
            ``[B, d]``.
        """
        first, second = self.norms
        own = x.gather(1, place.view(-1, 1, 1).expand(-1, 1, x.shape[2]))
        if self.pre_norm:
            own = own + self.attention.at(first(x), place)
            own = own + self._network(second(own))
        else:
            own = first(own + self.attention.at(x, place))
            own = second(own + self._network(own))
        return own.squeeze(1)

    def _network(self, x: Tensor) -> Tensor:
        narrowed: Tensor = self.narrow(self.activation(self.widen(x)))
        return narrowed


def block_pieces(name: str, blocks: nn.ModuleList) -> list[Pieces]:
    """Heads, units of the networks, and the blocks themselves, of a stack of :class:`TransformerBlock`."""
    found: list[Pieces] = []
    for number, block in enumerate(blocks):
        assert isinstance(block, TransformerBlock)
        attention, at = block.attention, f"{name}.{number}"
        heads, hidden = attention.heads, places(block.widen.out_features)
        width = attention.out.in_features // heads
        parts = places(heads, width=width, times=3)
        found += [
            Pieces("heads", heads, (
                Cut(f"{at}.attention.qkv.weight", 0, parts), Cut(f"{at}.attention.qkv.bias", 0, parts),
                Cut(f"{at}.attention.out.weight", 1, places(heads, width=width), gate=True),
            )),
            Pieces("feed_forward", len(hidden), (
                Cut(f"{at}.widen.weight", 0, hidden), Cut(f"{at}.widen.bias", 0, hidden),
                Cut(f"{at}.narrow.weight", 1, hidden, gate=True),
            )),
        ]  # fmt: skip
    adding = ("attention.out.weight", "attention.out.bias", "narrow.weight", "narrow.bias")
    return [*found, Layers("layers", len(blocks), (), name, adding)]
