"""Losses on what student and teacher rank differently, against plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from distiller_parts import make_mf
from hypothesis import given
from hypothesis import strategies as st
from list_parts import randn, ranking, ready, softmax, value_of, views

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.discrepancy import DCD, RCEKD, ComparedLists, corrections, discrepancy, draw_where, listed_ce
from recdistill.distillers.lists import FLOOR, rrd_loss
from recdistill.distillers.ranked_lists import Lists, RankedLists, places_behind, rank_in
from recdistill.models.base import FactorModel
from recdistill.tasks.batches import generator

PERMUTATIONS = st.permutations(range(9))


def as_lists(*rows: list[int], length: int = 6) -> Lists:
    """Lists of a length, short ones filled up."""
    items = torch.tensor([[*row, *[0] * (length - len(row))] for row in rows])
    listed = torch.tensor([[True] * len(row) + [False] * (length - len(row)) for row in rows])
    return items, listed


def compared(users: list[int], own: Lists, target: Lists) -> ComparedLists:
    """Buffers with these lists of some users."""
    both = ComparedLists(12, 6)
    for lists, (items, listed) in ((both.own, own), (both.target, target)):
        lists.items[users] = items.masked_fill(~listed, -1).int()
    both.own.compare(both.target)
    both.target.compare(both.own)
    return both


@given(PERMUTATIONS, PERMUTATIONS, st.integers(0, 6), st.integers(0, 6))
def test_discrepancy_is_the_loop(a: list[int], b: list[int], m: int, n: int) -> None:
    mine, other = a[:m], b[:n]
    expected = []
    for place in range(6):
        if place >= m:
            expected.append(0.0)
            continue
        there = other.index(mine[place]) + 1 if mine[place] in other else 7
        expected.append(max(0.0, math.tanh((there - (place + 1)) / 3)))
    behind = places_behind(as_lists(mine), as_lists(other))
    assert discrepancy(behind, as_lists(mine)[1], 3.0).tolist() == [pytest.approx(expected)]


@given(PERMUTATIONS, PERMUTATIONS, st.integers(0, 6))
def test_ranks(a: list[int], b: list[int], n: int) -> None:
    lists, listed = as_lists(b[:n])
    expected = [b.index(i) + 1 if i in b[:n] else 7 for i in a]
    assert rank_in(torch.tensor([a]), lists, listed).tolist() == [expected]


def test_only_discrepant_items_are_drawn_and_the_more_so_the_more_often() -> None:
    n = 20_000
    weights = torch.tensor([[0.5, 0.0, 0.25, 0.0, 1.0, 0.25]]).expand(n, 6)
    items = torch.arange(10, 16).expand(n, 6)
    drawn, counts = draw_where((items, weights > 0), weights, 1, generator("cpu", 1))
    assert bool(counts.all())
    for item, weight in zip(range(10, 16), weights[0].tolist(), strict=True):
        assert (drawn == item).double().mean().item() == pytest.approx(weight / 2, abs=0.015)
    drawn, counts = draw_where((items, weights > 0), weights, 5, generator("cpu", 1))
    assert counts.sum(1).eq(4).all()
    assert set(drawn[counts].tolist()) == {10, 12, 14, 15}
    assert bool((drawn[:, 1:] >= drawn[:, :-1]).all()), "in the order of the list"


def test_corrections_of_all_that_differs_are_the_loop(
    student: FactorModel, teacher: FactorModel, train: Interactions
) -> None:
    """When as many are drawn as the lists are long, nothing is left to chance."""
    users = torch.tensor([4, 9])
    view, _ = views(student, teacher, train, users)
    own, target = as_lists([1, 2, 3, 4], [5, 6, 7]), as_lists([2, 1, 8, 3], [5, 6, 7])
    z = student.scores(users).double()
    # Too low are 2 (2nd, should be 1st), 8 (not on it); 1 and 4 are too high, 4 being on no list of the teacher's.
    # 3 stands 3rd and should stand 4th.
    expected = rrd_loss(z[:1, [2, 8]], z[:1, [1, 3, 4]])
    got = corrections(view, compared([4, 9], own, target), 6, 10.0, generator("cpu", 1))
    assert got.tolist() == [pytest.approx(expected.item(), rel=1e-5), 0]


@pytest.mark.parametrize("candidates", ["catalogue", "list"])
def test_dcd_on_both_sides(student: FactorModel, teacher: FactorModel, train: Interactions, candidates: str) -> None:
    distiller = DCD(
        k=5, pool=5, users=4, user_pool=4, items=4000, item_weight=0.3, candidates=candidates,  # type: ignore[arg-type]
    )  # fmt: skip
    ready(distiller, student, teacher, train)
    z_s, z_t = (m.scores(torch.arange(12)).double() for m in (student, teacher))
    flipped = Interactions(train.item, train.user, 17, 12)

    def side(s: torch.Tensor, t: torch.Tensor, part: Interactions, query: int, k: int) -> float:
        target = ranking(t, part, query, k)
        own = ranking(s, part, query, k) if candidates == "catalogue" else sorted(target, key=lambda i: -s[query, i])
        under = [i for r, i in enumerate(target) if i not in own or own.index(i) > r]
        over = [i for r, i in enumerate(own) if i not in target or target.index(i) > r]
        rest = s[query, over].unsqueeze(0) if over else torch.full((1, 1), FLOOR)
        return rrd_loss(s[query, under].unsqueeze(0), rest).item()

    items = [side(z_s.T, z_t.T, flipped, item, 4) for item in range(17)]
    expected = [side(z_s, z_t, train, user, 5) + 0.3 * sum(items) / 17 for user in range(12)]
    assert value_of(distiller, student, teacher, train, torch.arange(12)).tolist() == pytest.approx(expected, rel=1e-4)


def test_dcd_has_nothing_to_correct_in_the_teacher_itself(teacher: FactorModel, train: Interactions) -> None:
    student = make_mf(Schema(12, 17), 2, dim=5)
    distiller = DCD(k=3, pool=5, users=3, user_pool=4)
    ready(distiller, student, teacher, train)
    value = value_of(distiller, student, teacher, train, torch.arange(12))
    value.sum().backward()
    assert value.tolist() == [0] * 12
    assert all(not p.grad.any() for p in student.parameters() if p.grad is not None)


def test_dcd_looks_at_the_student_now_and_then(student: FactorModel, teacher: FactorModel, train: Interactions) -> None:
    distiller = DCD(k=3, pool=5, users=3, user_pool=4, every=2)
    ready(distiller, student, teacher, train)
    before = {name: tensor.clone() for name, tensor in distiller.state_dict().items()}
    parts = [f"{side}_lists.{lists}" for side in ("item", "user") for lists in ("own", "target")]
    assert set(before) == {f"{part}.{name}" for part in parts for name in ("items", "behind")}
    moved = make_mf(Schema(12, 17), 77)
    ready(distiller, moved, teacher, train, epoch=1)
    assert all(torch.equal(before[name], tensor) for name, tensor in distiller.state_dict().items())
    ready(distiller, moved, teacher, train, epoch=2)
    after = distiller.state_dict()
    changed = {name for name, tensor in after.items() if not torch.equal(before[name], tensor)}
    assert changed == set(before) - {"item_lists.target.items", "user_lists.target.items"}, (
        "all but the lists of the teacher"
    )


def test_the_students_lists(full_user: Interactions) -> None:
    lists = RankedLists(3, 4)
    model = make_mf(Schema(3, 6), 1)
    lists.refresh(lambda users: views(model, model, full_user, users)[1].top_items(4), 6)
    z = model.scores(torch.arange(3))
    for user, length in ((0, 0), (1, 2), (2, 4)):
        best = ranking(z, full_user, user, 4)
        assert len(best) == length
        items, listed = lists.of(torch.tensor([user]))
        assert items[listed].tolist() == best
        assert int(listed.sum()) == length
    assert int(lists.of(torch.tensor([0]))[0].min()) == 0, "an id that can be looked up"


def cross_entropy(s: list[float], t: list[float], temperature: float) -> float:
    p, q = softmax(t, temperature), softmax(s, temperature)
    return -(temperature**2) * sum(a * math.log(b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_listed_ce_is_the_loop(temperature: float) -> None:
    s, t = randn(3, 5), randn(3, 5, seed=1)
    listed = torch.tensor([[True] * 5, [True, False, True, False, False], [False] * 5])
    expected = []
    for a, b, inside in zip(s.tolist(), t.tolist(), listed.tolist(), strict=True):
        rows = [[z for z, there in zip(row, inside, strict=True) if there] for row in (a, b)]
        expected.append(cross_entropy(*rows, temperature) if rows[0] else 0.0)
    s.requires_grad_()
    assert listed_ce(s, t, listed, temperature).tolist() == pytest.approx(expected)
    assert torch.autograd.gradcheck(lambda x: listed_ce(x, t, listed, temperature), (s,))
    large = (1e4 * randn(3, 5).float()).requires_grad_()
    listed_ce(large, 1e4 * t.float(), listed, temperature).sum().backward()
    assert large.grad is not None
    assert bool(large.grad.isfinite().all())


def test_rce_kd_is_the_loop(student: FactorModel, teacher: FactorModel, train: Interactions) -> None:
    """With a pool no longer than k, all of it is drawn."""
    distiller = RCEKD(k=5, pool=5, beta=2.0, temperature=1.5)
    ready(distiller, student, teacher, train)
    z_s, z_t = (m.scores(torch.arange(12)).double().tolist() for m in (student, teacher))
    expected = []
    for user in range(12):
        t, s = (ranking(torch.tensor(z), train, user, 5) for z in (z_t, z_s))
        hard = s + [i for i in t if i not in s]
        first, second = (
            cross_entropy([z_s[user][i] for i in items], [z_t[user][i] for i in items], 1.5) for items in (s, hard)
        )
        g = math.exp(-2.0 * len(set(s) & set(t)) / 5)
        expected.append((1 - g) * first + g * second)
    assert value_of(distiller, student, teacher, train, torch.arange(12)).tolist() == pytest.approx(expected, rel=1e-4)


def test_rce_kd_draws_rather_what_stands_above_the_teachers_items() -> None:
    distiller = RCEKD(k=3, pool=6, position_temperature=0.5)
    own, target = as_lists([10, 11, 12, 13, 14, 15], [20, 21, 22]), as_lists([13, 11, 99], [22, 20], length=3)
    weights = distiller.closure(places_behind(own, target), own[1])
    inf = math.inf
    assert weights.tolist() == [[4, 4, 2, 2, 0, 0], [4, 2, 2, -inf, -inf, -inf]]


def test_rce_kd_leaves_the_teacher_itself_alone(teacher: FactorModel, train: Interactions) -> None:
    student = make_mf(Schema(12, 17), 2, dim=5)
    distiller = RCEKD(k=3, pool=7)
    ready(distiller, student, teacher, train)
    value_of(distiller, student, teacher, train, torch.arange(12)).sum().backward()
    assert max(p.grad.abs().max().item() for p in student.parameters() if p.grad is not None) < 1e-5


@pytest.mark.parametrize("make", [DCD, RCEKD])
def test_users_who_have_seen_nearly_everything(full_user: Interactions, make: type[DCD] | type[RCEKD]) -> None:
    student, teacher = make_mf(Schema(3, 6), 1), make_mf(Schema(3, 6), 2, dim=5)
    distiller = DCD(k=4, pool=4, users=2, user_pool=3, item_weight=0.0) if make is DCD else RCEKD(k=4, pool=5)
    ready(distiller, student, teacher, full_user)
    value = value_of(distiller, student, teacher, full_user, torch.arange(3))
    value.sum().backward()
    assert value[0].item() == 0
    assert bool(value.isfinite().all())
    assert all(bool(p.grad.isfinite().all()) for p in student.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DCD(k=9, pool=8), "pool=8 must be at least k=9"),
        (lambda: DCD(users=9, user_pool=8), "user_pool=8 must be at least users=9"),
        (lambda: RCEKD(k=9, pool=8), "pool=8 must be at least k=9"),
    ],
)
def test_pools_that_are_too_short_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
