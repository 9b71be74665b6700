"""SimGCL and XSimGCL against dense propagation, and their contrast against a loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.views import ModelView
from recdistill.errors import InputError
from recdistill.models.lightgcn import normalised_adjacency, shifted
from recdistill.models.mf import MF
from recdistill.models.neumf import NeuMF
from recdistill.models.simgcl import SimGCL, XSimGCL
from recdistill.tasks.batches import RankingBatch, ranking_epoch, user_epoch
from recdistill.tasks.objectives import BPR, GraphContrast, Softmax
from recdistill.tasks.objectives.graph_contrast import info_nce


def made(kind: type[SimGCL], train: Interactions, noise: float = 0.1) -> SimGCL:
    torch.manual_seed(0)
    model = kind(Schema(train.n_users, train.n_items), dim=4, layers=3, noise=noise, init_std=1.0)
    model.bind(train)
    return model


def dense_layers(model: SimGCL, train: Interactions) -> list[Tensor]:
    """A E0, A² E0, A³ E0."""
    a = normalised_adjacency(train).to_dense()
    x = torch.cat([model.user.weight, model.item.weight])
    return [torch.linalg.matrix_power(a, n) @ x for n in (1, 2, 3)]


def step(train: Interactions, batch_size: int = 20) -> RankingBatch:
    return ranking_epoch(train, seed=1, epoch=0, batch_size=batch_size, negatives=1, queries=0).batch(0)


@pytest.mark.parametrize("kind", [SimGCL, XSimGCL])
@pytest.mark.parametrize("training", [True, False])
def test_ranks_by_the_mean_of_the_layers_after_the_first(
    kind: type[SimGCL], training: bool, train: Interactions
) -> None:
    model = made(kind, train).train(training)
    expected = torch.stack(dense_layers(model, train)).mean(0)
    found = torch.cat(model.factors())
    if kind is XSimGCL and training:  # by shifted vectors: the mean of three shifts of .1, two of them smoothed
        far = (found - expected).norm(dim=1)
        assert bool((far > 0).all())
        assert bool((far < 0.1 * 5).all())
    else:
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_shift_has_its_length_and_stays_in_the_orthant() -> None:
    x = torch.randn(1000, 6, requires_grad=True)
    moved = shifted(x, 0.3)
    torch.testing.assert_close((moved - x).norm(dim=1), torch.full((1000,), 0.3), atol=1e-4, rtol=1e-4)
    assert bool((moved.sign() == x.sign()).all())
    moved.sum().backward()
    assert bool((x.grad == 1).all())  # type: ignore[union-attr]


def test_views_are_two_and_near(train: Interactions) -> None:
    model = made(SimGCL, train, noise=1e-3).train()
    first, second = model.views()
    expected = torch.stack(dense_layers(model, train)).mean(0)
    for view in (first, second):
        torch.testing.assert_close(torch.cat(view), expected, atol=5e-3, rtol=0)
    assert not torch.equal(first[0], second[0])


def test_the_views_of_xsimgcl_are_of_the_walk_that_is_ranked_by(train: Interactions) -> None:
    model = made(XSimGCL, train, noise=1e-3).train()
    user, item = model.factors()
    final, early = model.views()
    assert final[0] is user
    assert final[1] is item
    torch.testing.assert_close(torch.cat(early), dense_layers(model, train)[0], atol=5e-3, rtol=0)
    assert model.views()[0][0] is not user, "given out once"


def test_xsimgcl_walks_once_a_step(train: Interactions, monkeypatch: pytest.MonkeyPatch) -> None:
    walks = []
    plain = SimGCL.walk
    monkeypatch.setattr(SimGCL, "walk", lambda self, noise=0.0: walks.append(noise) or plain(self, noise))
    for kind, expected in ((SimGCL, [0.0, 0.1, 0.1]), (XSimGCL, [0.1])):
        model, batch = made(kind, train).train(), step(train)
        walks.clear()
        GraphContrast(BPR())(model, batch, ModelView(model, batch.query, train.csr), torch.Generator())
        assert sorted(walks) == expected


def slow_info_nce(a: list[list[float]], b: list[list[float]], temperature: float) -> float:
    def cosine(x: list[float], y: list[float]) -> float:
        return sum(p * q for p, q in zip(x, y, strict=True)) / (math.hypot(*x) * math.hypot(*y))

    total = 0.0
    for i, row in enumerate(a):
        below = sum(math.exp(cosine(row, other) / temperature) for other in b)
        total -= math.log(math.exp(cosine(row, b[i]) / temperature) / below)
    return total / len(a)


@pytest.mark.parametrize("temperature", [0.1, 0.2, 1.0])
def test_info_nce_is_the_loop_with_its_gradient(temperature: float) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(6, 3), torch.randn(6, 3)
    expected = slow_info_nce(a.tolist(), b.tolist(), temperature)
    assert info_nce(a, b, temperature).item() == pytest.approx(expected, rel=1e-5)
    moved = b.clone()
    moved[2, 1] += 1e-2
    b.requires_grad_()
    info_nce(a, b, temperature).backward()
    assert b.grad is not None
    slope = (slow_info_nce(a.tolist(), moved.tolist(), temperature) - expected) / 1e-2
    assert b.grad[2, 1].item() == pytest.approx(slope, rel=0.1, abs=1e-3)


@pytest.mark.parametrize("kind", [SimGCL, XSimGCL])
def test_the_loss_is_its_parts(kind: type[SimGCL], train: Interactions) -> None:
    model, batch, base = made(kind, train).train(), step(train), BPR()
    torch.manual_seed(5)
    view = ModelView(model, batch.query, train.csr)
    found = GraphContrast(base, weight=0.7, temperature=0.5)(model, batch, view, torch.Generator())
    torch.manual_seed(5)
    view = ModelView(model, batch.query, train.csr)
    expected = base(model, batch, view, torch.Generator()).item()
    first, second = model.views()
    for side, rows in ((0, batch.user), (1, batch.item)):
        ids = sorted(set(rows.tolist()))
        assert len(ids) < len(rows), "some come twice"
        expected += 0.7 * slow_info_nce(first[side][ids].tolist(), second[side][ids].tolist(), 0.5)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", [SimGCL, XSimGCL])
def test_gradients_reach_both_tables_step_after_step(kind: type[SimGCL], train: Interactions) -> None:
    model = made(kind, train).train()
    for _ in range(2):
        batch = user_epoch(train, seed=1, epoch=0, batch_size=5).batch(0)
        view = ModelView(model, batch.query, train.csr)
        GraphContrast(Softmax())(model, batch, view, torch.Generator()).backward()
        for parameter in model.parameters():
            assert parameter.grad is not None
            assert bool((parameter.grad != 0).any())


def test_a_model_without_views_is_shifted_and_one_without_vectors_is_refused(train: Interactions) -> None:
    schema, batch = Schema(train.n_users, train.n_items), step(train)
    model = MF(schema, dim=4, init_std=1.0)
    view = ModelView(model, batch.query, train.csr)
    plain, more = (loss(model, batch, view, torch.Generator()) for loss in (BPR(), GraphContrast(BPR())))
    assert more.item() > plain.item()
    other = NeuMF(schema)
    with pytest.raises(InputError, match="NeuMF has none"):
        GraphContrast(BPR())(other, batch, ModelView(other, batch.query, train.csr), torch.Generator())


def test_a_layer_that_is_not_there() -> None:
    with pytest.raises(InputError, match="contrast_layer=4"):
        XSimGCL(Schema(3, 4), layers=3, contrast_layer=4)
