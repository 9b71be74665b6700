"""Scores of items that training lacked stand behind those of the catalogue, which stay as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from recdistill.data.features import Features, sizes_of, take
from recdistill.data.interactions import Dataset, Interactions, Schema
from recdistill.models.content_metric import ContentMetric
from recdistill.models.mf import MF
from recdistill.tasks.ranking import Ranking
from recdistill.tasks.sequence import Sequence

USERS = torch.tensor([4, 0, 11])


@pytest.fixture
def data(train: Interactions) -> Dataset:
    """The parts are of the same users; two items are cold."""
    n_users, n = train.n_users, train.n_items
    train = replace(train, time=torch.arange(len(train)))
    valid = Interactions(torch.tensor([4, 0]), torch.tensor([1, n]), n_users, n, time=torch.tensor([500, 501]))
    test = Interactions(torch.tensor([4]), torch.tensor([n + 1]), n_users, n, time=torch.tensor([600]))
    features = Features(vector={"text": torch.randn(n + 2, 5, generator=torch.Generator().manual_seed(0))})
    names = np.array([str(i) for i in range(n + 2)])
    train = replace(train, item_features=features)
    return Dataset(train, valid, test, names[:n_users], names, {}, {}, "x", item_features=features)


@torch.no_grad()
def test_by_a_table_of_users(data: Dataset) -> None:
    schema = Schema(data.train.n_users, data.train.n_items, item_features=sizes_of(data.item_features))
    torch.manual_seed(0)
    model = MF(schema, 4, fusion="features", init_std=1.0).eval()
    model.bind(data.train)
    new = model.new_item_vectors(take(data.item_features, torch.tensor([18, 17, 3])), 3)
    found = Ranking().scorer(model, data, new=new)(USERS)
    assert found.shape == (3, data.train.n_items + 3)
    torch.testing.assert_close(found[:, : data.train.n_items], model.scores(USERS))
    torch.testing.assert_close(found[:, -1], model.scores(USERS)[:, 3])


@torch.no_grad()
@pytest.mark.parametrize("part", ["valid", "test"])
def test_by_what_may_be_read_of_them(part: str, data: Dataset) -> None:
    """At the test, what they did in validation too; a cold item there is none that is read."""
    task = Sequence(max_length=9)
    schema = replace(task.schema(data), item_features=sizes_of(data.item_features))
    model = ContentMetric(schema).eval()
    model.bind(data.train)
    new = model.new_item_vectors(take(data.item_features, torch.tensor([18, 3])), 2)
    found = task.scorer(model, data, part, new)(USERS)
    torch.testing.assert_close(found[:, :-2], task.scorer(model, data, part)(USERS))
    torch.testing.assert_close(found[:, -1], found[:, 3])
    plain, other = (task.scorer(model, data, each)(USERS) for each in (part, "valid"))
    assert torch.equal(plain[0], other[0]) == (part == "valid")
    torch.testing.assert_close(plain[2], other[2])
