"""The teacher as a bound: against a loop, and silent where the student is better."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recdistill.distillers.ratings import TeacherBounded, bounded_loss

NUMBERS = st.integers(-400, 400).map(lambda n: n / 8)  # squares are exact, so that a tie is one


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=8), st.sampled_from([0.0, 0.25, 4.0]))
def test_it_is_the_loop(rows: list[tuple[float, float, float]], margin: float) -> None:
    s, t, y = torch.tensor(rows, dtype=torch.float64).T
    found = bounded_loss(s, t, y, margin)
    for value, (a, b, label) in zip(found.tolist(), rows, strict=True):
        own, bound = (a - label) ** 2, (b - label) ** 2
        assert value == (own if own + margin > bound else 0.0)


def test_gradients() -> None:
    draw = torch.Generator().manual_seed(1)
    t, y = torch.randn(2, 6, dtype=torch.float64, generator=draw)
    s = torch.randn(6, dtype=torch.float64, generator=draw).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: bounded_loss(x, t, y, 0.0), (s,))
    bounded_loss(s, t, y, 0.0).sum().backward()
    better = (s - y).abs() <= (t - y).abs()
    assert 0 < better.sum() < 6
    assert s.grad is not None
    assert torch.equal(s.grad == 0, better)


class Numbers:
    regression = True

    def __init__(self, number: Tensor, label: Tensor):
        self.number, self.label = number, label

    def scores(self) -> Tensor:
        return self.number.unsqueeze(-1)

    def target(self) -> Tensor:
        return self.label


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_by_row(margin: float) -> None:
    s, t, y = torch.randn(3, 7)
    found = TeacherBounded(margin)(Numbers(s, y), Numbers(t, torch.zeros(7)), torch.Generator())
    torch.testing.assert_close(found, bounded_loss(s, t, y, margin))
