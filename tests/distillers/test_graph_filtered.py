"""The graph filter against the matrix that it is, and what a step sees of it."""

from __future__ import annotations

import pytest
import torch
from distiller_parts import make_mf
from torch import Tensor

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.base import Setting
from recdistill.distillers.features import hint_loss
from recdistill.distillers.filtered import GraphFiltered, cosine_gap, filter_rows
from recdistill.distillers.teacher import LiveTeacher
from recdistill.distillers.views import ModelView
from recdistill.models.base import FactorModel
from recdistill.tasks.batches import generator


def made(train: Interactions, **more: float) -> GraphFiltered:
    distiller = GraphFiltered(**{"neighbours": 1000, "rows": 8, "alpha": 0.3, **more})  # type: ignore[arg-type]
    torch.manual_seed(5)
    distiller.prepare(Setting(4, 6, train=train))
    return distiller


def filtered(model: FactorModel, train: Interactions, alpha: float) -> tuple[Tensor, Tensor]:
    """H E of all users and items, with H written out."""
    n = train.n_users + train.n_items
    adjacency = torch.zeros(n, n)
    adjacency[train.user, train.n_users + train.item] = 1
    adjacency += adjacency.T.clone()
    root = adjacency.sum(1).clamp(min=1).sqrt()
    h = (1 - alpha) * torch.eye(n) + alpha * adjacency / root / root.unsqueeze(1)
    both: Tensor = h @ torch.cat(model.factors())
    return both[: train.n_users].detach(), both[train.n_users :].detach()


@pytest.fixture
def both(schema: Schema) -> tuple[FactorModel, FactorModel]:
    return make_mf(schema, 1), make_mf(schema, 2, 5)


@pytest.mark.parametrize("cosine", [False, True])
def test_with_all_neighbours_it_is_the_filter(
    both: tuple[FactorModel, FactorModel], train: Interactions, cosine: bool
) -> None:
    (student, teacher), distiller, users = both, made(train, cosine=cosine), torch.tensor([4, 0, 7])
    view = ModelView(student, users, train.csr)
    found = distiller(view, LiveTeacher(teacher, train).view(users), generator("cpu", 1))
    items = distiller.draw(train.n_items, generator("cpu", 1))
    means = []
    for side, (mapping, rows) in enumerate(zip(distiller.maps, (users, items), strict=True)):
        s, t = (filtered(model, train, 0.3)[side][rows] for model in both)
        means.append((cosine_gap if cosine else hint_loss)(mapping(s), t).item())
    assert found.item() == pytest.approx(sum(means) / 2, rel=1e-4)


def test_no_share_of_the_neighbours_is_a_hint(both: tuple[FactorModel, FactorModel], train: Interactions) -> None:
    (student, teacher), distiller, users = both, made(train, alpha=0.0), torch.tensor([4, 0, 7])
    found = distiller(
        ModelView(student, users, train.csr), LiveTeacher(teacher, train).view(users), generator("cpu", 1)
    )
    items = distiller.draw(train.n_items, generator("cpu", 1))
    pairs = [(model.factors()[0][users], model.factors()[1][items]) for model in both]
    means = [hint_loss(m(s), t).item() for m, s, t in zip(distiller.maps, *pairs, strict=True)]
    assert found.item() == pytest.approx(sum(means) / 2, rel=1e-5)


def test_some_neighbours_are_all_on_average(train: Interactions) -> None:
    distiller = made(train, neighbours=2)
    users, total = torch.arange(train.n_users), torch.zeros(train.n_users, train.n_items)
    seen = torch.zeros(train.n_users, train.n_items)
    seen[train.user, train.item] = 1
    rng, times = generator("cpu", 1), 4000
    for _ in range(times):
        near, factor = distiller.near(users, "users", rng)
        assert near.shape == (train.n_users, 2)
        total.scatter_add_(1, near, factor / times)
    expected = seen / (seen.sum(1, keepdim=True) * seen.sum(0)).clamp(min=1).sqrt()
    torch.testing.assert_close(total, expected, atol=0.03, rtol=0)


def test_of_nothing_seen_nothing_comes(full_user: Interactions) -> None:
    lonely = Interactions(full_user.user, full_user.item, 4, 8)  # user 3, items 6 and 7
    distiller = made(lonely, neighbours=3)
    for name, rows in (("users", torch.tensor([3])), ("items", torch.tensor([6, 7]))):
        near, factor = distiller.near(rows, name, generator("cpu", 1))
        assert not factor.any()
        assert near.max() < (8 if name == "users" else 4)


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_without_a_graph_only_what_is_ones_own_is_left(
    both: tuple[FactorModel, FactorModel], schema: Schema, alpha: float
) -> None:
    """H is (1 - alpha) I where nothing was seen."""
    nothing = torch.zeros(0, dtype=torch.int64)
    empty = Interactions(nothing, nothing, schema.n_users, schema.n_items)
    (student, teacher), distiller, users = both, made(empty, alpha=alpha, neighbours=3), torch.tensor([4, 0, 7])
    found = distiller(
        ModelView(student, users, empty.csr), LiveTeacher(teacher, empty).view(users), generator("cpu", 1)
    )
    items = distiller.draw(empty.n_items, generator("cpu", 1))
    pairs = [((1 - alpha) * model.factors()[0][users], (1 - alpha) * model.factors()[1][items]) for model in both]
    means = [hint_loss(m(s), t).item() for m, s, t in zip(distiller.maps, *pairs, strict=True)]
    assert found.item() == pytest.approx(sum(means) / 2, rel=1e-5)


def test_gradcheck_and_extremes() -> None:
    g = torch.Generator().manual_seed(0)
    own, others, factor = (
        torch.randn(*shape, dtype=torch.float64, generator=g) for shape in ((3, 2), (3, 4, 2), (3, 4))
    )
    target = torch.randn(3, 2, dtype=torch.float64, generator=g)
    for loss in (hint_loss, cosine_gap):
        assert torch.autograd.gradcheck(
            lambda x, y: loss(filter_rows(x, y, factor, 0.4), target),  # noqa: B023
            (own.clone().requires_grad_(), others.clone().requires_grad_()),
        )
        for scale in (0.0, 1e4):
            x = (scale * own.float()).requires_grad_()
            loss(x, scale * target.float()).backward()
            assert x.grad is not None
            assert bool(x.grad.isfinite().all())


def test_the_graph_is_in_no_checkpoint(train: Interactions) -> None:
    assert all(name.startswith("maps.") for name in made(train).state_dict())
