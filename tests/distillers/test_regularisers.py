"""Entropy and consistency: against loops, at their limits, and what changes in the answers that should agree."""

from __future__ import annotations

import math

import pytest
import torch
from distiller_parts import make_mf
from torch import Tensor

from recdistill.data.interactions import Interactions, Schema
from recdistill.distillers.base import Needs
from recdistill.distillers.regularisers import Consistency, OutputEntropy, consistency_loss, entropy_loss
from recdistill.distillers.response import soft_label_loss
from recdistill.distillers.teacher import LiveTeacher
from recdistill.distillers.views import ModelView
from recdistill.tasks.batches import generator


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def loop_entropy(z: list[float]) -> float:
    e = [math.exp(x) for x in z]
    p = [x / sum(e) for x in e]
    return -sum(a * math.log(a) for a in p)


def test_entropy_is_the_loop() -> None:
    z = randn(4, 6)
    kept = torch.ones(4, 6, dtype=torch.bool)
    for row, logits in enumerate(z.tolist()):
        assert entropy_loss(z, kept, "sharp")[row].item() == pytest.approx(loop_entropy(logits))
        assert entropy_loss(z, kept, "flat")[row].item() == pytest.approx(math.log(6) - loop_entropy(logits))
    for towards in ("flat", "sharp"):
        assert torch.autograd.gradcheck(lambda s, t=towards: entropy_loss(s, kept, t), (z.clone().requires_grad_(),))


def test_a_step_downhill_goes_where_it_says() -> None:
    kept = torch.ones(3, 5, dtype=torch.bool)
    for towards, sign in (("flat", 1), ("sharp", -1)):
        z = randn(3, 5).requires_grad_()
        before = entropy_loss(z, kept, "sharp").sum()
        entropy_loss(z, kept, towards).sum().backward()  # type: ignore[arg-type]
        assert z.grad is not None
        after = entropy_loss(z.detach() - 0.1 * z.grad, kept, "sharp").sum()
        assert sign * (after - before).item() > 0
    assert entropy_loss(torch.zeros(3, 5), kept, "flat").abs().max() < 1e-6


@pytest.mark.parametrize("towards", ["flat", "sharp"])
def test_entropy_on_short_and_empty_lists(full_user: Interactions, towards: str) -> None:
    schema, users = Schema(3, 6), torch.arange(3)
    student, teacher = make_mf(schema, 1), make_mf(schema, 2, 5)
    live = LiveTeacher(teacher, full_user).view(users)
    found = OutputEntropy(towards, k=5)(ModelView(student, users, full_user.csr), live, generator("cpu", 1))  # type: ignore[arg-type]
    for user, items in {1: [1, 4], 2: [0, 2, 3, 4, 5]}.items():
        h = loop_entropy(student.scores(users)[user, items].tolist())
        assert found[user].item() == pytest.approx(h if towards == "sharp" else math.log(len(items)) - h, abs=1e-5)
    assert found[0].item() == 0
    found.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in student.parameters() if p.grad is not None)


def test_entropy_of_extreme_scores() -> None:
    z = (randn(4, 5).float() * 1e4).requires_grad_()
    for towards in ("flat", "sharp"):
        value = entropy_loss(z, torch.ones(4, 5, dtype=torch.bool), towards)  # type: ignore[arg-type]
        value.sum().backward()
        assert bool(value.isfinite().all())
        assert z.grad is not None
        assert bool(z.grad.isfinite().all())


class Noisy:
    """Rows whose answers for a changed input are drawn."""

    regression = False

    def __init__(self, logits: Tensor, regression: bool = False):
        self.logits, self.regression = logits, regression
        self.asked: list[tuple[float, float]] = []
        self.users = torch.arange(len(logits))

    def of(self, users: Tensor) -> Noisy:
        other = Noisy(self.logits[users], self.regression)
        other.asked = self.asked
        return other

    def scores(self) -> Tensor:
        return self.logits

    def augmented(self, share: float, noise: float, rng: torch.Generator) -> Noisy:
        self.asked.append((share, noise))
        return Noisy(self.logits + torch.randn(self.logits.shape, generator=rng, dtype=torch.float64), self.regression)


@pytest.mark.parametrize("part", [0.0, 0.3, 1.0])
def test_consistency_is_the_formula(part: float) -> None:
    student, teacher, rng = Noisy(randn(5, 4)), Noisy(randn(5, 4, seed=1)), generator("cpu", 3)
    a, b = (student.logits + torch.randn(5, 4, generator=rng, dtype=torch.float64) for _ in range(2))
    distiller = Consistency(0.2, 0.5, part, temperature=2.0)
    found = distiller(student, teacher, generator("cpu", 3))
    own = (soft_label_loss(a, b, 2.0) + soft_label_loss(b, a, 2.0)) / 2
    taught = (soft_label_loss(a, teacher.logits, 2.0) + soft_label_loss(b, teacher.logits, 2.0)) / 2
    torch.testing.assert_close(found, (1 - part) * own + part * taught)
    assert student.asked == [(0.2, 0.5)] * 2
    assert distiller.needs() == Needs(top_k=100)
    assert distiller.teaches == (part > 0)


def test_consistency_of_some_rows_of_a_step() -> None:
    """Changed as in a step of their own, they stand for all. The teacher is asked as it is for the whole step."""
    student, teacher, kept = Noisy(randn(6, 4)), Noisy(randn(6, 4, seed=1)), torch.tensor([0, 3])
    found = Consistency(rows=2)(student, teacher, generator("cpu", 3))
    alone = Consistency()(Noisy(student.logits[kept]), Noisy(teacher.logits[kept]), generator("cpu", 3))
    torch.testing.assert_close(found[kept], alone * 3)
    assert found.count_nonzero() == 2
    assert found.mean().item() == pytest.approx(alone.mean().item())


def test_consistency_of_a_number() -> None:
    student, teacher, rng = Noisy(randn(5, 1), True), Noisy(randn(5, 1, seed=1), True), generator("cpu", 3)
    a, b = ((student.logits + torch.randn(5, 1, generator=rng, dtype=torch.float64)).squeeze(1) for _ in range(2))
    found = Consistency(teacher=0.3)(student, teacher, generator("cpu", 3))
    z = teacher.logits.squeeze(1)
    torch.testing.assert_close(found, 0.7 * (a - b) ** 2 / 2 + 0.3 * ((a - z) ** 2 + (b - z) ** 2) / 4)


def test_consistency_is_symmetric_and_smooth() -> None:
    a, b = randn(3, 5), randn(3, 5, seed=1)
    torch.testing.assert_close(consistency_loss(a, b, 2.0), consistency_loss(b, a, 2.0))
    assert consistency_loss(a, a + 1, 2.0).abs().max() < 1e-12
    gradient = lambda x, y: consistency_loss(x, y, 2.0)  # noqa: E731
    assert torch.autograd.gradcheck(gradient, (a.clone().requires_grad_(), b.clone().requires_grad_()))
