"""Hard losses against loops over their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from recdistill.data.interactions import Dataset, Interactions, Schema
from recdistill.distillers.views import ModelView
from recdistill.models.base import RankingModel
from recdistill.models.lightgcn import LightGCN
from recdistill.models.mf import MF
from recdistill.models.popularity import Popularity
from recdistill.tasks.batches import RankingBatch, generator, ranking_epoch, user_epoch
from recdistill.tasks.objectives import BPR, Objective, Softmax, bpr
from recdistill.tasks.ranking import Ranking, scorer


def loss_of(objective: Objective, model: RankingModel, batch: RankingBatch, train: Interactions) -> Tensor:
    return objective(model, batch, ModelView(model, batch.query, train.csr), generator("cpu", batch.seed))


def batch_of(train: Interactions, negatives: int) -> RankingBatch:
    return ranking_epoch(train, seed=1, epoch=0, batch_size=9, negatives=negatives, queries=4).batch(0)


def model_for(schema: Schema, train: Interactions, kind: type[RankingModel] = MF) -> RankingModel:
    torch.manual_seed(0)
    model = kind(schema, dim=4, init_std=1.0)  # type: ignore[call-arg]
    model.bind(train)
    return model


@pytest.mark.parametrize("kind", [MF, LightGCN])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_bpr_is_the_loop(schema: Schema, train: Interactions, kind: type[RankingModel], l2: float) -> None:
    model, batch = model_for(schema, train, kind), batch_of(train, 3)
    z = model.scores(torch.arange(train.n_users)).tolist()
    terms, penalty = [], 0.0
    p, q = model.user.weight, model.item.weight  # type: ignore[attr-defined]
    for user, item, others in zip(batch.user.tolist(), batch.item.tolist(), batch.negative.tolist(), strict=True):
        terms += [-math.log(1 / (1 + math.exp(-(z[user][item] - z[user][j])))) for j in others]
        rows = [p[user], q[item], *(q[j] for j in others)]
        penalty += sum(row.square().sum().item() for row in rows) / 2
    expected = sum(terms) / len(terms) + l2 * penalty / len(batch.user)
    assert loss_of(BPR(negatives=3, l2=l2), model, batch, train).item() == pytest.approx(expected, rel=1e-5)


def test_bpr_against_shared_negatives_is_the_loop(schema: Schema, train: Interactions) -> None:
    model, batch = model_for(schema, train), batch_of(train, 0)
    objective = BPR(negatives=3, shared=50)
    assert objective.negatives == 0
    others = torch.randint(train.n_items, (50,), generator=generator("cpu", batch.seed)).tolist()
    z = model.scores(torch.arange(train.n_users)).tolist()
    terms = [
        math.log1p(math.exp(z[u][j] - z[u][i]))
        for u, i in zip(batch.user.tolist(), batch.item.tolist(), strict=True)
        for j in others
    ]
    assert loss_of(objective, model, batch, train).item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_bpr_survives_huge_gaps_and_passes_gradcheck() -> None:
    assert float(bpr(torch.tensor([0.0]), torch.tensor([[1e4]]))) == pytest.approx(1e4)
    assert float(bpr(torch.tensor([1e4]), torch.tensor([[0.0]]))) == 0
    x = torch.randn(4, dtype=torch.float64, requires_grad=True)
    y = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(bpr, (x, y))


@pytest.mark.parametrize("kind", [MF, LightGCN])
@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_softmax_is_the_loop(schema: Schema, train: Interactions, temperature: float, kind: type[RankingModel]) -> None:
    model = model_for(schema, train, kind)
    batch = user_epoch(train, seed=1, epoch=0, batch_size=7).batch(0)
    z = (model.scores(torch.arange(train.n_users)) / temperature).tolist()
    total = 0.0
    for user in batch.query.tolist():
        items = train.item[train.user == user].tolist()
        norm = math.log(sum(math.exp(x) for x in z[user]))
        total += sum(norm - z[user][i] for i in items) / len(items)
    loss = loss_of(Softmax(temperature), model, batch, train)
    assert loss.item() == pytest.approx(total / len(batch.query), rel=1e-5)
    loss.backward()
    for p in model.parameters():
        assert p.grad is not None
        assert p.grad.abs().sum() > 0


def test_softmax_of_a_model_without_vectors(schema: Schema, train: Interactions) -> None:
    model = Popularity(schema)
    model.fit(train)
    batch = user_epoch(train, seed=1, epoch=0, batch_size=3).batch(0)
    row, item = train.csr.rows(batch.query)
    log_p = torch.log_softmax(model.scores(batch.query) / 2.0, -1)[row, item]
    expected = -torch.stack([log_p[row == k].mean() for k in range(len(batch.query))]).mean()
    torch.testing.assert_close(loss_of(Softmax(2.0), model, batch, train), expected)


def test_l2_needs_vectors(schema: Schema, train: Interactions) -> None:
    model = Popularity(schema)
    with pytest.raises(TypeError, match="Popularity has none"):
        loss_of(BPR(l2=0.1), model, batch_of(train, 1), train)


def test_the_graph_is_walked_once_per_step(
    schema: Schema, train: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_for(schema, train, LightGCN)
    calls = []
    walk = LightGCN._propagate
    monkeypatch.setattr(LightGCN, "_propagate", lambda self: (calls.append(1), walk(self))[1])
    batch = batch_of(train, 0)
    view = ModelView(model, batch.query, train.csr)
    BPR(shared=5)(model, batch, view, generator("cpu", 1))
    view.scores(torch.tensor([1, 2]))  # as a distiller asks after the hard loss
    view.log_normaliser()
    assert len(calls) == 1


def test_weighted_shares_give_the_gradient_of_one_process(schema: Schema, train: Interactions) -> None:
    model = model_for(schema, train)
    plan = ranking_epoch(train, seed=1, epoch=0, batch_size=5, negatives=1, queries=2)
    loss_of(BPR(), model, plan.batch(0), train).backward()
    expected = model.user.weight.grad.clone()  # type: ignore[attr-defined]
    model.zero_grad()
    for rank in range(7):  # more processes than samples
        share = plan.batch(0, rank, 7)
        (share.weight * loss_of(BPR(), model, share, train) / 7).backward()
    torch.testing.assert_close(model.user.weight.grad, expected)  # type: ignore[attr-defined]


class TestRanking:
    def test_the_scorer_gives_the_model_s_scores_in_float32(self, schema: Schema, train: Interactions) -> None:
        for model in (model_for(schema, train, LightGCN).eval(), Popularity(schema)):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                scores = scorer(model)(torch.tensor([3, 1]))
            assert scores.dtype == torch.float32
            torch.testing.assert_close(scores, model.scores(torch.tensor([3, 1])).detach())

    def test_seen_items_are_those_of_the_parts_before(self, schema: Schema, train: Interactions) -> None:
        unseen = [
            next(i for i in range(train.n_items) if not bool(train.csr.contains(torch.tensor([u]), torch.tensor([i]))))
            for u in range(train.n_users)
        ]
        part = Interactions(torch.arange(train.n_users), torch.tensor(unseen), train.n_users, train.n_items)
        ids = torch.arange(train.n_items).numpy().astype(str)
        data = Dataset(train, part, part, ids, ids, {}, {}, "x")
        model = Popularity(schema)
        model.fit(train)
        hits = {name: Ranking().evaluate(model, data, name, [train.n_items]) for name in ("valid", "test")}
        found = {name: result.means()[f"recall@{train.n_items}"] for name, result in hits.items()}
        assert found["valid"] == 1
        assert found["test"] == 0  # validation items are masked, and here they are the test items, too

    def test_epochs_follow_the_objective(self, train: Interactions) -> None:
        common = {"seed": 1, "epoch": 0, "batch_size": 8, "queries": 2}
        assert Ranking().epoch(train, Softmax(), **common).item.numel() == 0
        assert Ranking().epoch(train, BPR(negatives=4), **common).negative.shape == (len(train), 4)

    def test_the_sets_move_with_the_data(self, train: Interactions) -> None:
        moved = Ranking().prepare(train, torch.device("cpu"))
        assert torch.equal(moved.csr.indices, train.csr.indices)
        assert moved.n_items == train.n_items
