"""ALDI against its formula in plain numbers, and at its limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from distiller_parts import make_mf
from list_parts import randn, sigmoid, views
from torch import Tensor

from recdistill.data.features import Features, sizes_of
from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.aldi import ALDI, aligned, told_apart, trust
from recdistill.distillers.base import Needs, Setting
from recdistill.errors import InputError
from recdistill.models.base import FactorModel
from recdistill.models.mf import MF
from recdistill.tasks.batches import generator

NONE = {"rating": 0.0, "ranking": 0.0, "identification": 0.0, "embedding": 0.0}
USERS = torch.tensor([3, 1, 0])


def ready(train: Interactions, dims: tuple[int, int] = (4, 6), **shares: float) -> ALDI:
    distiller = ALDI(pairs=5, **(NONE | shares))  # type: ignore[arg-type]
    torch.manual_seed(0)
    distiller.prepare(Setting(*dims, train=train))
    return distiller


def cross_entropy(x: float, y: float) -> float:
    return -y * math.log(sigmoid(x)) - (1 - y) * math.log(1 - sigmoid(x))


def by_hand(distiller: ALDI, student: FactorModel, teacher: FactorModel, train: Interactions) -> Mapping[str, float]:
    """The docstring's formulas, over the triples that were drawn."""
    items, _ = distiller.draw(views(student, teacher, train, USERS)[0], generator("cpu", 1))
    (p, v), (q, e) = ([part.double().tolist() for part in model.factors()] for model in (student, teacher))
    counts = [int((train.user == user).sum()) for user in range(train.n_users)]
    known = [sum(1 / counts[u] for u in train.user[train.item == i].tolist()) for i in range(train.n_items)]
    mean = sum(known) / len(known)

    def dot(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    triples = [(u, i, j) for u, row in zip(USERS.tolist(), items.tolist(), strict=True)
               for i, j in zip(row[:5], row[5:], strict=True)]  # fmt: skip
    others = [j for *_, j in triples]
    terms: dict[str, list[float]] = {name: [] for name in NONE}
    for u, i, j in triples:
        assert i in train.item[train.user == u].tolist()
        trusted = math.tanh(4 * min(known[i] / mean, 1))
        s_i, s_j, t_i, t_j = dot(p[u], v[i]), dot(p[u], v[j]), dot(q[u], e[i]), dot(q[u], e[j])
        terms["rating"].append(abs(t_i - s_i) + abs(t_j - s_j))
        terms["ranking"].append(trusted * cross_entropy(s_i - s_j, sigmoid(t_i - t_j)))
        d_s, d_t = (dot(x[i], x[i]) - sum(dot(x[i], x[o]) for o in others) / len(others) for x in (v, e))
        terms["identification"].append(trusted * cross_entropy(d_s, sigmoid(d_t)))
        if hasattr(distiller, "item_map"):
            mapped = distiller.item_map(torch.tensor(v[i])).tolist()
            terms["embedding"].append(sum((a - b) ** 2 for a, b in zip(mapped, e[i], strict=True)) / len(e[i]))
    return {name: sum(values) / len(values) for name, values in terms.items() if values}


@pytest.mark.parametrize("name", NONE)
def test_each_term_is_its_formula(name: str, student: FactorModel, teacher: FactorModel, train: Interactions) -> None:
    distiller = ready(train, **{name: 0.7})
    loss = distiller(*views(student, teacher, train, USERS), generator("cpu", 1))
    expected = by_hand(distiller, student, teacher, train)[name]
    assert loss.item() == pytest.approx(0.7 * expected, rel=1e-4)
    (part, share) = distiller.parts[name]
    assert (part.item(), share) == (pytest.approx(expected, rel=1e-4), 0.7)
    assert list(distiller.parts) == [name]
    assert not part.requires_grad


def test_the_loss_is_the_sum(student: FactorModel, teacher: FactorModel, train: Interactions) -> None:
    shares = {"rating": 0.1, "ranking": 0.9, "identification": 0.05, "embedding": 2.0}
    distiller = ready(train, **shares)
    loss = distiller(*views(student, teacher, train, USERS), generator("cpu", 1))
    expected = by_hand(distiller, student, teacher, train)
    assert loss.item() == pytest.approx(sum(share * expected[name] for name, share in shares.items()), rel=1e-4)
    loss.backward()
    assert student.item.weight.grad.abs().sum() > 0  # type: ignore[union-attr]


def test_a_copy_of_the_teacher_has_nothing_to_learn(schema: Schema, train: Interactions) -> None:
    student = make_mf(schema, 1)
    distiller = ready(train, (4, 4), **dict.fromkeys(NONE, 1.0))
    loss = distiller(*views(student, make_mf(schema, 1), train, USERS), generator("cpu", 1))
    loss.backward()
    assert distiller.parts["rating"][0] == 0
    assert distiller.parts["embedding"][0] == 0
    for parameter in student.parameters():
        torch.testing.assert_close(parameter.grad, torch.zeros_like(parameter), atol=1e-6, rtol=0)


def test_gradients() -> None:
    student, teacher, weight = randn(4, 3).requires_grad_(), randn(4, 3, seed=1), randn(4, 3, seed=2).abs()
    assert torch.autograd.gradcheck(lambda s: aligned(s, teacher, weight), (student,))
    own, other = randn(5, 3).requires_grad_(), randn(7, 3, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(told_apart, (own, other))
    large = torch.full((3,), -1e4, requires_grad=True)
    aligned(large, -large.detach(), torch.ones(3)).backward()
    assert large.grad is not None
    assert bool(large.grad.isfinite().all())


def test_trust_grows_with_those_who_have_an_item(train: Interactions) -> None:
    found = trust(train, 4.0)
    assert bool(((found > 0) & (found <= math.tanh(4))).all())
    assert trust(train, 0.0).tolist() == [1.0] * train.n_items
    one = Interactions(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 1]), 3, 3)
    mean = (0.5 + 2.5 + 0) / 3
    assert trust(one, 2.0).tolist() == pytest.approx([math.tanh(2 * 0.5 / mean), math.tanh(2), 0.0])


def test_users_without_items_do_not_count(schema: Schema, student: FactorModel, teacher: FactorModel) -> None:
    """Of user 1 nothing is known, of user 2, the last, neither."""
    few = Interactions(torch.tensor([0, 0]), torch.tensor([2, 4]), schema.n_users, schema.n_items)
    distiller = ready(few, rating=1.0)
    items, has = distiller.draw(views(student, teacher, few, torch.tensor([1, 0, 2]))[0], generator("cpu", 1))
    assert has.tolist() == [False, True, False]
    assert set(items[1, :5].tolist()) <= {2, 4}
    both = distiller(*views(student, teacher, few, torch.tensor([1, 0, 2])), generator("cpu", 1))
    assert bool(both.isfinite())
    nobody = distiller(*views(student, teacher, few, torch.tensor([1, 2])), generator("cpu", 1))
    assert nobody.item() == 0


def test_draws_cover_what_a_user_has(student: FactorModel, teacher: FactorModel, train: Interactions) -> None:
    distiller = ALDI(pairs=4000)
    items, _ = distiller.draw(views(student, teacher, train, USERS)[0], generator("cpu", 3))
    for row, user in enumerate(USERS.tolist()):
        own = train.item[train.user == user]
        share = torch.bincount(items[row, :4000], minlength=train.n_items)[own] / 4000
        torch.testing.assert_close(share, torch.full_like(share, 1 / len(own)), atol=0.05, rtol=0)


def test_what_it_needs_and_refuses(train: Interactions) -> None:
    assert ALDI().needs() == Needs(scores=True, embeddings=True)
    assert ALDI(identification=0.0).needs() == Needs(scores=True)
    with pytest.raises(InputError, match="without a term"):
        ALDI(**NONE)
    with pytest.raises(InputError, match="the student has none"):
        ready(train, (0, 6), identification=1.0)


def test_a_content_student_learns_from_it(train: Interactions) -> None:
    """Down to what the best of its kind could reach, from a teacher of the same kind."""
    features = Features(vector={"text": torch.randn(train.n_items, 5, generator=generator("cpu", 0))})
    train = replace(train, item_features=features)
    schema = Schema(train.n_users, train.n_items, item_features=sizes_of(features))
    student, teacher = content(schema, train, 1), content(schema, train, 2)
    distiller = ready(train, (3, 3), rating=1.0, ranking=1.0)
    optimizer = torch.optim.Adam(student.parameters(), 0.05)
    values: list[Tensor] = []
    for step in range(300):
        loss = distiller(*views(student, teacher, train, torch.arange(train.n_users)), generator("cpu", step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(distiller.parts["rating"][0])
    assert torch.stack(values[-10:]).mean() < 0.3 * torch.stack(values[:10]).mean()


def content(schema: Schema, train: Interactions, seed: int) -> FactorModel:
    torch.manual_seed(seed)
    model = MF(schema, 3, fusion="features", init_std=1.0)
    model.bind(train)
    return model
