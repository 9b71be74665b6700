"""The order of scores in single precision, against a loop."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from recdistill.models.rounding import float_at, in_order, place_of

NEAR = st.one_of(
    st.floats(-1e37, 1e37), st.floats(0.999999, 1.0), st.integers(1_700_000_000, 1_700_000_100).map(float),
    st.integers(-5, 5).map(lambda n: n * 1e-46), st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 16777216.0, -16777215.0]),
)  # fmt: skip


@given(st.lists(st.lists(NEAR, max_size=30), max_size=5))
def test_by_a_loop(lists: list[list[float]]) -> None:
    lists = [sorted(some, reverse=True) for some in lists]
    expected = []
    for some in lists:
        last = np.float32(np.inf)
        for place, score in enumerate(some):
            differs = place and score < some[place - 1]
            below = np.nextafter(last, np.float32(-np.inf)) if differs else last
            last = min(np.float32(score), below)
            expected.append(last)
    user = torch.tensor([user for user, some in enumerate(lists) for _ in some], dtype=torch.int64)
    flat = torch.tensor([score for some in lists for score in some], dtype=torch.float64)
    assert in_order(flat, user).tolist() == [float(score) for score in expected]


def test_scores_that_single_precision_tells_apart_are_the_nearest_ones() -> None:
    scores = torch.randn(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).sort(descending=True)[0]
    assert torch.equal(in_order(scores, torch.zeros(1000, dtype=torch.int64)), scores.float())


def test_places_are_a_count_of_all_numbers() -> None:
    values = torch.tensor([-torch.inf, -1.0, -1e-45, 0.0, 1e-45, 1.0, 3.4e38])
    place = place_of(values)
    assert torch.equal(float_at(place), values)
    assert place_of(torch.tensor([-0.0])).tolist() == [0]
    assert float_at(place + 1).tolist()[1:6] == torch.nextafter(values, torch.tensor(torch.inf)).tolist()[1:6]
