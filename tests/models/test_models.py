"""Models against dense and brute-force versions of their formulas."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from recdistill.data.interactions import Interactions, Schema
from recdistill.errors import InputError
from recdistill.models.base import RankingModel, VectorModel, vector_size
from recdistill.models.build import build, instantiate
from recdistill.models.dot import dot_scores, log_normaliser, pair_scores
from recdistill.models.lightgcn import LightGCN, normalised_adjacency
from recdistill.models.linear import EASE, ItemKNN
from recdistill.models.mf import MF
from recdistill.models.popularity import Popularity


def dense(train: Interactions) -> np.ndarray:
    matrix = np.zeros((train.n_users, train.n_items))
    for user, item in zip(train.user.tolist(), train.item.tolist(), strict=True):
        matrix[user, item] = 1
    return matrix


def all_models(train: Interactions) -> list[RankingModel]:
    schema = Schema(train.n_users, train.n_items)
    torch.manual_seed(0)
    models: list[RankingModel] = [
        MF(schema, dim=3, init_std=1.0), MF(schema, dim=3, item_bias=True, init_std=1.0),
        LightGCN(schema, dim=3, init_std=1.0), EASE(schema, l2=2.0), ItemKNN(schema, k=4), Popularity(schema),
    ]  # fmt: skip
    for model in models:
        model.bind(train)
        if hasattr(model, "fit"):
            model.fit(train)
        if getattr(model, "bias", None) is not None:
            torch.nn.init.normal_(model.bias)
    return models


@pytest.mark.parametrize("index", range(6))
def test_part_of_the_catalogue_agrees_with_the_whole(train: Interactions, index: int) -> None:
    model = all_models(train)[index]
    users = torch.tensor([3, 0, 3, 11])
    full = model.scores(users)
    assert full.shape == (4, train.n_items)
    shared = torch.tensor([5, 5, 1])
    own = torch.randint(train.n_items, (4, 6))
    torch.testing.assert_close(model.scores(users, shared), full[:, shared])
    torch.testing.assert_close(model.scores(users, own), full.gather(1, own))
    for row, user in enumerate(users):
        torch.testing.assert_close(model.scores(user.unsqueeze(0))[0], full[row])


def test_mf_is_the_dot_product_and_the_bias(schema: Schema) -> None:
    model = MF(schema, dim=4, item_bias=True, init_std=1.0)
    assert model.bias is not None
    torch.nn.init.normal_(model.bias)
    p, q = model.user.weight.detach().numpy(), model.item.weight.detach().numpy()
    expected = [[p[u] @ q[i] + model.bias[i].item() for i in range(schema.n_items)] for u in (2, 7)]
    np.testing.assert_allclose(model.scores(torch.tensor([2, 7])).detach(), expected, rtol=1e-5, atol=1e-6)
    # A penalty on weights is one on what is learned, not on the column of ones.
    assert model.raw_factors()[0] is model.user.weight
    assert vector_size(model) == 5
    assert vector_size(Popularity(schema)) == 0


def dense_lightgcn(a: Tensor, e: Tensor, layers: int) -> Tensor:
    terms = [torch.linalg.matrix_power(a, n) @ e for n in range(layers + 1)]
    return torch.stack(terms).mean(0)


def dense_adjacency(train: Interactions) -> Tensor:
    r = torch.tensor(dense(train))
    size = train.n_users + train.n_items
    a = torch.zeros(size, size, dtype=torch.float64)
    a[: train.n_users, train.n_users :] = r
    a[train.n_users :, : train.n_users] = r.T
    d = a.sum(1).clamp(min=1).rsqrt()
    return d[:, None] * a * d


@pytest.mark.parametrize("layers", [1, 3])
def test_lightgcn_is_the_dense_propagation_with_its_gradient(train: Interactions, layers: int) -> None:
    a = dense_adjacency(train).float()
    torch.testing.assert_close(normalised_adjacency(train).to_dense(), a)
    model = LightGCN(Schema(train.n_users, train.n_items), dim=3, layers=layers, init_std=1.0)
    model.bind(train)
    e = torch.cat([model.user.weight, model.item.weight]).detach().requires_grad_()
    expected = dense_lightgcn(a, e, layers)
    user, item = model.factors()
    torch.testing.assert_close(torch.cat([user, item]), expected, atol=1e-5, rtol=1e-5)
    probe = torch.randn_like(e)
    (expected * probe).sum().backward()
    (torch.cat([user, item]) * probe).sum().backward()
    got = torch.cat([model.user.weight.grad, model.item.weight.grad])  # type: ignore[list-item]
    torch.testing.assert_close(got, e.grad, atol=1e-5, rtol=1e-5)


def test_lightgcn_counts_duplicates_once(train: Interactions) -> None:
    doubled = Interactions(train.user.repeat(2), train.item.repeat(2), train.n_users, train.n_items)
    assert torch.equal(normalised_adjacency(doubled).to_dense(), normalised_adjacency(train).to_dense())


def fresh(model: LightGCN) -> Tensor:
    with torch.no_grad():
        return torch.cat(model._propagate())


def cached(model: LightGCN) -> Tensor:
    with torch.no_grad():
        return torch.cat(model.factors())


@pytest.mark.parametrize("fused", [False, True])
def test_lightgcn_is_up_to_date_after_a_step(train: Interactions, fused: bool) -> None:
    model = LightGCN(Schema(train.n_users, train.n_items), dim=3)
    model.bind(train)
    for mode in (True, False):
        model.train(mode)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
        before = cached(model)
        model.scores(torch.arange(3)).square().sum().backward()
        optimizer.step()
        assert not torch.equal(cached(model), before)
        assert torch.equal(cached(model), fresh(model))


def test_a_frozen_lightgcn_walks_its_graph_once(train: Interactions) -> None:
    model = LightGCN(Schema(train.n_users, train.n_items), dim=3)
    model.bind(train)
    model.requires_grad_(False).eval()
    assert model.factors()[0] is model.factors()[0]
    with torch.inference_mode():
        model.load_state_dict({n: torch.randn_like(t) for n, t in model.state_dict().items()})
        assert torch.equal(cached(model), fresh(model))
    weight = torch.ones(3, requires_grad=True)
    (model.scores(torch.arange(3)).sum(1) @ weight).backward()  # no inference tensor is left in the way
    before = cached(model)
    model.user.weight.data = model.user.weight.data * 2  # as .to() does: new storage, old version
    assert not torch.equal(cached(model), before)
    before = cached(model)
    model.bind(Interactions(train.user.flip(0), train.item, train.n_users, train.n_items))
    assert not torch.equal(cached(model), before)
    assert torch.equal(cached(model), fresh(model))


def test_ease_is_the_closed_form(train: Interactions) -> None:
    model = EASE(Schema(train.n_users, train.n_items), l2=3.0)
    model.fit(train)
    x = dense(train)
    p = np.linalg.inv(x.T @ x + 3.0 * np.eye(train.n_items))
    b = -p / np.diag(p)
    np.fill_diagonal(b, 0)
    np.testing.assert_allclose(model.weight, b, atol=1e-6)
    np.testing.assert_allclose(model.scores(torch.arange(train.n_users)), x @ b, atol=1e-5)


@pytest.mark.parametrize(("k", "shrinkage"), [(1, 0.0), (4, 10.0), (99, 0.0)])
def test_item_knn_is_the_loop(train: Interactions, k: int, shrinkage: float) -> None:
    model = ItemKNN(Schema(train.n_users, train.n_items), k=k, shrinkage=shrinkage)
    model.fit(train)
    x = dense(train)
    n = train.n_items
    for i in range(n):
        similarity = {}
        for j in range(n):
            norm = np.sqrt(x[:, i].sum() * x[:, j].sum())
            similarity[j] = 0.0 if i == j else (x[:, i] @ x[:, j]) / (norm + shrinkage)
        best = sorted(similarity.values(), reverse=True)[: min(k, n)]
        np.testing.assert_allclose(sorted(model.weight[:, i].tolist(), reverse=True)[: len(best)], best, atol=1e-6)
        for j in torch.nonzero(model.weight[:, i]).flatten().tolist():
            assert model.weight[j, i] == pytest.approx(similarity[j])
    np.testing.assert_allclose(model.scores(torch.arange(train.n_users)), x @ model.weight.numpy(), atol=1e-5)


def test_item_knn_without_shrinkage_knows_an_item_nobody_has(train: Interactions) -> None:
    wider = Interactions(train.user, train.item, train.n_users, train.n_items + 1)
    model = ItemKNN(Schema(train.n_users, train.n_items + 1), shrinkage=0.0)
    model.fit(wider)
    assert model.scores(torch.arange(3))[:, -1].tolist() == [0, 0, 0]


def test_users_without_history_score_zero() -> None:
    train = Interactions(torch.tensor([1, 1]), torch.tensor([0, 1]), 3, 2)
    model = ItemKNN(Schema(3, 2), shrinkage=0.0)
    model.fit(train)
    assert model.scores(torch.tensor([0, 2, 1, 0])).tolist() == [[0, 0], [0, 0], [1, 1], [0, 0]]


def test_histories_and_graphs_follow_the_model_and_stay_out_of_the_file(train: Interactions) -> None:
    for model in all_models(train)[2:5]:
        tensors = dict(model.named_buffers())
        assert tensors.keys() >= {"indptr", "indices"}
        assert set(model.state_dict()) <= {"weight", "user.weight", "item.weight"}


def test_popularity_counts_users(train: Interactions) -> None:
    model = Popularity(Schema(train.n_users, train.n_items))
    doubled = Interactions(train.user.repeat(2), train.item.repeat(2), train.n_users, train.n_items)
    model.fit(doubled)
    assert model.scores(torch.tensor([4]))[0].tolist() == dense(train).sum(0).tolist()


def test_log_normaliser_is_logsumexp_with_its_gradient() -> None:
    torch.manual_seed(0)
    q = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    v = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(log_normaliser(q, v), (q @ v.T).logsumexp(-1))
    assert torch.autograd.gradcheck(log_normaliser, (q, v))
    large = log_normaliser(100 * q, 100 * v)
    torch.testing.assert_close(large, (100 * q @ (100 * v).T).logsumexp(-1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert log_normaliser(q.float(), v.float()).dtype == torch.float32


def test_log_normaliser_without_some_items() -> None:
    torch.manual_seed(0)
    q = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    v = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    row, item = torch.tensor([0, 0, 3, 0, *[2] * 7]), torch.tensor([6, 1, 2, 6, *range(7)])
    kept = torch.ones(4, 7, dtype=torch.bool)
    kept[row, item] = False
    result = log_normaliser(q, v, (row, item))
    for place in (0, 1, 3):
        torch.testing.assert_close(result[place], (q @ v.T)[place][kept[place]].logsumexp(-1))
    assert result[2] < -1e8, "nothing is left"
    assert torch.autograd.gradcheck(lambda q, v: log_normaliser(q, v, (row, item)), (q, v))
    result[2].backward()
    assert not bool(q.grad.any())
    assert not bool(v.grad.any())


@pytest.mark.parametrize(("rows", "length", "dim"), [(70, 33, 500), (3, 4, 5), (0, 4, 5), (3, 0, 5)])
def test_scores_of_lists_and_their_gradients_are_those_of_the_matrix(rows: int, length: int, dim: int) -> None:
    """The first are more than are taken at a time; an item may stand in a list twice."""
    torch.manual_seed(0)
    u, v = (torch.randn(n, dim, dtype=torch.float64, requires_grad=True) for n in (9, 40))
    users, items = torch.randint(9, (rows,)), torch.randint(40, (rows, length))
    weight = torch.randn(rows, length, dtype=torch.float64)
    scores = dot_scores(u, v, users, items)
    expected = dot_scores(u, v, users).gather(1, items)
    torch.testing.assert_close(scores, expected)
    found = torch.autograd.grad((scores * weight).sum(), (u, v))
    torch.testing.assert_close(found, torch.autograd.grad((expected * weight).sum(), (u, v)))
    frozen = dot_scores(u.detach(), v, users, items)
    torch.testing.assert_close(torch.autograd.grad((frozen * weight).sum(), v)[0], found[1])


def test_gradients_of_lists_are_exact_under_autocast() -> None:
    """The backward pass of a step runs inside it."""
    torch.manual_seed(0)
    u, v = (torch.randn(n, 8, requires_grad=True) for n in (5, 30))
    users, items = torch.arange(5), torch.randint(30, (5, 7))
    expected = torch.autograd.grad(dot_scores(u, v, users, items).square().sum(), (u, v))
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(dot_scores(u, v, users, items).square().sum(), (u, v))
    torch.testing.assert_close(found, expected)


def test_pair_scores_are_entries_of_the_matrix() -> None:
    u, v = torch.randn(5, 3), torch.randn(8, 3)
    users, items = torch.tensor([4, 0, 4]), torch.tensor([1, 7, 0])
    full = dot_scores(u, v, torch.arange(5))
    torch.testing.assert_close(pair_scores(u, v, users, items), full[users, items])


def test_binding_draws_no_random_numbers(train: Interactions) -> None:
    for model in all_models(train):
        state = torch.get_rng_state()
        copy.deepcopy(model).bind(train)
        assert torch.equal(torch.get_rng_state(), state)
        assert isinstance(model, VectorModel) == (vector_size(model) > 0)


class TestInstantiate:
    def test_refuses_targets_outside_the_gate(self, schema: Schema) -> None:
        for target in (
            "os.system",
            "torch.load",
            "recdistill.models.mf.torch.load",
            "builtins.eval",
            3,
            None,
        ):
            with pytest.raises(InputError):
                build({"_target_": target}, schema)

    def test_refuses_a_nested_target(self, schema: Schema) -> None:
        for inner in ({"_target_": "os.getcwd"}, [{"_target_": "torch.load", "f": "x"}]):
            with pytest.raises(InputError, match="not allowed"):
                build({"_target_": "recdistill.models.mf.MF", "dim": inner}, schema)

    def test_refuses_an_interpolation(self, schema: Schema) -> None:
        with pytest.raises(InputError, match="plain value"):
            build({"_target_": "recdistill.models.mf.MF", "dim": "${oc.env:HOME}"}, schema)

    def test_refuses_what_is_no_model(self, schema: Schema) -> None:
        with pytest.raises(InputError, match="not a model"):
            build({"_target_": "recdistill.models.lightgcn.normalised_adjacency", "_partial_": True}, schema)
        with pytest.raises(InputError, match="names no class"):
            instantiate({"dim": 3})

    def test_reports_a_constructor_that_refuses(self) -> None:
        with pytest.raises(InputError, match="pool=2 must be at least k=3"):
            instantiate({"_target_": "recdistill.distillers.lists.RRD", "k": 3, "pool": 2})
