"""Layers and tables whose weight is a product of two narrow ones.

A config says so beside the hyper-parameters of any model: ``ranks: {deep.0: 8, item: 4}``, by the name of the module.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class FactoredLinear(nn.Module):
    """x ↦ U (V x) + b, with V ``[r, n]`` and U ``[m, r]``: r (m + n) weights instead of m n."""

    def __init__(self, n_in: int, n_out: int, rank: int, bias: bool):
        super().__init__()
        self.inner, self.outer = nn.Linear(n_in, rank, bias=False), nn.Linear(rank, n_out, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        mapped: Tensor = self.outer(self.inner(x))
        return mapped

    @property
    def weight(self) -> Tensor:
        """U V, ``[m, n]``."""
        return self.outer.weight @ self.inner.weight

    @property
    def bias(self) -> Tensor | None:
        return self.outer.bias


class FactoredEmbedding(nn.Module):
    """A table of rows of length r, and a map from these to rows of length d."""

    def __init__(self, rows: int, dim: int, rank: int):
        super().__init__()
        self.num_embeddings, self.embedding_dim = rows, dim
        self.inner, self.outer = nn.Embedding(rows, rank), nn.Linear(rank, dim, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.outer(self.inner(rows))
        return found

    @property
    def weight(self) -> Tensor:
        """``[rows, d]``."""
        table: Tensor = self.outer(self.inner.weight)
        return table


def factored(layer: nn.Module, rank: int) -> FactoredLinear | FactoredEmbedding:
    """The same layer in two factors, with random weights.

    Raises:
        ValueError: it is neither a linear layer nor a table.
    """
    if isinstance(layer, nn.Linear):
        return FactoredLinear(layer.in_features, layer.out_features, rank, layer.bias is not None)
    if isinstance(layer, nn.Embedding):
        return FactoredEmbedding(layer.num_embeddings, layer.embedding_dim, rank)
    raise ValueError(f"{type(layer).__name__} is no layer that has a rank")


def factor(model: nn.Module, ranks: Mapping[str, int]) -> None:
    """Puts two factors in the place of each named layer.

    Raises:
        ValueError: there is no such layer, or no such rank.
    """
    layers = dict(model.named_modules())
    for name, rank in ranks.items():
        if name not in layers or not isinstance(rank, int) or rank < 1:
            raise ValueError(f"ranks: there is no layer {name!r} of rank {rank!r}")
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, factored(layers[name], rank))
