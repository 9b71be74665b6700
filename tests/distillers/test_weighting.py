"""Weights of queries: closed forms, short lists, and the mean over a step that processes share."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from recdistill.distillers.weighting import Confidence, Entropy, Gap, Weighting

INF = math.inf


class Rows:
    """Answers for rows of a table."""

    regression = False

    def __init__(self, logits: Tensor):
        self.logits = logits

    def scores(self) -> Tensor:
        return self.logits


class Lists:
    """A teacher's lists, and a student's scores of all items."""

    regression = False

    def __init__(self, items: Tensor, top: Tensor, all_items: Tensor):
        self.items, self.top, self.all, self.n_items = items, top, all_items, all_items.shape[1]

    def top_items(self, k: int) -> tuple[Tensor, Tensor]:
        return self.items[:, :k], self.top[:, :k]

    def scores(self, items: Tensor) -> Tensor:
        return self.all.gather(1, items)


def test_the_three_of_rows_are_their_formulas() -> None:
    p, q = torch.tensor([[0.7, 0.2, 0.1], [1 / 3, 1 / 3, 1 / 3]]), torch.tensor([[0.5, 0.25, 0.25], [0.6, 0.2, 0.2]])
    teacher, student = Rows(p.log()), Rows(q.log())
    entropy = [-sum(x * math.log(x) for x in row) for row in p.tolist()]
    gap = [
        sum(a * math.log(a / b) for a, b in zip(*rows, strict=True))
        for rows in zip(p.tolist(), q.tolist(), strict=True)
    ]
    for kind, expected in (
        (Confidence, [(0.7 - 1 / 3) / (2 / 3), 0.0]), (Entropy, [1 - h / math.log(3) for h in entropy]), (Gap, gap),
    ):  # fmt: skip
        found = kind(power=2.0)(student, teacher)
        assert found.tolist() == pytest.approx([max(x, 0.0) ** 2 for x in expected], abs=1e-6), kind.__name__


def test_the_gap_of_a_number_is_half_of_its_square() -> None:
    z_t, z_s = [3.0, 1.5, 4.25, -2.0], [2.5, 1.5, 1.0, 2.0]
    teacher, student = (Rows(torch.tensor(z).unsqueeze(-1)) for z in (z_t, z_s))
    student.regression = True  # which a stored teacher does not know of itself
    for power in (0.5, 1.0, 2.0):
        expected = [((t - s) ** 2 / 2) ** power for t, s in zip(z_t, z_s, strict=True)]
        assert Gap(temperature=3.0, power=power)(student, teacher).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("kind", [Confidence, Entropy])
def test_who_says_little_has_little_weight(kind: type[Weighting]) -> None:
    """A list of one item, of two alike and of none say nothing of an order."""
    items = torch.tensor([[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2]])
    top = torch.tensor([[5.0, 1.0, 0.0], [5.0, -INF, -INF], [2.0, 2.0, -INF], [-INF, -INF, -INF]])
    teacher = Lists(items, top, torch.zeros(4, 6))
    found = kind(k=3)(teacher, teacher)
    assert found[0] > 0.5
    assert found[1:].tolist() == pytest.approx([0, 0, 0], abs=1e-6)


@pytest.mark.parametrize("kind", [Confidence, Entropy, Gap])
@pytest.mark.parametrize("power", [0.0, 0.5, 2.0])
def test_short_lists_have_no_weight_at_any_power(kind: type[Weighting], power: float) -> None:
    items = torch.tensor([[0, 1, 2], [3, 4, 5], [0, 1, 2]])
    top = torch.tensor([[5.0, 1.0, 0.0], [5.0, -INF, -INF], [-INF, -INF, -INF]])
    both = [Lists(items, top, torch.linspace(0, scale, 18).view(3, 6)) for scale in (0.0, 3.0)]
    weighting = kind(k=3, power=power)
    found = weighting(both[1], both[0])
    assert found[1:].tolist() == [0, 0]
    assert found[0].item() == pytest.approx(kind(k=3)(both[1], both[0])[0].item() ** power)


def test_the_students_gradients_stay() -> None:
    scores = torch.zeros(2, 3, requires_grad=True)
    student = Rows(scores)
    factors = Gap()(student, Rows(torch.tensor([[2.0, 0, 0], [0, 1, 0]])))
    assert not factors.requires_grad
    assert torch.is_grad_enabled()
