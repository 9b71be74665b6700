"""Rows of a table as models take them: numbers only, columns in one order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import embedding

from recdistill.data.csr import Csr
from recdistill.data.features import Features, Sizes


def columns(sizes: Sizes, kind: str) -> list[str]:
    """The features of a kind ("categorical", "numeric", "multi" or "vector"), in the order that columns have."""
    return sorted(sizes.get(kind, {}))


@dataclass(frozen=True)
class Rows:
    """Features of ``N`` rows.

    Attributes:
        categorical: int64 ``[N, F]``, the codes of :func:`columns` ``(sizes, "categorical")``; 0 is unknown.
        numeric: float32 ``[N, M]``, standardised by the training rows; 0, their mean, where it is missing.
        multi: name to the codes of each row, never 0; a history has the order of time, the latest last.
        vector: name to float32 ``[N, d]``; 0 where it is missing.
    """

    categorical: Tensor
    numeric: Tensor
    multi: dict[str, Csr] = field(default_factory=dict)
    vector: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.categorical)

    @classmethod
    def of(cls, features: Features, n: int) -> Rows:
        """The ``n`` rows of encoded features; text is left out."""
        codes = [features.categorical[name] for name in sorted(features.categorical)]
        numbers = [_standardised(features, name) for name in sorted(features.numeric)]
        return cls(
            torch.stack(codes, 1) if codes else torch.zeros(n, 0, dtype=torch.int64),
            torch.stack(numbers, 1) if numbers else torch.zeros(n, 0, dtype=torch.float32),
            dict(features.multi),
            {name: vectors.nan_to_num(0.0) for name, vectors in features.vector.items()},
        )

    def take(self, rows: Tensor) -> Rows:
        """Some of the rows, int64 ``[B]``, in their order."""
        return Rows(
            self.categorical.index_select(0, rows),
            self.numeric.index_select(0, rows),
            {name: sets.take(rows) for name, sets in self.multi.items()},
            {name: embedding(rows, vectors) for name, vectors in self.vector.items()},
        )

    def cast(self, dtype: torch.dtype) -> Rows:
        """The same rows with numbers of another precision."""
        if all(part.dtype == dtype for part in (self.numeric, *self.vector.values())):
            return self
        vectors = {name: vectors.to(dtype) for name, vectors in self.vector.items()}
        return replace(self, numeric=self.numeric.to(dtype), vector=vectors)

    def to(self, device: torch.device) -> Rows:
        return Rows(
            self.categorical.to(device),
            self.numeric.to(device),
            {name: Csr(sets.indptr.to(device), sets.indices.to(device)) for name, sets in self.multi.items()},
            {name: vectors.to(device) for name, vectors in self.vector.items()},
        )


def _standardised(features: Features, name: str) -> Tensor:
    mean, deviation = features.moments[name]
    return ((features.numeric[name] - mean) / (deviation or 1.0)).nan_to_num(0.0)
