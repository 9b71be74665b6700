"""The two towers and their features against sums written out, and from a prepared data set to scores."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recdistill.data import store
from recdistill.data.csr import Csr
from recdistill.data.features import Features, sizes_of
from recdistill.data.filters import Filters
from recdistill.data.interactions import Dataset, Interactions, Schema
from recdistill.data.prepare import prepare
from recdistill.data.sources.synthetic import Synthetic
from recdistill.data.splits import RandomSplit
from recdistill.errors import InputError
from recdistill.export.bundle import load_model, save_model
from recdistill.models.encoders import FeatureEncoder
from recdistill.models.two_tower import TwoTower

NAN = float("nan")


def features(rows: int = 17) -> Features:
    """One of each kind, with something missing in each."""
    rng = torch.Generator().manual_seed(0)
    sets = Csr.from_pairs(torch.tensor([0, 0, 3, 5]), torch.tensor([1, 3, 2, 3]), rows)
    number, vector = torch.randn(rows, generator=rng), torch.randn(rows, 3, generator=rng)
    number[4], vector[2] = NAN, NAN
    return Features(
        categorical={"a.b": torch.randint(4, (rows,), generator=rng)},
        numeric={"price": number},
        multi={"tags": sets},
        text={"about": np.array(["x"] * rows, dtype=object)},
        vector={"image": vector},
        vocabularies={"a.b": np.array(["", "u", "v", "w"], dtype=object), "tags": np.array(["", "p", "q", "r"])},
        moments={"price": (0.5, 2.0)},
    )


def slow(encoder: FeatureEncoder, given: Features, row: int) -> Tensor:
    state = encoder.state_dict()
    total = state["tables.categorical_a%2Eb.weight"][given.categorical["a.b"][row]]
    members = given.multi["tags"].take(torch.tensor([row])).indices.tolist()
    for code in members:
        total = total + state["tables.multi_tags.weight"][code] / len(members)
    price = given.numeric["price"][row].item()
    missing = math.isnan(price)
    pair = torch.tensor([0.0 if missing else (price - 0.5) / 2.0, float(missing)])
    vector = given.vector["image"][row]
    vector = torch.zeros(3) if vector.isnan().any() else vector
    return total + state["maps.numeric_price.weight"] @ pair + state["maps.vector_image.weight"] @ vector


def test_an_encoded_row_is_the_sum_of_its_features() -> None:
    torch.manual_seed(0)
    given = features(20)
    encoder = FeatureEncoder(sizes_of(given), 4, 1.0)
    encoder.attach(given, 17)  # the other three are cold
    expected = torch.stack([slow(encoder, given, row) for row in range(17)])
    torch.testing.assert_close(encoder(), expected)
    assert not [name for name in encoder.state_dict() if "tables" not in name and "maps" not in name]


def test_sizes() -> None:
    assert sizes_of(features()) == {
        "categorical": {"a.b": 4}, "multi": {"tags": 4}, "numeric": {"price": 1}, "vector": {"image": 3},
    }  # fmt: skip
    assert sizes_of(Features()) == {}


def made(train: Interactions, **more: Any) -> tuple[TwoTower, Interactions]:
    torch.manual_seed(0)
    given = replace(train, item_features=features(train.n_items))
    schema = Schema(train.n_users, train.n_items, item_features=sizes_of(given.item_features))
    model = TwoTower(schema, **{"dim": 4, "hidden": 6, "init_std": 1.0, **more})
    model.bind(given)
    return model, given


@pytest.mark.parametrize("hidden", [0, 6])
@pytest.mark.parametrize("ids", [True, False])
def test_a_tower_is_the_sum_and_its_layer(train: Interactions, hidden: int, ids: bool) -> None:
    model, given = made(train, hidden=hidden, ids=ids)
    encoder = model.item_tower.features
    assert encoder is not None
    x = torch.stack([slow(encoder, given.item_features, row) for row in range(train.n_items)])
    assert (model.item is not None) == ids
    if model.item is not None:
        x = x + model.item.weight
    if hidden:
        first, _, second = model.item_tower.deep  # type: ignore[misc]
        x = x + (x @ first.weight.T + first.bias).clamp(min=0) @ second.weight.T + second.bias
    user, item = model.factors()
    torch.testing.assert_close(item, x)
    assert model.user is not None, "nothing else is known of users"
    torch.testing.assert_close(model.scores(torch.tensor([3, 1])), user[[3, 1]] @ item.T)


def test_items_that_are_alike_score_alike_without_ids(train: Interactions) -> None:
    model, given = made(train, ids=False)
    twins = replace(given, item_features=replace(given.item_features, **_same_rows(given.item_features)))
    model.bind(twins)
    scores = model.scores(torch.arange(train.n_users))
    torch.testing.assert_close(scores, scores[:, :1].expand_as(scores))


def _same_rows(given: Features) -> dict[str, Any]:
    nothing = torch.empty(0, dtype=torch.int64)
    return {
        "categorical": {name: codes * 0 + 2 for name, codes in given.categorical.items()},
        "numeric": {name: numbers * NAN for name, numbers in given.numeric.items()},
        "multi": {name: Csr.from_pairs(nothing, nothing, len(sets.counts())) for name, sets in given.multi.items()},
        "vector": {name: torch.ones_like(vectors) for name, vectors in given.vector.items()},
    }


def test_gradients_reach_every_parameter(train: Interactions) -> None:
    model, _ = made(train)
    model.scores(torch.arange(train.n_users)).logsumexp(-1).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name


def test_nothing_to_look_at(schema: Schema) -> None:
    with pytest.raises(InputError, match="nothing to look at"):
        TwoTower(schema, ids=False)


def test_from_a_prepared_data_set_to_disk_and_back(tmp_path: Path) -> None:
    source = Synthetic(n_users=40, n_items=30, niches=6, interactions_per_user=6)
    store.save(prepare(source, Filters(), RandomSplit()), tmp_path / "data")
    data = store.load(tmp_path / "data")
    assert isinstance(data, Dataset)
    assert data.schema.item_features == {"categorical": {"genre": len(data.item_features.vocabularies["genre"])}}
    torch.manual_seed(0)
    net = {"_target_": "recdistill.models.two_tower.TwoTower", "dim": 4, "ids": False}
    model = TwoTower(data.schema, dim=4, ids=False)
    model.bind(data.train)
    save_model(tmp_path / "model", model, net)
    again = load_model(tmp_path / "model", data.train)
    users = torch.arange(data.train.n_users)
    assert torch.equal(again.scores(users), model.scores(users))
    genre = data.item_features.categorical["genre"][: data.train.n_items]
    scores, first = model.scores(users), int((genre == genre[0]).nonzero()[1])
    torch.testing.assert_close(scores[:, 0], scores[:, first])
