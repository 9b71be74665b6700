"""VBPR against its formula in plain numbers."""

from __future__ import annotations

import pytest
import torch
from fusion_kit import centred_by_hand, with_features
from torch import nn
from torch.nn.functional import logsigmoid

from recdistill.data.interactions import Interactions, Schema
from recdistill.errors import InputError
from recdistill.models.vbpr import VBPR
from recdistill.tasks.objectives.sampled import l2_penalty


def made(train: Interactions, names: list[str] | None = None) -> tuple[VBPR, Interactions]:
    torch.manual_seed(0)
    given, schema = with_features(train)
    model = VBPR(schema, dim=4, content_dim=3, features=names)
    model.bind(given)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model.double(), given


@pytest.mark.parametrize("names", [None, ["sound"]])
def test_a_score_is_its_formula(train: Interactions, names: list[str] | None) -> None:
    model, given = made(train, names)
    state, scores = model.state_dict(), model.scores(torch.arange(train.n_users))
    even = {
        name: centred_by_hand(vectors[: train.n_items].tolist())
        for name, vectors in given.item_features.vector.items()
        if names is None or name in names
    }
    for user in range(train.n_users):
        for item in range(train.n_items):
            expected = sum(p * q for p, q in zip(state["user.weight"][user], state["item.weight"][item], strict=True))
            expected += state["bias"][item]
            for name, rows in even.items():
                f = rows[item]
                for theta, row in zip(
                    state["taste.weight"][user], state[f"content.maps.vector_{name}.weight"], strict=True
                ):
                    expected += theta * sum(w * x for w, x in zip(row, f, strict=True))
                expected += sum(
                    w * x for w, x in zip(state[f"content_bias.maps.vector_{name}.weight"][0], f, strict=True)
                )
            torch.testing.assert_close(scores[user, item], torch.as_tensor(expected))
    assert not [name for name in state if "genre" in name], "a category is no vector"
    found = {name for name in state if name.startswith("content_bias")}
    assert found == {f"content_bias.maps.vector_{name}.weight" for name in even}


def test_gradients(train: Interactions) -> None:
    model, _ = made(train)
    names = [name for name, _ in model.named_parameters()]
    free = tuple(parameter.detach().requires_grad_() for parameter in model.parameters())
    user, item, other = torch.tensor([0, 3, 3]), torch.tensor([1, 2, 5]), torch.tensor([7, 0, 2])

    def loss(*weights: torch.Tensor) -> torch.Tensor:
        factors = torch.func.functional_call(
            _Factors(model), {f"of.{n}": w for n, w in zip(names, weights, strict=True)}, ()
        )
        own, items = factors
        return -logsigmoid((own[user] * (items[item] - items[other])).sum(1)).sum()

    assert torch.autograd.gradcheck(loss, free)


class _Factors(nn.Module):
    """What functional_call can call."""

    def __init__(self, of: VBPR):
        super().__init__()
        self.of = of

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.of.factors()


def test_the_penalty_is_on_the_tables(train: Interactions) -> None:
    model, _ = made(train)
    user, item = torch.tensor([0, 3]), torch.tensor([1, 1])
    expected = (
        sum(
            table[row].square().sum()
            for rows, tables in (
                (user, (model.user.weight, model.taste.weight)),
                (item, (model.item.weight, model.bias)),
            )
            for table in tables
            for row in rows
        )
        / 4
    )
    torch.testing.assert_close(l2_penalty(model, ("user", user), ("item", item)), expected)


def test_a_frozen_one_is_computed_once(train: Interactions) -> None:
    model, given = made(train)
    assert model.factors()[1] is not model.factors()[1]
    model.requires_grad_(False)
    first = model.factors()[1]
    assert model.factors()[1] is first
    model.bind(given)
    assert model.double().factors()[1] is not first


def test_items_without_vectors(schema: Schema) -> None:
    with pytest.raises(InputError, match="VBPR needs vectors of the items") as caught:
        VBPR(schema)
    assert caught.value.where == "net.features"
