"""Small random tables for the tests of models of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from recdistill.data.csr import Csr
from recdistill.data.features import Features, Sizes, sizes_of
from recdistill.data.interactions import Examples, Schema
from recdistill.data.rows import Rows

SIZES: Sizes = {
    "categorical": {"item": 7, "user": 5},
    "multi": {"history": 7, "tag.s": 4},
    "numeric": {"age": 1, "price": 1},
    "vector": {"text": 3},
}


def table(sizes: Sizes = SIZES, n: int = 40, seed: int = 0, clicks: bool = True) -> Examples:
    """Random rows: no code 0, as in training; sets of up to three members, the first of them empty."""
    rng = torch.Generator().manual_seed(seed)

    def sets(size: int) -> Csr:
        count = torch.randint(4, (n,), generator=rng)
        count[0] = 0
        indptr = torch.cat([torch.zeros(1, dtype=torch.int64), count.cumsum(0)])
        return Csr(indptr, torch.randint(1, size, (int(indptr[-1]),), generator=rng))

    of: Any = {kind: sizes.get(kind, {}) for kind in ("categorical", "multi", "numeric", "vector")}
    words = {name: np.array([""] + [str(code) for code in range(1, size)], dtype=object)
             for name, size in {**of["categorical"], **of["multi"]}.items()}  # fmt: skip
    features = Features(
        {name: torch.randint(1, size, (n,), generator=rng) for name, size in of["categorical"].items()},
        {name: torch.randn(n, generator=rng) for name in of["numeric"]},
        {name: sets(size) for name, size in of["multi"].items()},
        vector={name: torch.randn(n, size, generator=rng) for name, size in of["vector"].items()},
        vocabularies=words,
        moments=dict.fromkeys(of["numeric"], (0.0, 1.0)),
    )
    label = torch.randint(2 if clicks else 5, (n,), generator=rng).float()
    return Examples(label, features)


def schema_of(train: Examples) -> Schema:
    return Schema(features=sizes_of(train.features))


def rows_of(train: Examples) -> Rows:
    return Rows.of(train.features, len(train))


def shaken(model: Any) -> Any:
    """The model with random weights of a visible size, in double precision and eval mode."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.5 * torch.randn(weight.shape, generator=rng))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=rng))
            if name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=rng))
    return model.double().eval()


def doubled(rows: Rows) -> Rows:
    """The rows with numbers in double precision."""
    return Rows(rows.categorical, rows.numeric.double(), rows.multi, {k: v.double() for k, v in rows.vector.items()})
