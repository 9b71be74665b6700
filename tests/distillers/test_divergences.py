"""Divergences other than soft labels: against loops in plain Python, at their limits, on short lists."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from distiller_parts import make_mf
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.divergences import (
    DKD,
    JSD,
    ReverseKL,
    SkewKL,
    dkd_loss,
    jsd_loss,
    reverse_kl_loss,
    skew_kl_loss,
)
from recdistill.distillers.lists import FLOOR
from recdistill.distillers.response import soft_label_loss
from recdistill.distillers.teacher import LiveTeacher
from recdistill.distillers.views import ModelView
from recdistill.tasks.batches import generator

LOGITS = st.integers(2, 6).flatmap(
    lambda c: st.lists(st.lists(st.floats(-6, 6), min_size=c, max_size=c), min_size=2, max_size=2)
)


def softmax(z: list[float], t: float) -> list[float]:
    e = [math.exp(x / t) for x in z]
    return [x / sum(e) for x in e]


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a)


def mixed(p: list[float], q: list[float], share: float) -> list[float]:
    return [share * a + (1 - share) * b for a, b in zip(p, q, strict=True)]


def one(row: list[float]) -> Tensor:
    return torch.tensor([row], dtype=torch.float64)


@settings(deadline=None, max_examples=60)
@given(LOGITS, st.floats(0.5, 5), st.floats(0.05, 0.95))
def test_they_are_the_loops(rows: list[list[float]], t: float, share: float) -> None:
    s, z = rows
    p_s, p_t = softmax(s, t), softmax(z, t)
    middle = mixed(p_t, p_s, share)
    expected = {
        reverse_kl_loss(one(s), one(z), t): kl(p_s, p_t),
        skew_kl_loss(one(s), one(z), t, share): kl(p_t, mixed(p_t, p_s, share)),
        skew_kl_loss(one(s), one(z), t, share, reverse=True): kl(p_s, mixed(p_s, p_t, share)),
        jsd_loss(one(s), one(z), t, share): share * kl(p_t, middle) + (1 - share) * kl(p_s, middle),
    }
    for found, wanted in expected.items():
        assert found.item() == pytest.approx(t * t * wanted, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(LOGITS, st.floats(0.5, 5), st.floats(0, 3), st.floats(0, 9), st.integers(0, 5))
def test_dkd_is_the_loop(rows: list[list[float]], t: float, alpha: float, beta: float, true: int) -> None:
    s, z = rows
    y = true % len(s)
    p_s, p_t = softmax(s, t), softmax(z, t)
    target = kl([p_t[y], 1 - p_t[y]], [p_s[y], 1 - p_s[y]])
    others = kl(softmax(z[:y] + z[y + 1 :], t), softmax(s[:y] + s[y + 1 :], t))
    found = dkd_loss(one(s), one(z), torch.tensor([y]), t, alpha, beta)
    assert found.item() == pytest.approx(t * t * (alpha * target + beta * others), abs=1e-8)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_parts_of_dkd_are_those_of_soft_labels() -> None:
    """KL(p_t ‖ p_s) = the first part + (1 - p_t(y)) times the second, which is why they are decoupled."""
    s, z, y = randn(5, 7), randn(5, 7, seed=1), torch.tensor([0, 6, 3, 3, 1])
    first, second = dkd_loss(s, z, y, 1.0, 1.0, 0.0), dkd_loss(s, z, y, 1.0, 0.0, 1.0)
    rest = 1 - z.softmax(-1).gather(1, y.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(first + rest * second, soft_label_loss(s, z, 1.0))


def test_dkd_of_two_classes_and_of_none() -> None:
    s, z = randn(4, 2), randn(4, 2, seed=1)
    torch.testing.assert_close(
        dkd_loss(s, z, torch.tensor([0, 1, 1, 0]), 3.0, 2.0, 8.0), 2 * soft_label_loss(s, z, 3.0)
    )
    s, z = randn(4, 6), randn(4, 6, seed=1)
    torch.testing.assert_close(dkd_loss(s, z, torch.full((4,), -1), 3.0, 2.0, 8.0), 8 * soft_label_loss(s, z, 3.0))


def test_limits() -> None:
    s, z = randn(4, 6), randn(4, 6, seed=1)
    torch.testing.assert_close(skew_kl_loss(s, z, 2.0, 1e-9), soft_label_loss(s, z, 2.0), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(jsd_loss(s, z, 2.0, 1e-7) / 1e-7, soft_label_loss(s, z, 2.0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(reverse_kl_loss(s, z, 2.0), soft_label_loss(z, s, 2.0))
    torch.testing.assert_close(jsd_loss(s, z, 1.0, 0.3), jsd_loss(z, s, 1.0, 0.7))
    apart = torch.tensor([[1e4, 0.0]]), torch.tensor([[0.0, 1e4]])
    assert jsd_loss(*apart, 1.0, 0.5).item() == pytest.approx(math.log(2))
    assert skew_kl_loss(*apart, 1.0, 0.1).item() == pytest.approx(-math.log(0.1))


TARGET = torch.tensor([1, 0, -1])
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "reverse_kl": lambda s, z: reverse_kl_loss(s, z, 2.0),
    "skew_kl": lambda s, z: skew_kl_loss(s, z, 2.0, 0.1),
    "skew_kl_reverse": lambda s, z: skew_kl_loss(s, z, 2.0, 0.1, reverse=True),
    "jsd": lambda s, z: jsd_loss(s, z, 2.0, 0.3),
    "dkd": lambda s, z: dkd_loss(s, z, TARGET, 4.0, 1.0, 8.0),
}


@pytest.mark.parametrize("name", LOSSES)
class TestGradient:
    def test_gradcheck(self, name: str) -> None:
        z = randn(3, 6, seed=9)
        assert torch.autograd.gradcheck(lambda s: LOSSES[name](s, z), (randn(3, 6).requires_grad_(),))

    def test_no_gap_no_gradient(self, name: str) -> None:
        s = randn(3, 6).requires_grad_()
        value = LOSSES[name](s, s.detach().clone() + 5)  # logits are known up to a constant
        value.sum().backward()
        assert value.abs().max() < 1e-12
        assert s.grad is not None
        assert s.grad.abs().max() < 1e-12

    def test_finite_however_far_apart(self, name: str) -> None:
        for seed in range(4):
            s = (randn(3, 6, seed=seed).float() * 1e4).requires_grad_()
            z = randn(3, 6, seed=seed + 9).float() * 1e4
            value = LOSSES[name](s, z)
            value.sum().backward()
            assert bool(value.isfinite().all())
            assert s.grad is not None
            assert bool(s.grad.isfinite().all())

    def test_hidden_places_do_not_count(self, name: str) -> None:
        s, z = randn(3, 4).float(), randn(3, 4, seed=1).float()
        alone = LOSSES[name](s, z)
        floor = torch.full((3, 2), FLOOR)
        padded = torch.cat([s, floor], 1).requires_grad_()
        value = LOSSES[name](padded, torch.cat([z, floor], 1))
        torch.testing.assert_close(value, alone)
        value.sum().backward()
        assert padded.grad is not None
        assert padded.grad[:, 4:].abs().max() == 0
        if name != "dkd":  # where the target alone is left
            nothing = torch.full((3, 4), FLOOR).requires_grad_()
            assert LOSSES[name](nothing, nothing.detach()).abs().max() < 1e-6

    def test_a_gradient_that_the_temperature_does_not_shrink(self, name: str) -> None:
        """At a high T all are quadratic in the gap, with T² times a curvature of 1 / T²."""
        s, z, sizes = randn(3, 6), randn(3, 6, seed=1), []
        for t in (200.0, 400.0):
            x = s.clone().requires_grad_()
            functions = {
                "reverse_kl": lambda: reverse_kl_loss(x, z, t), "skew_kl": lambda: skew_kl_loss(x, z, t, 0.1),  # noqa: B023
                "skew_kl_reverse": lambda: skew_kl_loss(x, z, t, 0.1, reverse=True),  # noqa: B023
                "jsd": lambda: jsd_loss(x, z, t, 0.3), "dkd": lambda: dkd_loss(x, z, TARGET, t, 1.0, 8.0),  # noqa: B023
            }  # fmt: skip
            functions[name]().sum().backward()
            assert x.grad is not None
            sizes.append(x.grad.norm().item())
        assert sizes[0] == pytest.approx(sizes[1], rel=0.02)


def test_short_and_empty_lists(full_user: Interactions) -> None:
    """User 0 has seen everything, user 1 all but two items, user 2 all but five."""
    schema, users = Schema(3, 6), torch.arange(3)
    student, teacher = make_mf(schema, 1), make_mf(schema, 2, 5)
    live, free = LiveTeacher(teacher, full_user).view(users), {0: [], 1: [1, 4], 2: [0, 2, 3, 4, 5]}
    for distiller, loss in (
        (ReverseKL(k=5, others=0), lambda a, b: kl(softmax(a, 1), softmax(b, 1))),
        (JSD(k=5, others=0), lambda a, b: jsd_loss(one(a), one(b), 1.0, 0.5).item()),
        (SkewKL(k=5, others=0), lambda a, b: skew_kl_loss(one(a), one(b), 1.0, 0.1).item()),
    ):
        student.zero_grad()
        found = distiller(ModelView(student, users, full_user.csr), live, generator("cpu", 1))
        s, z = student.scores(users), teacher.scores(users)
        for user, items in free.items():
            wanted = loss(s[user, items].tolist(), z[user, items].tolist()) if items else 0.0
            assert found[user].item() == pytest.approx(wanted, abs=1e-5)
        found[0].backward()
        assert all(p.grad is None or p.grad.abs().max() == 0 for p in student.parameters())


class History:
    """The answers of a sequence model for two events, the second of which is followed by nothing.

    Args:
        had: the item that is in both histories.
    """

    n_items = 6

    def __init__(self, scores: Tensor, had: int):
        self.all, self.had = scores, had
        self.users = torch.arange(len(scores))

    def scores(self, items: Tensor | None = None) -> Tensor:
        if items is None:
            return self.all
        return self.all[:, items] if items.dim() == 1 else self.all.gather(1, items)

    def top_items(self, k: int) -> tuple[Tensor, Tensor]:
        hidden = self.all.clone()
        hidden[:, self.had] = -torch.inf
        top = hidden.topk(k)
        return top.indices, top.values

    def seen_pairs(self) -> tuple[Tensor, Tensor]:
        return torch.arange(2), torch.full((2,), self.had)

    def target(self) -> Tensor:
        return torch.tensor([2, -1])


@pytest.mark.parametrize("had", [0, 5])
@pytest.mark.parametrize("others", [0, 3, 40])
def test_dkd_in_a_sequence(others: int, had: int) -> None:
    """Item 0 in training, and on the lists: where nothing comes next it is an item as any other."""
    z = randn(2, 6, seed=1)
    z[:, 0] += 3
    student, teacher = History(randn(2, 6), had), History(z, had)
    distiller = DKD(alpha=1.5, beta=3.0, k=3, others=others)
    found = distiller(student, teacher, generator("cpu", 4))
    drawn = torch.randint(6, (others,), generator=generator("cpu", 4)).tolist()
    for row, target in enumerate([2, -1]):
        listed = teacher.top_items(3)[0][row].tolist()
        rest = [*listed, *(item for item in drawn if item not in {*listed, had})]
        rest = [item for item in rest if item != target]
        s, z = student.all[row], teacher.all[row]
        wanted = 3.0 * kl(softmax(z[rest].tolist(), 1), softmax(s[rest].tolist(), 1))
        if target >= 0:
            p_t, p_s = (softmax(a[[target, *rest]].tolist(), 1)[0] for a in (z, s))
            wanted += 1.5 * kl([p_t, 1 - p_t], [p_s, 1 - p_s])
        assert found[row].item() == pytest.approx(wanted)
