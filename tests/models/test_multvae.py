"""MultVAE against its formulas written out user by user, and its objective against the direct sum."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from recdistill.data.csr import Csr
from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.views import ModelView
from recdistill.export.bundle import load_model, save_model
from recdistill.models.mf import MF
from recdistill.models.multvae import MultVAE
from recdistill.tasks.batches import RankingBatch, user_epoch
from recdistill.tasks.objectives.elbo import ELBO, divergence

NET = {"_target_": "recdistill.models.multvae.MultVAE", "dim": 3, "hidden": 5, "dropout": 0.0}


def made(train: Interactions, dropout: float = 0.0) -> MultVAE:
    torch.manual_seed(0)
    model = MultVAE(Schema(train.n_users, train.n_items), dim=3, hidden=5, dropout=dropout)
    for parameter in model.parameters():  # biases too
        nn.init.normal_(parameter, std=0.5)
    model.bind(train)
    return model


def slow(model: MultVAE, train: Interactions, user: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and log-variance of one user."""
    state = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    x = np.zeros(train.n_items)
    x[train.item[train.user == user].numpy()] = 1
    x /= np.linalg.norm(x)
    hidden = np.tanh(x @ state["item.weight"] + state["bias"])
    both = state["to_latent.weight"] @ hidden + state["to_latent.bias"]
    return both[:3], both[3:]


def decoded(model: MultVAE, z: np.ndarray) -> np.ndarray:
    state = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    hidden = np.tanh(state["from_latent.weight"] @ z + state["from_latent.bias"])
    scores: np.ndarray = state["to_items.weight"] @ hidden + state["to_items.bias"]
    return scores


def step(train: Interactions) -> RankingBatch:
    return user_epoch(train, seed=1, epoch=0, batch_size=train.n_users).batch(0)


def test_scores_are_those_of_the_mean(train: Interactions) -> None:
    model = made(train, dropout=0.5).eval()
    expected = [decoded(model, slow(model, train, user)[0]) for user in range(train.n_users)]
    np.testing.assert_allclose(model.scores(torch.arange(train.n_users)).detach(), expected, rtol=1e-4, atol=1e-5)


def test_folding_in_a_history_is_scoring_its_user_exactly(train: Interactions) -> None:
    model = made(train).eval()
    users = torch.tensor([3, 0, 3])
    assert torch.equal(model.fold_in(train.csr.take(users)), model.scores(users))
    assert "user" not in " ".join(model.state_dict())


def test_training_draws_z_and_drops_items_with_the_right_moments(train: Interactions) -> None:
    model, users = made(train, dropout=0.5).train(), torch.zeros(40_000, dtype=torch.int64)
    seen: list[torch.Tensor] = []
    model.to_latent.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.bias.data.zero_()
    model.item.weight.data.mul_(1e-3)  # where tanh is linear
    mean, log_variance = model.encode(model.history(users))
    model.eval()
    model.encode(model.history(users[:1]))
    torch.testing.assert_close(seen[0].mean(0), seen[1][0], atol=1e-5, rtol=0.05)
    assert bool((seen[0].std(0) > 0).all())
    model.train()
    z = model.sample(torch.ones(200_000, 1), torch.full((200_000, 1), math.log(4.0)))
    assert z.mean().item() == pytest.approx(1, abs=0.03)
    assert z.std().item() == pytest.approx(2, rel=0.02)
    assert mean.shape == log_variance.shape == (40_000, 3)


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_divergence_is_that_of_torch(pairs: list[tuple[float, float]]) -> None:
    mean, log_variance = torch.tensor(pairs, dtype=torch.float64).T.unsqueeze(1)
    own = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = torch.distributions.kl_divergence(own, prior).sum(-1)
    torch.testing.assert_close(divergence(mean, log_variance), expected)


def test_elbo_is_the_direct_sum(train: Interactions) -> None:
    model, beta, batch = made(train).eval(), 0.3, step(train)  # in eval mode z is the mean
    total = 0.0
    for user in range(train.n_users):
        mean, log_variance = slow(model, train, user)
        scores = decoded(model, mean)
        for item in set(train.item[train.user == user].tolist()):
            total -= scores[item] - math.log(sum(math.exp(score) for score in scores))
        for m, v in zip(mean, log_variance, strict=True):
            total += beta * 0.5 * (math.exp(v) + m * m - 1 - v)
    view = ModelView(model, batch.query, train.csr)
    found = ELBO(beta)(model, batch, view, torch.Generator()).item()
    assert found == pytest.approx(total / train.n_users, rel=1e-5)


def test_elbo_of_a_plain_model_is_the_likelihood(train: Interactions) -> None:
    model, batch = MF(Schema(train.n_users, train.n_items), dim=3, init_std=1.0), step(train)
    log_p = model.scores(torch.arange(train.n_users)).log_softmax(-1)
    pairs = {(u, i) for u, i in zip(train.user.tolist(), train.item.tolist(), strict=True)}
    expected = -sum(log_p[u, i].item() for u, i in pairs) / train.n_users
    view = ModelView(model, batch.query, train.csr)
    assert ELBO(9.0)(model, batch, view, torch.Generator()).item() == pytest.approx(expected, rel=1e-5)


def test_beta_grows_with_the_steps_and_goes_on_where_it_was(train: Interactions, tmp_path: Path) -> None:
    model, objective = made(train).train(), ELBO(beta=0.4, anneal=4)
    found = [float(objective.annealed(model)) for _ in range(2)]
    save_model(tmp_path, model, NET)
    again = load_model(tmp_path, train)
    assert isinstance(again, MultVAE)
    found += [float(objective.annealed(again.train())) for _ in range(4)]
    assert found == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.4])
    assert float(objective.annealed(again.eval())) == float(objective.annealed(again))  # looking does not count


def test_gradients_reach_every_parameter(train: Interactions) -> None:
    model, batch = made(train, dropout=0.5).train(), step(train)
    ELBO()(model, batch, ModelView(model, batch.query, train.csr), torch.Generator()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name


def test_a_user_without_items_has_the_scores_of_no_items(train: Interactions) -> None:
    model = made(train).eval()
    nothing = torch.empty(0, dtype=torch.int64)
    scores = model.fold_in(Csr.from_pairs(nothing, nothing, 2))
    expected = model.decode(model.to_latent(model.bias.tanh()).chunk(2, -1)[0])
    torch.testing.assert_close(scores, expected.expand(2, -1))
