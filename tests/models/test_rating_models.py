"""Models of ratings against their formulas, and unknown users and items."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from recdistill.data.interactions import Examples, Schema
from recdistill.data.rows import Rows
from recdistill.errors import InputError
from recdistill.models.biased_mf import BiasedMF
from recdistill.models.deepfm import DeepFM
from recdistill.models.fm import FM
from recdistill.models.neumf_rating import NeuMFRating
from table_kit import SIZES, rows_of, schema_of, shaken, table

TRAIN = table(n=200, clicks=False)


def rows(user: list[int], item: list[int]) -> Rows:
    """Codes stand in the order of the names."""
    return Rows(torch.tensor([item, user]).T, torch.zeros(len(user), 0))


def halves(held: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The parts of a table that are of users and of items."""
    user, item = held.table.weight.split([5, 7])
    return user, item


def test_biased_mf_is_its_closed_form() -> None:
    model: Any = BiasedMF(schema_of(TRAIN), dim=3)
    model.bind(TRAIN)
    mean = TRAIN.label.double().mean()
    shaken(model)
    (b_user, b_item), (p, q) = halves(model.biases), halves(model.vectors)
    found = model(rows_of(TRAIN))
    for row in range(200):
        u, i = (int(TRAIN.features.categorical[name][row]) for name in ("user", "item"))
        expected = mean + b_user[u, 0] + b_item[i, 0] + sum(p[u, k] * q[i, k] for k in range(3))
        torch.testing.assert_close(found[row], expected, atol=1e-6, rtol=1e-6)


def test_neumf_is_its_formula() -> None:
    model: Any = shaken(NeuMFRating(schema_of(TRAIN), dim=3, deep_dim=2, hidden=[4, 3]))
    (p, q), (p_deep, q_deep) = halves(model.vectors), halves(model.deep_vectors)
    found = model(rows([2, 4], [6, 1]))
    for row, (u, i) in enumerate([(2, 6), (4, 1)]):
        hidden = torch.cat([p_deep[u], q_deep[i]])
        for layer in (model.deep[0], model.deep[2]):
            hidden = (layer.weight @ hidden + layer.bias).clamp(min=0)
        expected = model.out.weight[0] @ torch.cat([p[u] * q[i], hidden]) + model.out.bias[0]
        torch.testing.assert_close(found[row], expected)


def fitted(model: Any, data: Examples, epochs: int = 40) -> Any:
    model.bind(data)
    known = Rows.of(data.features, len(data))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.1)
    for _ in range(epochs):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(known), data.label).backward()
        optimizer.step()
    return model.eval()


def test_an_unknown_user_gets_the_mean_and_the_bias_of_the_item() -> None:
    torch.manual_seed(0)
    model = fitted(BiasedMF(schema_of(TRAIN), dim=3), TRAIN)
    b_item = halves(model.biases)[1][:, 0]
    assert b_item.abs().max() > 0.05
    torch.testing.assert_close(model(rows([0, 0], [3, 5])), model.start + b_item[[3, 5]])
    torch.testing.assert_close(model(rows([0], [0])), model.start.reshape(1))


def planted(n: int = 3000) -> Examples:
    """Ratings between 1 and 5 with biases and a factor."""
    rng = torch.Generator().manual_seed(5)
    data = table({"categorical": SIZES["categorical"]}, n=n, seed=5)
    user, item = (data.features.categorical[name] for name in ("user", "item"))
    bias, p, q = torch.randn(8, generator=rng), torch.randn(5, generator=rng), torch.randn(7, generator=rng)
    label = 3 + 0.5 * bias[item] + 0.7 * p[user] * q[item] + 0.1 * torch.randn(n, generator=rng)
    return Examples(label, data.features)


@pytest.mark.parametrize("kind", [BiasedMF, NeuMFRating, FM, DeepFM])
def test_planted_ratings_are_learned(kind: Any) -> None:
    torch.manual_seed(0)
    data = planted()
    model = fitted(kind(schema_of(data), dim=8, **({"hidden": [16]} if kind is DeepFM else {})), data, epochs=150)
    with torch.no_grad():
        error = (model(Rows.of(data.features, len(data))) - data.label).square().mean().sqrt()
    assert float(error) < 0.45 * float(data.label.std())


@pytest.mark.parametrize("kind", [BiasedMF, NeuMFRating])
def test_columns_have_the_names_that_are_given(kind: Any) -> None:
    sizes = {"categorical": {"who": 5, "what": 7, "where": 3}}
    with pytest.raises(InputError, match=r"net\.user"):
        kind(Schema(features=sizes))
    model = kind(Schema(features=sizes), user="who", item="what")
    codes = torch.tensor([[6, 2, 4]])  # what, where, who
    changed = torch.tensor([[6, 1, 4]])
    none = torch.zeros(1, 0)
    torch.testing.assert_close(model.eval()(Rows(codes, none)), model(Rows(changed, none)))
    assert model(Rows(torch.tensor([[5, 2, 4]]), none)) != model(Rows(codes, none))
