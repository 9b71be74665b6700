"""Vectors of items that training lacked: an item of the catalogue, told of again, gets the vector that it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from fusion_kit import with_features

from recdistill.data.csr import Csr
from recdistill.data.features import Features, sizes_of, take
from recdistill.data.interactions import Interactions, Schema
from recdistill.models.bert4rec import BERT4Rec
from recdistill.models.content_knn import ContentKNN
from recdistill.models.content_metric import ContentMetric
from recdistill.models.gru4rec import GRU4Rec
from recdistill.models.hstu import HSTU
from recdistill.models.mf import MF
from recdistill.models.nextitnet import NextItNet
from recdistill.models.sasrec import SASRec
from recdistill.models.two_tower import TwoTower
from recdistill.models.vbpr import VBPR

BY_CONTENT: dict[str, Callable[[Schema], Any]] = {
    "mf": lambda schema: MF(schema, 4, fusion="features", adapter=5, init_std=1.0),
    "mf_cosine": lambda schema: MF(schema, 4, fusion="features", normalise=True),
    "sasrec": lambda schema: SASRec(schema, 4, fusion="features", adapter=3),
    "gru4rec": lambda schema: GRU4Rec(schema, 4, fusion="features"),
    "bert4rec": lambda schema: BERT4Rec(schema, 4, item_bias=False, fusion="features"),
    "hstu": lambda schema: HSTU(schema, 4, fusion="features"),
    "nextitnet": lambda schema: NextItNet(schema, 4, fusion="features"),
    "two_tower": lambda schema: TwoTower(schema, 4, hidden=3, ids=False),
    "content_knn": ContentKNN,
    "content_metric": lambda schema: ContentMetric(schema, hidden=3),
}
BY_ID: dict[str, Callable[[Schema], Any]] = {
    "mf": lambda schema: MF(schema, 4),
    "mf_add": lambda schema: MF(schema, 4, fusion="add"),
    "sasrec_gate": lambda schema: SASRec(schema, 4, fusion="gate"),
    "two_tower": lambda schema: TwoTower(schema, 4),
    "vbpr": VBPR,
}


def bound(make: Callable[[Schema], Any], train: Interactions, schema: Schema) -> Any:
    torch.manual_seed(0)
    model = make(schema)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    model.bind(train)
    if isinstance(model, ContentKNN):
        model.fit(train)
    return model.eval()


def items_of(model: Any) -> torch.Tensor:
    found: torch.Tensor = model.factors()[1] if hasattr(model, "factors") else model.item_matrix()
    return found


@pytest.mark.parametrize("name", BY_CONTENT)
def test_as_an_item_of_the_catalogue(name: str, train: Interactions) -> None:
    """Two cold items of another world, and what stands in which order, have no say."""
    train, schema = with_features(train, torch.float32)
    model = bound(BY_CONTENT[name], train, schema)
    rows = torch.tensor([5, 2, 16, 5])
    found = model.new_item_vectors(take(train.item_features, rows), 4)
    torch.testing.assert_close(found, items_of(model)[rows])
    others = take(train.item_features, torch.tensor([17, 5, 18]))
    far = model.new_item_vectors(others, 3)
    assert far.shape == (3, found.shape[1])
    torch.testing.assert_close(far[1], found[0])


@pytest.mark.parametrize("name", BY_ID)
def test_who_knows_ids_has_none(name: str, train: Interactions) -> None:
    train, schema = with_features(train, torch.float32)
    model = bound(BY_ID[name], train, schema)
    assert model.new_item_vectors(take(train.item_features, torch.tensor([1, 2])), 2) is None


@pytest.mark.parametrize("make", [
    lambda own: MF(own, 4, item_bias=True, fusion="features"), lambda own: BERT4Rec(own, 4, fusion="features"),
])  # fmt: skip
def test_the_bias_of_a_new_item_is_the_mean(make: Callable[[Schema], Any], train: Interactions) -> None:
    train, schema = with_features(train, torch.float32)
    model = bound(make, train, schema)
    found = model.new_item_vectors(take(train.item_features, torch.tensor([3])), 1)
    torch.testing.assert_close(found[0, :4], items_of(model)[3, :4])
    assert found[0, 4].item() == pytest.approx(model.bias.detach().mean().item(), rel=1e-6)


def test_numbers_and_sets_by_the_moments_and_words_of_training(train: Interactions) -> None:
    n = train.n_items
    features = Features(
        numeric={"price": torch.arange(n) * 2.0}, moments={"price": (5.0, 3.0)}, vocabularies={"tags": ["", "a", "b"]},
        multi={"tags": Csr.from_pairs(torch.arange(n), torch.arange(n) % 2 + 1, n)},  # type: ignore[dict-item]
    )  # fmt: skip
    features.numeric["price"][4] = float("nan")
    schema = Schema(train.n_users, n, item_features=sizes_of(features))
    model = bound(BY_CONTENT["two_tower"], replace(train, item_features=features), schema)
    rows = torch.tensor([4, 0, 9])
    torch.testing.assert_close(model.new_item_vectors(take(features, rows), 3), items_of(model)[rows])
