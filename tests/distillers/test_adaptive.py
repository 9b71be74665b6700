"""Weights by closeness and confidence, by hand; and that what the teacher does not know is not distilled."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recdistill.distillers.base import Setting
from recdistill.distillers.features import Hint
from recdistill.distillers.weighting import Adaptive, effective_share


class Rows:
    """Answers for rows of a table."""

    regression = False

    def __init__(self, scores: Tensor, users: Tensor):
        self.logits, self.users = scores, users

    def scores(self, items: Tensor | None = None) -> Tensor:
        return self.logits if items is None else self.logits[:, items]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**20), st.floats(0, 3))
def test_a_weight_is_closeness_times_confidence(seed: int, power: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    users, logits = torch.tensor([3, 0, 2]), 3 * torch.randn(3, 4, generator=rng)
    weighting = Adaptive(power=power)
    weighting.closeness = torch.rand(5, generator=rng)
    found = weighting(Rows(torch.randn(3, 4, generator=rng), users), Rows(logits, users))
    for row, query in enumerate(users.tolist()):
        p = [math.exp(z) for z in logits[row].tolist()]
        p = [x / sum(p) for x in p]
        confidence = 1 + sum(x * math.log(x) for x in p if x) / math.log(4)
        wanted = float(weighting.closeness[query]) * max(confidence, 0) ** power
        assert float(found[row]) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_of_a_rating_closeness_is_all_of_the_weight(power: float) -> None:
    users = torch.tensor([3, 0, 2])
    teacher, student = (Rows(torch.randn(3, 1), users) for _ in range(2))
    student.regression = True
    weighting = Adaptive(power=power)
    weighting.closeness = torch.tensor([0.5, 0.25, 0.0, 1.0])
    assert weighting(student, teacher).tolist() == [1.0, 0.5, 0.0]


def test_the_effective_sample_size() -> None:
    assert float(effective_share(torch.ones(7))) == pytest.approx(1)
    assert float(effective_share(torch.tensor([0.0, 5.0, 0.0, 0.0]))) == pytest.approx(0.25)
    assert float(effective_share(torch.zeros(3))) == 0
    w = torch.tensor([1.0, 2.0, 3.0])
    assert float(effective_share(w)) == pytest.approx(36 / (3 * 14))


@pytest.mark.parametrize("popular", [0.0, 0.5])
def test_hints_are_of_items_that_the_teacher_knows(popular: float) -> None:
    train: Any = SimpleNamespace(item=torch.tensor([0, 1, 1, 4]))
    hint = Hint(items=200)
    hint.popular = popular
    hint.prepare(Setting(2, 2, train=train, known_items=torch.tensor([False, True, False, True, False])))
    drawn = hint.draw(5, torch.Generator().manual_seed(0))
    assert len(drawn) == 200
    assert set(drawn.tolist()) == {1, 3}
