"""HetComp against loops in float64, and how queries go on from easy lists to hard ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recdistill.distillers.base import Moment, Setting
from recdistill.distillers.hetcomp import HetComp, consensus, distance, order_loss, set_loss
from recdistill.errors import InputError


def random_lists(shape: tuple[int, ...], n_items: int, seed: int) -> tuple[Tensor, Tensor]:
    """Lists without repetition, and which places hold an item: the first ones."""
    rng = torch.Generator().manual_seed(seed)
    items = torch.rand((*shape[:-1], n_items), generator=rng).argsort(-1)[..., : shape[-1]]
    length = torch.randint(0, shape[-1] + 1, shape[:-1], generator=rng)
    return items, torch.arange(shape[-1]) < length.unsqueeze(-1)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 8), st.integers(0, 50))
def test_consensus_is_the_sum_of_weights_by_place(families: int, k: int, seed: int) -> None:
    lists, listed = random_lists((families, 3, 8), 12, seed)
    items, there = consensus(lists, listed, k)
    for row in range(3):
        total: dict[int, float] = {}
        for family in range(families):
            for place in range(8):
                if listed[family, row, place]:
                    item = int(lists[family, row, place])
                    total[item] = total.get(item, 0.0) + math.exp(-place / 10)
        found = items[row, : int(there[row].sum())].tolist()
        assert len(found) == len(set(found)) == min(k, len(total))
        expected = sorted(total.values(), reverse=True)[: len(found)]
        assert [total[item] for item in found] == pytest.approx(expected, rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100))
def test_distance_is_one_less_ndcg(seed: int) -> None:
    student, teacher = random_lists((4, 9), 14, seed), random_lists((4, 9), 14, seed + 1000)
    found = distance(student, teacher)
    for row in range(4):
        mine = student[0][row, student[1][row]].tolist()
        theirs = teacher[0][row, teacher[1][row]].tolist()
        gains = [(2 ** math.exp(-r / 10) - 1) / math.log2(r + 2) for r in range(9)]
        dcg = sum(gains[r] for r, item in enumerate(mine) if item in theirs)
        assert float(found[row]) == pytest.approx(1 - dcg / sum(gains[: max(len(theirs), 1)]), abs=1e-6)


def test_distance_is_zero_of_a_list_to_itself() -> None:
    items = torch.arange(6).unsqueeze(0)
    whole = torch.ones(1, 6, dtype=torch.bool)
    assert float(distance((items.flip(1), whole), (items, whole))) == pytest.approx(0, abs=1e-6)
    assert float(distance((items + 6, whole), (items, whole))) == 1


def test_losses_are_their_formulas_and_smooth() -> None:
    rng = torch.Generator().manual_seed(0)
    top, rest = (torch.randn(3, n, generator=rng, dtype=torch.float64, requires_grad=True) for n in (4, 6))
    listed = torch.tensor([[True] * 4, [True, True, False, False], [False] * 4])
    of_set, of_order = set_loss(top, rest, listed), order_loss(top, rest, listed)
    for row in range(3):
        n, below = int(listed[row].sum()), sum(math.exp(z) for z in rest[row].tolist())
        z = top[row, :n].tolist()
        one = [-math.log(math.exp(z[k]) / (math.exp(z[k]) + below)) for k in range(n)]
        two = [-math.log(math.exp(z[k]) / (sum(map(math.exp, z[k:])) + below)) for k in range(n)]
        assert float(of_set[row]) == pytest.approx(sum(one) / max(n, 1), abs=1e-9)
        assert float(of_order[row]) == pytest.approx(sum(two) / max(n, 1), abs=1e-9)
    assert torch.autograd.gradcheck(lambda a, b: set_loss(a, b, listed), (top, rest))
    permuted = set_loss(top[:, [1, 0, 2, 3]], rest, listed)
    torch.testing.assert_close(permuted, of_set)  # a set has no order
    assert not torch.allclose(order_loss(top[:, [1, 0, 2, 3]], rest, listed), of_order)


@dataclass
class Ranked:
    """A view that knows lists, and answers for ``users``."""

    table: Tensor  # [M, n, K]
    users: Tensor
    n_items: int = 60

    def members(self) -> list[Ranked]:
        return [Ranked(table.unsqueeze(0), self.users) for table in self.table]

    def top_items(self, k: int) -> tuple[Tensor, Tensor]:
        items = self.table[0, self.users, :k]
        return items, -torch.arange(items.shape[1]).expand(items.shape).float()


def moment(epoch: int, student: Callable[[Tensor], Ranked], teacher: Tensor, epochs: int = 100) -> Moment:
    return Moment(epoch, epochs, teacher.shape[1], student, lambda users: Ranked(teacher, users), torch.Generator())


def curriculum(members: int, families: int = 1, **more: object) -> tuple[HetComp, Tensor]:
    """A distiller for four queries, and the lists of its members, which have no item in common."""
    distiller = HetComp(k=5, families=families, every=1, **more)  # type: ignore[arg-type]
    distiller.prepare(Setting(queries=4, members=members))
    return distiller, torch.arange(members * 5).view(members, 1, 5).expand(-1, 4, -1)


def test_a_query_goes_on_when_it_has_come_nearer() -> None:
    distiller, lists = curriculum(3)
    far = torch.full((1, 4, 5), 50) + torch.arange(5)
    near = far.clone()
    near[0, 1, :2] = lists[1, 1, :2]  # query 1 has found some of the second list
    distiller.start_epoch(moment(0, lambda users: Ranked(far, users), lists))
    assert distiller.before.isnan().all()  # nothing is learned yet
    distiller.start_epoch(moment(1, lambda users: Ranked(far, users), lists))
    assert distiller.place.tolist() == [[0, 0, 0, 0]]  # from here on gaps are measured
    assert distiller.before.tolist() == [[1.0] * 4]
    distiller.start_epoch(moment(2, lambda users: Ranked(near, users), lists))
    assert distiller.place.tolist() == [[0, 1, 0, 0]]
    distiller.start_epoch(moment(3, lambda users: Ranked(near, users), lists))
    assert distiller.place.tolist() == [[0, 1, 0, 0]]  # the third list is as far off as before
    distiller.start_epoch(moment(50, lambda users: Ranked(near, users), lists))
    assert (distiller.place == 2).all()  # until


def test_families_go_on_by_themselves() -> None:
    distiller, lists = curriculum(4, families=2)
    near = torch.full((1, 4, 5), 50) + torch.arange(5)
    distiller.start_epoch(moment(1, lambda users: Ranked(near.clone(), users), lists))
    near[0, :, :3] = lists[3, :, :3]  # the last list of the second family
    distiller.start_epoch(moment(2, lambda users: Ranked(near, users), lists))
    assert distiller.place.tolist() == [[0] * 4, [1] * 4]


class Student:
    def __init__(self, scores: Tensor):
        self.table, self.users, self.n_items = scores, torch.arange(len(scores)), scores.shape[1]

    def scores(self, items: Tensor) -> Tensor:
        return self.table[:, items] if items.dim() == 1 else self.table.gather(1, items)

    def seen_pairs(self) -> tuple[Tensor, Tensor]:
        return torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)


def test_sets_are_taught_before_the_end_and_the_order_there() -> None:
    distiller, lists = curriculum(2, uninteresting=30)
    distiller.place[0, :2] = 1
    student = Student(torch.randn(4, 60, generator=torch.Generator().manual_seed(0)))
    teacher = Ranked(lists, student.users)
    found = distiller(student, teacher, torch.Generator().manual_seed(1))
    for query in range(4):
        at = int(distiller.place[0, query])
        own = lists[at, query]
        drawn = torch.randint(60, (30,), generator=torch.Generator().manual_seed(1))
        rest = [float(student.table[query, item]) for item in drawn.tolist() if item not in own.tolist()]
        z = student.table[query, own].tolist()
        below = sum(map(math.exp, rest))
        beside = [sum(map(math.exp, z[k:])) if at else math.exp(z[k]) for k in range(5)]
        expected = sum(math.log(b + below) - z[k] for k, b in enumerate(beside)) / 5
        assert float(found[query]) == pytest.approx(expected, rel=1e-5)


def test_members_must_be_shared_out_evenly() -> None:
    with pytest.raises(InputError, match="3 models of the teacher are no checkpoints of 2 families"):
        curriculum(3, families=2)


def test_a_single_teacher_is_at_the_end_at_once() -> None:
    distiller, _ = curriculum(1)
    assert distiller.last == 0
    assert (distiller.place == 0).all()
