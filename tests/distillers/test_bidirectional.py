"""Bidirectional distillation against loops in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from distiller_parts import make_mf
from hypothesis import given
from hypothesis import strategies as st
from list_parts import randn, ranking, ready, sigmoid, value_of

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.bidirectional import Bidirectional, followed, sharp_discrepancy
from recdistill.distillers.ranked_lists import Lists, places_behind
from recdistill.models.base import FactorModel

PERMUTATIONS = st.permutations(range(9))


def as_lists(*rows: list[int], length: int = 6) -> Lists:
    items = torch.tensor([[*row, *[0] * (length - len(row))] for row in rows])
    return items, torch.tensor([[True] * len(row) + [False] * (length - len(row)) for row in rows])


@pytest.mark.parametrize("temperature", [0.5, 2.0, 10.0])
def test_followed_is_the_loop(temperature: float) -> None:
    student, teacher = randn(5, 7, seed=1), 2 * randn(5, 7, seed=2)
    counted = randn(5, 7, seed=3) > -0.5
    counted[4] = False
    expected = []
    for z_s, z_t, kept in zip(student.tolist(), teacher.tolist(), counted.tolist(), strict=True):
        terms = []
        for s, t, count in zip(z_s, z_t, kept, strict=True):
            if count:
                q, p = sigmoid(t / temperature), sigmoid(s)
                terms.append(-q * math.log(p) - (1 - q) * math.log(1 - p))
        expected.append(sum(terms) / len(terms) if terms else 0.0)
    assert followed(student, teacher, counted, temperature).tolist() == pytest.approx(expected)


def test_gradient_of_followed() -> None:
    student, counted = randn(3, 4, seed=5).requires_grad_(), torch.ones(3, 4, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda z: followed(z, randn(3, 4, seed=6), counted, 2.0), student)
    same = randn(3, 4, seed=7).requires_grad_()
    followed(same, same.detach(), counted, 1.0).sum().backward()
    assert same.grad is not None
    assert same.grad.abs().max() < 1e-12, "at T = 1 who says the same has nothing to learn"


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_extreme_scores(scale: float) -> None:
    student = (scale * randn(4, 5, seed=8)).float().requires_grad_()
    followed(student, -student.detach(), torch.ones(4, 5, dtype=torch.bool), 1.0).sum().backward()
    assert student.grad is not None
    assert bool(student.grad.isfinite().all())


@given(PERMUTATIONS, PERMUTATIONS, st.integers(1, 6), st.integers(0, 6))
def test_sharp_discrepancy_is_the_loop(a: list[int], b: list[int], m: int, n: int) -> None:
    mine, other = a[:m], b[:n]
    gaps = [(other.index(i) + 1 if i in other else 7) - place for place, i in enumerate(mine, 1)]
    raw = [math.exp(gap / 2) for gap in gaps]
    expected = [value / max(raw) for value in raw] + [0.0] * (6 - m)
    behind = places_behind(as_lists(mine), as_lists(other))
    assert sharp_discrepancy(behind, as_lists(mine)[1], 2.0).tolist() == [pytest.approx(expected)]


def test_of_an_empty_list_nothing_is_drawn() -> None:
    nothing = as_lists([])
    assert sharp_discrepancy(places_behind(nothing, as_lists([1, 2])), nothing[1], 2.0).tolist() == [[0.0] * 6]


def test_it_is_the_paper_s_loss_where_all_gaps_are_drawn(
    student: FactorModel, teacher: FactorModel, train: Interactions
) -> None:
    """With k as long as the lists nothing is left to chance: all that the teacher ranks higher."""
    pool, users = 6, torch.tensor([4, 9, 0])
    distiller = Bidirectional(k=pool, pool=pool, temperature=3.0)
    ready(distiller, student, teacher, train)
    z_s, z_t = (model.scores(torch.arange(train.n_users)).double() for model in (student, teacher))
    expected = []
    for user in users.tolist():
        own, target = (ranking(z, train, user, pool) for z in (z_s, z_t))
        gap = {i: (own.index(i) + 1 if i in own else pool + 1) - place for place, i in enumerate(target, 1)}
        terms = []
        for i in (i for i in target if gap[i] > 0):
            q, p = sigmoid(z_t[user, i].item() / 3), sigmoid(z_s[user, i].item())
            terms.append(-q * math.log(p) - (1 - q) * math.log(1 - p))
        expected.append(sum(terms) / max(len(terms), 1))
    got = value_of(distiller, student, teacher, train, users)
    assert got.tolist() == pytest.approx(expected, rel=1e-5)


def test_who_ranks_alike_learns_nothing(schema: Schema, train: Interactions) -> None:
    distiller = Bidirectional(k=4, pool=8)
    student, teacher = make_mf(schema, 2), make_mf(schema, 2)
    ready(distiller, student, teacher, train)
    loss = value_of(distiller, student, teacher, train, torch.arange(5))
    assert loss.tolist() == [0.0] * 5
    loss.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in student.parameters())


def test_lists_stay_for_some_epochs(
    student: FactorModel, teacher: FactorModel, schema: Schema, train: Interactions
) -> None:
    distiller = Bidirectional(k=4, pool=8, every=3)
    ready(distiller, student, teacher, train)
    before = {name: tensor.clone() for name, tensor in distiller.state_dict().items()}
    assert set(before) == {"target.items", "target.behind"}, "in checkpoints"
    moved, learned = make_mf(schema, 7), make_mf(schema, 8)
    for epoch in (1, 2, 3):
        ready(distiller, moved, learned, train, epoch)
        same = [torch.equal(before[name], tensor) for name, tensor in distiller.state_dict().items()]
        assert same == [epoch < 3] * 2, "of both models"


def test_a_teacher_that_learns_looks_at_the_widest_gaps(
    student: FactorModel, teacher: FactorModel, train: Interactions
) -> None:
    """In the paper's code: tanh from teacher to student, exp from student to teacher."""
    users, values = torch.arange(12), {}
    for name, distiller in {
        "there": Bidirectional(k=1, pool=8), "tanh": Bidirectional(k=1, pool=8, emphasis="tanh"),
        "back": Bidirectional(k=1, pool=8), "exp": Bidirectional(k=1, pool=8, emphasis="exp"),
    }.items():  # fmt: skip
        if name == "back":
            distiller.swap()
        ready(distiller, student, teacher, train)
        values[name] = value_of(distiller, student, teacher, train, users).tolist()
    assert values["there"] == values["tanh"] != values["back"] == values["exp"]


@pytest.mark.parametrize("emphasis", ["tanh", "exp"])
def test_short_and_empty_lists(full_user: Interactions, emphasis: str) -> None:
    schema = Schema(full_user.n_users, full_user.n_items)
    student, teacher = make_mf(schema, 1), make_mf(schema, 2, dim=5)
    distiller = Bidirectional(k=4, pool=5, emphasis=emphasis)  # type: ignore[arg-type]
    ready(distiller, student, teacher, full_user)
    loss = value_of(distiller, student, teacher, full_user, torch.arange(3))
    assert bool(loss.isfinite().all())
    assert loss[0] == 0, "user 0 has everything"
    loss.sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in student.parameters())
    with torch.no_grad():
        student.item.weight[torch.tensor([0, 2, 3, 5])] += 100.0  # type: ignore[union-attr, operator]
    again = value_of(distiller, student, teacher, full_user, torch.arange(3))
    assert again[1].item() == pytest.approx(loss[1].item()), "what user 1 has in training is not looked at"
