"""Pairs inside groups of like popularity: the groups, the draw, and the loss against plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from distiller_parts import make_mf
from hypothesis import given
from hypothesis import strategies as st
from list_parts import randn, ready, sigmoid, value_of

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.popularity_groups import UnKD, pair_loss, popularity_groups, quotas, truncated_geometric
from recdistill.models.base import FactorModel
from recdistill.tasks.batches import generator


@given(st.lists(st.integers(1, 50), min_size=4, max_size=80), st.integers(1, 6))
def test_groups_have_equal_total_popularity(counts: list[int], groups: int) -> None:
    popularity = torch.tensor(counts)
    group = popularity_groups(popularity, groups)
    total = torch.zeros(groups, dtype=torch.int64).index_add(0, group, popularity)
    # As near as items allow that are not cut in two.
    assert (total - popularity.sum() / groups).abs().max() <= popularity.max()
    for number in range(groups - 1):
        above, below = popularity[group == number], popularity[group > number]
        if len(above) and len(below):
            assert above.min() >= below.max()


def test_groups_by_hand() -> None:
    assert popularity_groups(torch.tensor([1, 6, 1, 2, 1, 1, 3, 3]), 3).tolist() == [2, 0, 2, 2, 2, 2, 1, 1]


def test_quotas() -> None:
    popularity = torch.tensor([6, 3, 3, 2, 2, 1, 1])
    group = torch.tensor([0, 0, 1, 1, 1, 2, 2])
    # Means 4.5, 7/3 and 1: shares in proportion to 1, 19/6 and 4.5.
    raw = [1, 19 / 6, 4.5]
    assert quotas(popularity, group, 3, 52, 1.0).tolist() == [round(52 * x / sum(raw)) for x in raw] == [6, 19, 27]
    assert quotas(popularity, group, 3, 30, 0.0).tolist() == [10, 10, 10]
    assert quotas(popularity, torch.tensor([0, 1, 1, 1, 1, 1, 1]), 2, 30, 0.0).tolist() == [0, 30], (
        "one item is no pair"
    )
    assert quotas(torch.tensor([5, 1]), torch.tensor([0, 1]), 2, 30, 1.0).tolist() == [0, 0]
    for count in range(1, 40):
        assert quotas(popularity, group, 3, count, 0.7).sum() == count


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
def test_where_nothing_is_popular_groups_have_equal_quotas(power: float) -> None:
    group = torch.tensor([0, 0, 1, 1, 1, 2, 2, 3])
    for popularity in (torch.zeros(8, dtype=torch.int64), torch.full((8,), 5)):
        assert quotas(popularity, group, 4, 30, power).tolist() == [10, 10, 10, 0]


def test_without_interactions_pairs_are_of_one_group(student: FactorModel, teacher: FactorModel) -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    train, distiller = Interactions(nothing, nothing, 12, 17), UnKD(groups=3, pool=17, pairs=12)
    ready(distiller, student, teacher, train)
    assert distiller.group.tolist() == [0] * 17
    assert distiller.quota.tolist() == [0] * 12
    assert bool((value_of(distiller, student, teacher, train, torch.tensor([9, 0])) > 0).all())


@pytest.mark.parametrize("length", [1, 2, 5])
def test_ranks_follow_the_truncated_exponential(length: int) -> None:
    uniform = torch.rand(200_000, generator=generator("cpu", 1))
    ranks = truncated_geometric(uniform, torch.full((200_000,), length), 2.0)
    p = [math.exp(-i / 2.0) for i in range(length)]
    for i in range(length):
        assert (ranks == i).double().mean().item() == pytest.approx(p[i] / sum(p), abs=0.005)
    assert int(ranks.max()) < length
    assert int(truncated_geometric(torch.tensor([1 - 2**-24]), torch.tensor([length]), 1e6)) == length - 1
    assert int(truncated_geometric(torch.tensor([0.7]), torch.tensor([0]), 2.0)) == 0


def test_pair_loss_is_the_loop() -> None:
    better, worse, drawn = randn(3, 4), randn(3, 4, seed=1), torch.tensor([[True] * 4, [True, False] * 2, [False] * 4])
    expected = []
    for a, b, there in zip(better.tolist(), worse.tolist(), drawn.tolist(), strict=True):
        terms = [-math.log(sigmoid(x - y)) for x, y, counts in zip(a, b, there, strict=True) if counts]
        expected.append(sum(terms) / max(len(terms), 1))
    assert pair_loss(better, worse, drawn).tolist() == pytest.approx(expected)
    assert torch.autograd.gradcheck(lambda s: pair_loss(s[:, :4], s[:, 4:], drawn), (randn(3, 8).requires_grad_(),))
    large = torch.full((3, 4), -1e4).requires_grad_()
    pair_loss(large, -large.detach(), drawn).sum().backward()
    assert large.grad is not None
    assert bool(large.grad.isfinite().all())


def test_lists_are_the_teachers_order_in_each_group(
    student: FactorModel, teacher: FactorModel, train: Interactions
) -> None:
    distiller = UnKD(groups=3, pool=4)
    ready(distiller, student, teacher, train)
    z = teacher.scores(torch.arange(12)).tolist()
    for user in range(12):
        seen = set(train.item[train.user == user].tolist())
        expected = []
        for number in range(3):
            members = [i for i in range(17) if int(distiller.group[i]) == number and i not in seen]
            best = sorted(members, key=lambda i: -z[user][i])[:4]
            expected += best + [-1] * (4 - len(best))
        assert distiller.lists.items[user].tolist() == expected


def test_the_loss_is_the_loop_over_pairs_of_one_group(
    student: FactorModel, teacher: FactorModel, train: Interactions
) -> None:
    distiller = UnKD(groups=3, pool=6, pairs=12, position_temperature=3.0)
    ready(distiller, student, teacher, train)
    users = torch.tensor([9, 0, 3])
    z_s, z_t = (m.scores(torch.arange(12)).tolist() for m in (student, teacher))
    uniform = torch.rand(2, 3, 12, generator=generator("cpu", 1))
    expected, kept = [], 0
    for row, user in enumerate(users.tolist()):
        terms = []
        for n, number in enumerate(distiller.quota.tolist()):
            members = [i for i in distiller.lists.items[user].tolist()[6 * number : 6 * number + 6] if i >= 0]
            if not members:
                continue
            lengths = torch.tensor([len(members)] * 2)
            a, b = (members[r] for r in truncated_geometric(uniform[:, row, n], lengths, 3.0).tolist())
            if a != b:
                better, worse = (a, b) if z_t[user][a] > z_t[user][b] else (b, a)
                terms.append(-math.log(sigmoid(z_s[user][better] - z_s[user][worse])))
        expected.append(sum(terms) / len(terms))
        kept += len(terms)
    assert 12 < kept < 36, "some pairs are of one item, and do not count"
    assert value_of(distiller, student, teacher, train, users).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_teachers_lists_are_looked_up_once(student: FactorModel, teacher: FactorModel, train: Interactions) -> None:
    distiller = UnKD(pool=3)
    ready(distiller, student, teacher, train)
    before = distiller.lists.items.clone()
    ready(distiller, student, make_mf(Schema(12, 17), 31), train, epoch=1)
    assert torch.equal(distiller.lists.items, before)


def test_a_teacher_that_learns_is_looked_up_again(
    student: FactorModel, teacher: FactorModel, train: Interactions
) -> None:
    distiller, other = UnKD(pool=3), UnKD(pool=3)
    ready(distiller, student, teacher, train)
    later = make_mf(Schema(12, 17), 31)
    ready(distiller, student, later, train, epoch=1, teacher_changes=True)
    ready(other, student, later, train)
    assert torch.equal(distiller.lists.items, other.lists.items)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_users_who_have_seen_nearly_everything(full_user: Interactions, groups: int) -> None:
    student, teacher = make_mf(Schema(3, 6), 1), make_mf(Schema(3, 6), 2, dim=5)
    distiller = UnKD(groups=groups, pool=4)
    ready(distiller, student, teacher, full_user)
    value = value_of(distiller, student, teacher, full_user, torch.arange(3))
    value.sum().backward()
    assert value[0].item() == 0
    assert bool(value.isfinite().all())
    assert all(bool(p.grad.isfinite().all()) for p in student.parameters() if p.grad is not None)
