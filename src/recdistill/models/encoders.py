"""From the features of users or items to vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recdistill.data.csr import Csr
from recdistill.data.features import Features, Sizes

ENDINGS = {"multi": ["_start", "_members"]}  # of buffers, where a feature has several


class FeatureEncoder(nn.Module):
    """A vector for each row: the sum of a vector of each of its features.

    A categorical feature has a table, whose row 0 stands for what is missing or unknown; a set is the mean of the rows
    of its members; numbers are standardised by the moments of the training rows; numbers and vectors go through a
    linear map. What is missing of these is 0, and of numbers has a vector of its own. Text is passed over.

    Args:
        sizes: of the features, see :func:`recdistill.data.features.sizes_of`; at least one.
        dim: length of the vectors.
        init_std: standard deviation of the initial tables.
    """

    def __init__(self, sizes: Sizes, dim: int, init_std: float):
        super().__init__()
        self.sizes = sizes
        self.tables = nn.ModuleDict()
        self.maps = nn.ModuleDict()
        for kind in ("categorical", "multi"):
            for name, size in sizes.get(kind, {}).items():
                self.tables[key(kind, name)] = table(size, dim, init_std)
        for kind in ("numeric", "vector"):
            for name, size in sizes.get(kind, {}).items():
                # Of a number: its value, and whether it is missing.
                self.maps[key(kind, name)] = nn.Linear(2 if kind == "numeric" else size, dim, bias=False)

    def attach(self, features: Features, rows: int) -> None:
        """Keep the first ``rows`` rows of the features, as buffers that are not stored with the model."""
        device = next(self.parameters()).device
        for kind, name in self.names():
            for part, tensor in columns(features, kind, name, rows).items():
                self.register_buffer(f"{key(kind, name)}{part}", tensor.to(device), persistent=False)

    def names(self) -> list[tuple[str, str]]:
        """Kind and name of each feature."""
        return [(kind, name) for kind in ("categorical", "multi", "numeric", "vector")
                for name in self.sizes.get(kind, {})]  # fmt: skip

    def forward(self) -> Tensor:
        """The vectors ``[rows, dim]`` of what was attached."""
        return torch.stack(self.parts()).sum(0)

    def parts(self) -> list[Tensor]:
        """The vectors ``[rows, dim]`` of each feature by itself, in the order of :meth:`names`."""
        return [
            self._encoded(kind, name, [getattr(self, key(kind, name) + ending) for ending in ENDINGS.get(kind, [""])])
            for kind, name in self.names()
        ]

    def of(self, features: Features, rows: int) -> Tensor:
        """The vectors ``[rows, dim]`` of rows that were not attached, by the same vocabularies and moments."""
        device = next(self.parameters()).device
        return torch.stack([
            self._encoded(kind, name, [part.to(device) for part in columns(features, kind, name, rows).values()])
            for kind, name in self.names()
        ]).sum(0)  # fmt: skip

    def _encoded(self, kind: str, name: str, looked_up: list[Tensor]) -> Tensor:
        """Of a feature, from what :func:`columns` gives of it."""
        own = key(kind, name)
        if kind == "categorical":
            encoded: Tensor = self.tables[own](*looked_up)
        elif kind == "multi":
            start, members = looked_up
            encoded = nn.functional.embedding_bag(members, self.tables[own].weight, start, mode="mean")  # type: ignore[arg-type]
        else:
            encoded = self.maps[own](*looked_up)
        return encoded


def table(rows: int, dim: int, init_std: float) -> nn.Embedding:
    """Random vectors."""
    made = nn.Embedding(rows, dim)
    nn.init.normal_(made.weight, std=init_std)
    return made


def key(kind: str, name: str) -> str:
    """Name of a module or buffer, which may hold no dot."""
    return f"{kind}_{name}".replace("%", "%25").replace(".", "%2E")


def columns(features: Features, kind: str, name: str, rows: int) -> dict[str, Tensor]:
    """What is looked up for a feature, by the ending of its buffer's name."""
    if kind == "categorical":
        return {"": features.categorical[name][:rows]}
    if kind == "multi":
        sets: Csr = features.multi[name]
        start = sets.indptr[: rows + 1]
        return {"_start": start[:-1], "_members": sets.indices[: int(start[-1])]}
    if kind == "vector":
        return {"": features.vector[name][:rows].nan_to_num()}
    value = features.numeric[name][:rows]
    mean, deviation = features.moments[name]
    standardised = (value - mean) / (deviation or 1.0)
    return {"": torch.stack([standardised.nan_to_num(), value.isnan().to(value.dtype)], 1)}
