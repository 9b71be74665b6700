"""The losses of RankDistil against their formulas in plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from distiller_parts import make_mf
from list_parts import INF, randn, ranking, sigmoid, value_of
from torch import Tensor

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.lists import FLOOR, rrd_loss
from recdistill.distillers.top_k import RankDistil, binary_loss, margin_loss, plackett_loss
from recdistill.models.base import FactorModel
from recdistill.tasks.batches import generator

FULL, SHORT = (
    torch.ones(4, 5, dtype=torch.bool),
    torch.tensor([[True] * 3 + [False] * 2, [True] * 5, [False] * 5, [True] * 5]),
)


def parts(top: Tensor, rest: Tensor, listed: Tensor) -> list[tuple[list[float], list[float]]]:
    """What counts of each row."""
    return [
        ([z for z, there in zip(a, inside, strict=True) if there], [z for z in b if z > FLOOR])
        for a, b, inside in zip(top.tolist(), rest.tolist(), listed.tolist(), strict=True)
    ]


def mean(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)


def hidden(rest: Tensor) -> Tensor:
    """Some do not count, and of one row none."""
    rest = rest.clone()
    rest[:, 2], rest[3] = FLOOR, FLOOR
    return rest


@pytest.mark.parametrize("listed", [FULL, SHORT])
def test_binary_is_the_loop(listed: Tensor) -> None:
    top, rest = randn(4, 5), hidden(randn(4, 7, seed=1))
    expected = []
    for above, below in parts(top, rest, listed):
        loss = mean([-math.log(sigmoid(z)) for z in above]) + mean([-math.log(1 - sigmoid(z)) for z in below])
        expected.append(loss if above else 0.0)
    assert binary_loss(top, rest, listed).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("margin", [0.0, 1.0, 100.0])
@pytest.mark.parametrize("listed", [FULL, SHORT])
def test_margin_is_the_loop(listed: Tensor, margin: float) -> None:
    top, rest = randn(4, 5), hidden(randn(4, 7, seed=1))
    rest[0, 1] = top[0, 0]  # a tie
    expected = []
    for above, below in parts(top, rest, listed):
        expected.append(mean([max(0.0, b - a + margin) for a in above for b in below]))
    x, y = top.clone().requires_grad_(), rest.clone().requires_grad_()
    loss = margin_loss(x, y, listed, margin)
    assert loss.tolist() == pytest.approx(expected)
    loss.sum().backward()
    a, b = top.clone().requires_grad_(), rest.clone().requires_grad_()
    pairs = (b.unsqueeze(1) - a.unsqueeze(2) + margin).clamp(min=0) * listed.unsqueeze(2) * (rest > FLOOR).unsqueeze(1)
    counts = (listed.sum(-1) * (rest > FLOOR).sum(-1)).clamp(min=1)
    (pairs.sum((1, 2)) / counts).sum().backward()
    if margin:  # at 0, the tie has any slope from 0 to 1
        torch.testing.assert_close(x.grad, a.grad)
        torch.testing.assert_close(y.grad, b.grad)


def test_plackett_in_the_teachers_order_is_the_loop() -> None:
    """At a temperature near 0 no other order is drawn."""
    top, rest, top_t = randn(4, 5), hidden(randn(4, 7, seed=1)), randn(4, 5, seed=2)
    top_t[0, 3:], top_t[2] = -INF, -INF
    expected = []
    for (_, below), zs, zt in zip(parts(top, rest, FULL), top.tolist(), top_t.tolist(), strict=True):
        left = [zs[i] for i in sorted(range(5), key=lambda i: -zt[i]) if zt[i] > -INF]
        n, loss = len(left), 0.0
        while left:
            loss -= math.log(math.exp(left[0]) / (sum(map(math.exp, left)) + sum(map(math.exp, below)) or 1))
            left.pop(0)
        expected.append(loss / max(n, 1))
    got = plackett_loss(top, rest, top_t, 1e-6, generator("cpu", 1))
    assert got.tolist() == pytest.approx(expected)


def test_orders_are_drawn_from_the_teachers_plackett_luce() -> None:
    n = 40_000
    top_t = torch.tensor([[1.0, 0.0, -1.0]]).expand(n, 3)
    # Scores that make the first place readable from the loss: only the first term differs by who it is.
    top = torch.tensor([[0.0, 5.0, 10.0]]).expand(n, 3)
    loss = plackett_loss(top, torch.full((n, 1), FLOOR), top_t, 2.0, generator("cpu", 1))
    p = torch.softmax(top_t[0] / 2.0, -1)
    for a, b, c in [(0, 1, 2), (2, 1, 0), (1, 0, 2)]:
        value = rrd_loss(top[:1, [a, b, c]], torch.full((1, 1), FLOOR)) / 3
        share = ((loss - value).abs() < 1e-4).double().mean().item()
        assert share == pytest.approx((p[a] * p[b] / (1 - p[a])).item(), abs=0.01)


@pytest.mark.parametrize("variant", ["B", "M", "P"])
def test_the_distiller_takes_the_teachers_list_and_others(
    student: FactorModel, teacher: FactorModel, train: Interactions, variant: str
) -> None:
    users = torch.tensor([9, 0, 3])
    distiller = RankDistil(k=4, variant=variant, negatives=30, temperature=1e-6)  # type: ignore[arg-type]
    z_s, z_t = (m.scores(torch.arange(12)).double() for m in (student, teacher))
    drawn = torch.randint(17, (30,), generator=generator("cpu", 1)).tolist()
    expected = []
    for user in users.tolist():
        top, seen = ranking(z_t, train, user, 4), train.item[train.user == user].tolist()
        others = [i for i in drawn if i not in top and i not in seen]
        rows = z_s[user, top].unsqueeze(0), z_s[user, others].unsqueeze(0)
        listed = torch.ones(1, 4, dtype=torch.bool)
        losses: dict[str, Callable[[], Tensor]] = {
            "B": lambda rows=rows, listed=listed: binary_loss(*rows, listed),
            "M": lambda rows=rows, listed=listed: margin_loss(*rows, listed, 1.0),
            "P": lambda rows=rows: rrd_loss(*rows) / 4,
        }
        expected.append(losses[variant]().item())
    assert value_of(distiller, student, teacher, train, users).tolist() == pytest.approx(expected, rel=1e-5)


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "B": lambda s: binary_loss(s[:, :5], s[:, 5:], SHORT),
    "M": lambda s: margin_loss(s[:, :5], s[:, 5:], SHORT, 1.0),
    "P": lambda s: plackett_loss(
        s[:, :5], s[:, 5:], randn(4, 5, seed=9).masked_fill(~SHORT, -INF), 1.0, generator("cpu", 1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name: str) -> None:
    assert torch.autograd.gradcheck(LOSSES[name], (randn(4, 9).requires_grad_(),))
    large = (1e4 * randn(4, 9).float()).requires_grad_()
    LOSSES[name](large).sum().backward()
    assert large.grad is not None
    assert bool(large.grad.isfinite().all())
    assert not bool(large.grad[:, :5][~SHORT].any()), "what is behind the end of a list is not trained on"


@pytest.mark.parametrize("variant", ["B", "M", "P"])
def test_lists_of_users_who_have_seen_nearly_everything(full_user: Interactions, variant: str) -> None:
    student, teacher = make_mf(Schema(3, 6), 1), make_mf(Schema(3, 6), 2, dim=5)
    distiller = RankDistil(k=4, variant=variant, negatives=9)  # type: ignore[arg-type]
    value = value_of(distiller, student, teacher, full_user, torch.arange(3))
    value.sum().backward()
    assert value[0].item() == 0
    assert bool(value.isfinite().all())
    assert all(bool(p.grad.isfinite().all()) for p in student.parameters() if p.grad is not None)
