"""The learned measure of likeness, against a loop and against content-kNN, where it starts."""

from __future__ import annotations

import math

import pytest
import torch
from fusion_kit import with_features
from torch import nn

from recdistill.data.interactions import Interactions, Schema
from recdistill.errors import InputError
from recdistill.models.content_knn import ContentKNN
from recdistill.models.content_metric import ContentMetric


def bound(train: Interactions, schema: Schema, **settings: float) -> ContentMetric:
    torch.manual_seed(0)
    model = ContentMetric(schema, **settings).double()  # type: ignore[arg-type]
    model.bind(train)
    return model.eval()


@pytest.mark.parametrize("hidden", [0, 5])
def test_starts_as_the_order_of_content_knn(hidden: int, train: Interactions) -> None:
    train, schema = with_features(train)
    model, knn = bound(train, schema, hidden=hidden, decay=0.7), ContentKNN(schema, 0.7).double()
    knn.fit(train)
    history = torch.tensor([[1, 4, 0], [6, 3, train.n_items]])
    own, theirs = model.query(history) @ model.item_matrix().T, knn.query(history) @ knn.item_matrix().T
    length = knn.vectors.norm(dim=1)
    expected = 8.0 * theirs / knn.query(history).norm(dim=1, keepdim=True) / length
    torch.testing.assert_close(own, expected)


@pytest.mark.parametrize("hidden", [0, 3])
def test_as_a_loop_would(hidden: int, train: Interactions) -> None:
    train, schema = with_features(train)
    model = bound(train, schema, hidden=hidden, decay=0.5, scale=3.0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    c = model.content.tolist()

    def f(change: nn.Module, x: list[float]) -> list[float]:
        layers = [p.tolist() for p in change.parameters()]
        y = x
        for number, layer in enumerate(layers):
            y = [sum(w * v for w, v in zip(row, y, strict=True)) for row in layer]
            y = [max(v, 0.0) for v in y] if number + 1 < len(layers) else y
        z = [a + b for a, b in zip(x, y, strict=True)]
        norm = math.sqrt(sum(v * v for v in z))
        return [v / norm for v in z]

    items = [4, 0, 7]
    read = [sum(0.5 ** (2 - place) * c[item][k] for place, item in enumerate(items)) for k in range(len(c[0]))]
    q = f(model.of_query, read)
    scores = model.query(torch.tensor([items]))[0] @ model.item_matrix().T
    for item in (1, 4, 16):
        v = f(model.of_item, c[item])
        expected = model.log_scale.exp().item() * sum(a * b for a, b in zip(q, v, strict=True))
        assert scores[item].item() == pytest.approx(expected, rel=1e-6)


def test_gradients_reach_all_weights_and_places_see_the_past_alone(train: Interactions) -> None:
    train, schema = with_features(train)
    model = bound(train, schema, hidden=3)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    (model(torch.tensor([[1, 4, 0]])).sum(1) @ model.item_matrix().T).square().sum().backward()
    assert all((parameter.grad != 0).any() for parameter in model.parameters())
    short, long = model(torch.tensor([[1, 4]])), model(torch.tensor([[1, 4, 0]]))
    torch.testing.assert_close(short, long[:, :2])


def test_weights_hold_no_item(train: Interactions) -> None:
    train, schema = with_features(train)
    model = ContentMetric(schema, features=["sound"])
    assert {tuple(w.shape) for w in model.state_dict().values()} == {(3, 3), ()}
    with pytest.raises(InputError, match="no vectors 'sounds'"):
        ContentMetric(schema, features=["sounds"])
