"""Items with features of some kinds, for the models that look at them."""

from __future__ import annotations

from dataclasses import replace

import torch

from recdistill.data.features import Features, sizes_of
from recdistill.data.interactions import Interactions, Schema

NAN = float("nan")


def with_features(train: Interactions, dtype: torch.dtype = torch.float64) -> tuple[Interactions, Schema]:
    """The same pairs, their items with two vectors and a category; item 2 has no vector "image". Two items
    more are cold, and of another world."""
    rng = torch.Generator().manual_seed(4)
    rows = train.n_items + 2
    image = 3 + 2 * torch.randn(rows, 5, generator=rng, dtype=torch.float64)
    sound = torch.randn(rows, 3, generator=rng, dtype=torch.float64)
    image[2], image[-2:], sound[-2:] = NAN, 1e6, 1e6
    given = Features(
        categorical={"genre": torch.randint(4, (rows,), generator=rng)},
        vector={"image": image.to(dtype), "sound": sound.to(dtype)},
        vocabularies={"genre": ["", "a", "b", "c"]},  # type: ignore[dict-item]
    )  # fmt: skip
    schema = Schema(train.n_users, train.n_items, max_length=6, item_features=sizes_of(given))
    return replace(train, item_features=given), schema


def centred_by_hand(rows: list[list[float]]) -> list[list[float]]:
    """(v - μ) / ρ in plain numbers; rows of NaN are 0."""
    known = [row for row in rows if row[0] == row[0]]
    mean = [sum(column) / len(known) for column in zip(*known, strict=True)]
    left = [[value - m for value, m in zip(row, mean, strict=True)] for row in known]
    size = (sum(value * value for row in left for value in row) / len(known)) ** 0.5
    done = iter([[value / size for value in row] for row in left])
    return [next(done) if row[0] == row[0] else [0.0] * len(row) for row in rows]
