"""Relaxed ranking distillation from both sides, and what it draws from."""

from __future__ import annotations

import pytest
import torch
from distiller_parts import make_mf
from list_parts import ranking, value_of, views

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.lists import FLOOR, IRRRD, RRD, gumbel_noise, rrd_loss, step_items, unlisted
from recdistill.models.base import FactorModel
from recdistill.tasks.batches import generator


def test_uninteresting_is_neither_on_the_list_nor_in_training(
    student: FactorModel, teacher: FactorModel, train: Interactions
) -> None:
    users = torch.tensor([4, 9])
    view, _ = views(student, teacher, train, users)
    z_s, z_t = student.scores(torch.arange(12)), teacher.scores(torch.arange(12))
    top = torch.tensor([ranking(z_t, train, user, 3) for user in users.tolist()])
    got = unlisted(top, torch.ones(2, 3, dtype=torch.bool), view, 50, generator("cpu", 3))
    drawn = torch.randint(17, (50,), generator=generator("cpu", 3)).tolist()
    for row, user in enumerate(users.tolist()):
        left_out = {*train.item[train.user == user].tolist(), *top[row].tolist()}
        assert 0 < sum(i in left_out for i in drawn) < 50
        expected = [FLOOR if i in left_out else z_s[user, i].item() for i in drawn]
        assert got[row].tolist() == pytest.approx(expected, rel=1e-5)


def test_what_was_not_drawn_from_the_list_is_not_uninteresting(
    student: FactorModel, teacher: FactorModel, train: Interactions
) -> None:
    """The whole list is left out of the rest, and not only the k that were drawn."""
    free = 17 - int((train.user == 4).sum())
    values = {
        RRD(k=2, uninteresting=n, pool=free, position_temperature=0.1)(
            *views(student, teacher, train, torch.tensor([4])), generator("cpu", 1)
        ).item()
        for n in (1, 30, 300)
    }
    top = ranking(teacher.scores(torch.arange(12)), train, 4, 2)
    alone = rrd_loss(student.scores(torch.tensor([4]))[:, top], torch.full((1, 1), FLOOR)).item()
    assert len(values) == 1
    assert values.pop() == pytest.approx(alone, rel=1e-5)


def test_both_sides_are_the_loop(student: FactorModel, teacher: FactorModel, train: Interactions) -> None:
    """With so many draws that all items are taken and all others are among them, equally often."""
    distiller = IRRRD(
        k=4, uninteresting=6, pool=4, position_temperature=0.0, users=3, user_pool=3, uninteresting_users=200_000,
        items=4000, item_weight=0.3,
    )  # fmt: skip
    users = torch.tensor([4, 9, 2])
    z_s, z_t = (m.scores(torch.arange(12)).double() for m in (student, teacher))
    flipped = Interactions(train.item, train.user, 17, 12)
    item_side = []
    for item in range(17):
        top, free = ranking(z_t.T, flipped, item, 3), ranking(z_t.T, flipped, item, 12)
        rest = z_s.T[item, [u for u in free if u not in top]]
        # Each user of twelve is drawn 200 000 / 12 times.
        total = (
            (rest.logsumexp(0) + torch.tensor(200_000 / 12).log()).view(1, 1)
            if len(rest)
            else torch.full((1, 1), FLOOR)
        )
        item_side.append(rrd_loss(z_s.T[item, top].unsqueeze(0), total).item())
    user_side = RRD(k=4, uninteresting=6, pool=4, position_temperature=0.0)
    expected = value_of(user_side, student, teacher, train, users) + 0.3 * sum(item_side) / 17
    got = value_of(distiller, student, teacher, train, users)
    assert got.tolist() == pytest.approx(expected.tolist(), rel=5e-3)
    assert (expected - value_of(user_side, student, teacher, train, users)).min() > 0.3


def test_an_item_side_of_no_weight_is_rrd(student: FactorModel, teacher: FactorModel, train: Interactions) -> None:
    one, both = (
        value_of(make(k=3, pool=5), student, teacher, train, torch.arange(12))  # type: ignore[operator]
        for make in (RRD, lambda **given: IRRRD(**given, users=3, user_pool=4, item_weight=0.0))
    )
    assert torch.equal(one, both)


def test_items_of_a_step() -> None:
    items, listed = torch.tensor([[3, 5, 7], [5, 6, 1]]), torch.ones(2, 3, dtype=torch.bool)
    listed[1, 2] = False
    found = [step_items(items, listed, 100_000, 10, generator("cpu", seed)) for seed in range(40)]
    assert all(len(f.unique()) == len(f) <= 10 for f in found)
    small = torch.cat([f[f < 100] for f in found])
    assert set(small.tolist()) <= {3, 5, 6, 7, *range(8, 100)}
    assert {3, 5, 6, 7} <= set(small.tolist())
    assert 1 not in small, "it stands behind the end of a list"
    nothing = step_items(items, torch.zeros(2, 3, dtype=torch.bool), 50, 10, generator("cpu", 1))
    assert 0 < len(nothing) <= 10


def test_draws_are_in_single_precision_where_half_is_the_usual_one() -> None:
    """In half precision an exact 0 is drawn now and then, which beats every weight."""
    like = torch.zeros(400, 500)
    expected = gumbel_noise(like, generator("cpu", 1))
    assert float(expected.max()) < 18
    assert float(expected.mean()) == pytest.approx(0.5772, abs=0.01), "Euler's number"
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert torch.equal(gumbel_noise(like, generator("cpu", 1)), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_users_who_have_seen_nearly_everything(full_user: Interactions) -> None:
    student, teacher = make_mf(Schema(3, 6), 1), make_mf(Schema(3, 6), 2, dim=5)
    distiller = IRRRD(k=3, pool=5, uninteresting=9, users=2, user_pool=2, uninteresting_users=9)
    value = value_of(distiller, student, teacher, full_user, torch.arange(3))
    value.sum().backward()
    assert bool(value.isfinite().all())
    assert all(bool(p.grad.isfinite().all()) for p in student.parameters() if p.grad is not None)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="user_pool=3 must be at least users=4"):
        IRRRD(users=4, user_pool=3)
    with pytest.raises(ValueError, match="pool=3 must be at least k=40"):
        IRRRD(pool=3)
