"""Content-kNN, against a loop over histories and items."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from recdistill.data.features import Features
from recdistill.data.interactions import Interactions, Schema
from recdistill.errors import InputError
from recdistill.models.content_knn import ContentKNN

N = 7


@pytest.fixture
def train() -> Interactions:
    rng = torch.Generator().manual_seed(0)
    vectors = {"a": torch.randn(N + 2, 3, generator=rng), "b": torch.randn(N + 2, 2, generator=rng) + 4}
    vectors["a"][4] = float("nan")
    empty = torch.zeros(0, dtype=torch.int64)
    return Interactions(empty, empty, 3, N, item_features=Features(vector=vectors))


def schema(train: Interactions) -> Schema:
    return Schema(
        3, N, max_length=5, item_features={"vector": {n: v.shape[1] for n, v in train.item_features.vector.items()}}
    )


@pytest.mark.parametrize("decay", [0.5, 1.0])
@pytest.mark.parametrize("names", [None, ["b"]])
def test_as_a_loop_would(decay: float, names: list[str] | None, train: Interactions) -> None:
    model = ContentKNN(schema(train), decay, names)
    model.fit(train)
    used = {name: train.item_features.vector[name][:N] for name in names or ["a", "b"]}

    def similarity(i: int, j: int) -> float:
        total = 0.0
        for rows in used.values():
            mean = torch.stack([row for row in rows if not row.isnan().any()]).mean(0)
            if not (rows[i].isnan().any() or rows[j].isnan().any()):
                total += float(torch.cosine_similarity(rows[i] - mean, rows[j] - mean, dim=0))
        return total

    history = torch.tensor([[1, 4, 0], [6, N, N], [N, N, N]])
    query = model.query(history)
    for row, items in enumerate([[1, 4, 0], [6], []]):
        for item in range(N):
            expected = sum(decay ** (len(items) - 1 - place) * similarity(j, item) for place, j in enumerate(items))
            assert float(query[row] @ model.item_matrix()[item]) == pytest.approx(expected, abs=1e-5)


def test_every_place_is_the_end_of_its_own_history(train: Interactions) -> None:
    model = ContentKNN(schema(train))
    model.fit(train)
    history = torch.tensor([[1, 5, 0, 2]])
    for length in range(1, 5):
        torch.testing.assert_close(model(history)[:, length - 1], model.query(history[:, :length]))


def test_cold_items_have_no_say_in_the_mean(train: Interactions) -> None:
    model, other = ContentKNN(schema(train)), ContentKNN(schema(train))
    model.fit(train)
    moved = {name: torch.cat([rows[:N], rows[N:] + 100]) for name, rows in train.item_features.vector.items()}
    other.fit(replace(train, item_features=Features(vector=moved)))
    assert torch.equal(model.vectors, other.vectors)


def test_without_vectors_it_says_what_gives_them(train: Interactions) -> None:
    with pytest.raises(InputError, match="encode=minilm"):
        ContentKNN(Schema(3, N))
    with pytest.raises(InputError, match="they have: a, b"):
        ContentKNN(schema(train), features=["c"])
