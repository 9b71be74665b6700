"""SimpleX against its formula, user by user."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recdistill.data.csr import Csr
from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.views import ModelView
from recdistill.models.simplex import SimpleX
from recdistill.tasks.batches import ranking_epoch
from recdistill.tasks.objectives import CCL


def made(train: Interactions, gate: float) -> SimpleX:
    torch.manual_seed(0)
    model = SimpleX(Schema(train.n_users, train.n_items), dim=4, gate=gate, init_std=1.0).double()
    torch.nn.init.normal_(model.map.weight)
    model.bind(train)
    return model


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.mark.parametrize("gate", [0.2, 0.9])
def test_scores_are_cosines_of_the_gated_sum(train: Interactions, gate: float) -> None:
    model = made(train, gate)
    p, q, v = (w.detach().numpy() for w in (model.user.weight, model.item.weight, model.map.weight))
    for user in (0, 5):
        own = sorted(set(train.item[train.user == user].tolist()))
        vector = gate * p[user] + (1 - gate) * v @ q[own].mean(0)
        expected = [cosine(vector, row) for row in q]
        np.testing.assert_allclose(model.scores(torch.tensor([user]))[0].detach(), expected)


def test_a_user_folded_in_is_their_items(train: Interactions) -> None:
    model = made(train, 0.5)
    q, v = model.item.weight.detach().numpy(), model.map.weight.detach().numpy()
    history = Csr.from_pairs(torch.tensor([0, 0, 1]), torch.tensor([3, 8, 2]), 3)
    found = model.fold_in(history).detach()
    for row, own in ((0, [3, 8]), (1, [2])):
        expected = [cosine(v @ q[own].mean(0), other) for other in q]
        np.testing.assert_allclose(found[row], expected, atol=1e-6)
    assert not found[2].any()


def test_gradients_reach_every_parameter(train: Interactions) -> None:
    model = made(train, 0.5)
    batch = ranking_epoch(train, seed=1, epoch=0, batch_size=50, negatives=2, queries=0).batch(0)
    view = ModelView(model, batch.query, train.csr)
    CCL(negatives=2)(model, batch, view, torch.Generator()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name
