"""Losses on single places of the teacher's list, against their formulas in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from distiller_parts import make_mf
from list_parts import INF, randn, ranking, ready, sigmoid, value_of
from torch import Tensor

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.lists import FLOOR
from recdistill.distillers.positions import CD, RD, cd_loss, discrepancy_weights, position_weights, rd_loss
from recdistill.models.base import FactorModel
from recdistill.tasks.batches import generator


@pytest.mark.parametrize("temperature", [0.5, 1.0, 10.0])
def test_position_weights_fall_off_exponentially(temperature: float) -> None:
    raw = [math.exp(-r / temperature) for r in range(1, 6)]
    assert position_weights(5, temperature).tolist() == pytest.approx([x / sum(raw) for x in raw], rel=1e-5)


@pytest.mark.parametrize("mu", [0.01, 0.1, 2.0])
def test_discrepancy_weights_are_the_loop(mu: float) -> None:
    top, sampled = randn(4, 5), randn(4, 20, seed=1)
    sampled[:, 3], sampled[2] = FLOOR, FLOOR  # these do not count, and of user 2 nothing is known
    expected = []
    for zs, others in zip(top.tolist(), sampled.tolist(), strict=True):
        counted = [x for x in others if x > FLOOR]
        row = []
        for r, z in enumerate(zs, 1):
            estimate = 1 + math.floor(99 * sum(x > z for x in counted) / max(len(counted), 1))
            row.append(math.tanh(max(0.0, mu * (estimate - r))))
        expected.append(row)
    assert discrepancy_weights(top, sampled, 100, mu).tolist() == [pytest.approx(row, abs=1e-6) for row in expected]
    assert discrepancy_weights(top, sampled, 100, mu)[2].tolist() == [0] * 5


def test_the_estimated_rank_is_exact_when_all_items_are_sampled() -> None:
    scores = randn(3, 50)
    order = scores.argsort(-1, descending=True)
    top = scores.gather(1, order[:, 10:15])
    # Rank 11 at place 1, 12 at place 2, ...: ten ranks too deep; of 51 items, 50 are sampled.
    assert discrepancy_weights(top, scores, 51, 0.05).tolist() == [pytest.approx([math.tanh(0.5)] * 5)] * 3


def test_rd_is_the_loop(student: FactorModel, teacher: FactorModel, train: Interactions) -> None:
    users = torch.tensor([4, 1, 7])
    z_s, z_t = student.scores(torch.arange(12)).tolist(), teacher.scores(torch.arange(12))
    expected = []
    for user in users.tolist():
        top = ranking(z_t, train, user, 5)
        raw = [math.exp(-r / 2) for r in range(1, len(top) + 1)]
        expected.append(-sum(w / sum(raw) * math.log(sigmoid(z_s[user][i])) for w, i in zip(raw, top, strict=True)))
    distiller = RD(k=5, position_temperature=2.0)
    distiller.advance(0.1)
    assert value_of(distiller, student, teacher, train, users).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("normalised", [True, False])
def test_hybrid_rd_is_the_loop(
    student: FactorModel, teacher: FactorModel, train: Interactions, normalised: bool
) -> None:
    users = torch.tensor([4, 1, 7])
    z_s, z_t = student.scores(torch.arange(12)).tolist(), teacher.scores(torch.arange(12))
    drawn = torch.randint(17, (40,), generator=generator("cpu", 1)).tolist()
    expected = []
    for user in users.tolist():
        seen = train.item[train.user == user].tolist()
        top = ranking(z_t, train, user, 5)
        others = [z_s[user][i] for i in drawn if i not in seen and i not in top]
        weights, losses = [], []
        for r, i in enumerate(top, 1):
            estimate = 1 + math.floor(16 * sum(z > z_s[user][i] for z in others) / len(others))
            w_a = math.exp(-r / 2) / sum(math.exp(-x / 2) for x in range(1, 6))
            weights.append(w_a * math.tanh(max(0.0, 0.1 * (estimate - r))))
            losses.append(-math.log(sigmoid(z_s[user][i])))
        total = sum(w * loss for w, loss in zip(weights, losses, strict=True))
        expected.append(total / sum(weights) if normalised else total)
    assert min(expected) > 0
    distiller = RD(k=5, position_temperature=2.0, samples=40, normalised=normalised)
    distiller.advance(0.2)
    assert value_of(distiller, student, teacher, train, users).tolist() == pytest.approx(expected, rel=1e-4)


def test_rd_waits_before_it_looks_at_the_student() -> None:
    distiller = RD(hybrid_after=0.3)
    seen = []
    for progress in (0.0, 0.29, 0.3, 0.9):
        distiller.advance(progress)
        seen.append(distiller.hybrid)
    assert seen == [False, False, True, True]
    never = RD(hybrid_after=1.0)
    never.advance(1.0)
    assert not never.hybrid


def test_what_the_student_has_in_front_is_left_alone_by_hybrid_rd(teacher: FactorModel, train: Interactions) -> None:
    """No other item is above its own first k, so that no weight is left."""
    student = make_mf(Schema(train.n_users, train.n_items), 2, dim=5)
    distiller = RD(k=3, hybrid_after=0.0)
    distiller.advance(0.0)
    value = value_of(distiller, student, teacher, train, torch.arange(12)).mean()
    value.backward()
    assert value.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in student.parameters())


@pytest.mark.parametrize("shift", [0.0, 1.5])
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_cd_loss_is_the_loop(temperature: float, shift: float) -> None:
    s, t, listed = randn(3, 4), randn(3, 4, seed=1), torch.ones(3, 4, dtype=torch.bool)
    t[1, 2:], t[2] = -INF, -INF
    listed[1, 2:], listed[2] = False, False
    expected = []
    for a, b, inside in zip(s.tolist(), t.tolist(), listed.tolist(), strict=True):
        terms = []
        for z_s, z_t, there in zip(a, b, inside, strict=True):
            if there:
                q, p = sigmoid((z_t + shift) / temperature), sigmoid(z_s)
                terms.append(-q * math.log(p) - (1 - q) * math.log(1 - p))
        expected.append(sum(terms) / max(len(terms), 1))
    s.requires_grad_()
    loss = cd_loss(s, t, listed, temperature, shift)
    assert loss.tolist() == pytest.approx(expected)
    loss.sum().backward()
    assert s.grad is not None
    assert bool(s.grad[listed].all())
    assert not bool(s.grad[~listed].any())


def test_cd_has_its_minimum_at_the_softened_teacher() -> None:
    t = randn(2, 5)
    s = ((t + 1) / 2).requires_grad_()
    cd_loss(s, t, torch.ones(2, 5, dtype=torch.bool), 2.0, 1.0).sum().backward()
    assert s.grad is not None
    assert s.grad.abs().max() < 1e-12


@pytest.mark.parametrize("guide", ["teacher", "student"])
def test_cd_draws_from_the_list_of_its_guide(
    student: FactorModel, teacher: FactorModel, train: Interactions, guide: str
) -> None:
    """With k as long as the pool, the draw takes all of it."""
    distiller = CD(k=6, pool=6, guide=guide)  # type: ignore[arg-type]
    ready(distiller, student, teacher, train)
    users = torch.tensor([9, 0, 3])
    z = {"student": student.scores(torch.arange(12)), "teacher": teacher.scores(torch.arange(12))}
    expected = []
    for user in users.tolist():
        items = ranking(z[guide], train, user, 6)
        s, t = (z[who][user, items].unsqueeze(0).double() for who in ("student", "teacher"))
        expected.append(cd_loss(s, t, torch.ones_like(s, dtype=torch.bool), 2.0, 0.0).item())
    assert value_of(distiller, student, teacher, train, users).tolist() == pytest.approx(expected, rel=1e-5)


def test_cd_keeps_the_students_list_between_its_looks(
    student: FactorModel, teacher: FactorModel, train: Interactions
) -> None:
    distiller = CD(k=3, pool=6, guide="student", every=2)
    ready(distiller, student, teacher, train)
    before = distiller.lists.items.clone()
    moved = make_mf(Schema(train.n_users, train.n_items), 77)
    ready(distiller, moved, teacher, train, epoch=1)
    assert torch.equal(distiller.lists.items, before)
    ready(distiller, moved, teacher, train, epoch=2)
    assert not torch.equal(distiller.lists.items, before)
    assert "lists.items" in distiller.state_dict(), "a training that goes on needs them"


def losses(s: Tensor) -> dict[str, Tensor]:
    weights = position_weights(4, 2.0).double()
    listed = torch.tensor([[True, True, True, False]] * 3)
    return {"rd": rd_loss(s, weights), "cd": cd_loss(s, randn(3, 4, seed=9), listed, 2.0, 0.5)}


@pytest.mark.parametrize("name", ["rd", "cd"])
def test_gradcheck_and_large_scores(name: str) -> None:
    assert torch.autograd.gradcheck(lambda s: losses(s)[name], (randn(3, 4).requires_grad_(),))
    for scale in (1e4, -1e4):
        large = (scale * torch.ones(3, 4)).requires_grad_()
        losses(large)[name].sum().backward()
        assert large.grad is not None
        assert bool(large.grad.isfinite().all())


@pytest.mark.parametrize("make", [RD, CD])
def test_short_and_empty_lists(full_user: Interactions, make: type[RD] | type[CD]) -> None:
    student, teacher = make_mf(Schema(3, 6), 1), make_mf(Schema(3, 6), 2, dim=5)
    cases = [RD(k=4, hybrid_after=0.0)] if make is RD else [CD(k=3, pool=5), CD(k=3, pool=5, guide="student")]
    for distiller in cases:
        ready(distiller, student, teacher, full_user)
        value = value_of(distiller, student, teacher, full_user, torch.arange(3))
        assert value[0].item() == 0
        assert bool(value.isfinite().all())
        value.sum().backward()
        assert all(bool(p.grad.isfinite().all()) for p in student.parameters() if p.grad is not None)


def test_a_pool_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="pool=3 must be at least k=4"):
        CD(k=4, pool=3)
