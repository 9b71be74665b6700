"""Lists as serving cuts them: one defined order, masks, padding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.csr import Csr
from recdistill.errors import InputError
from recdistill.evaluation.topk import largest, recommend, top_k

NOTHING = Csr(torch.zeros(4, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 15))
def test_equal_scores_are_ordered_by_item(row: list[int], k: int) -> None:
    items, values = top_k(torch.tensor([row, row[::-1]]).float(), k)
    for got, scored, given_row in zip(items.tolist(), values.tolist(), (row, row[::-1]), strict=True):
        expected = sorted(range(len(row)), key=lambda i: (-given_row[i], i))[:k]
        assert got == expected + [-1] * (k - len(expected))
        assert scored[: len(expected)] == [given_row[i] for i in expected]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(12, 400), st.sampled_from([3, 50, 10**6]))
def test_largest_is_what_torch_finds(seed: int, k: int, width: int, levels: int) -> None:
    """Wide rows go through blocks, whose last one is shorter; -inf and NaN are there too."""
    rng = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (5, width), generator=rng).float()
    scores[torch.rand(scores.shape, generator=rng) < 0.1] = -torch.inf
    scores[3, seed % width] = torch.nan
    scores[4] = -torch.inf
    before = scores.clone()
    values, items = largest(scores, k)
    expected = torch.topk(scores, k, dim=1).values
    torch.testing.assert_close(values, expected, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(scores.gather(1, items), values, rtol=0, atol=0, equal_nan=True)
    assert all(len(set(row)) == k for row in items.tolist())
    torch.testing.assert_close(scores, before, rtol=0, atol=0, equal_nan=True)


def test_recommend_masks_and_pads() -> None:
    scores = torch.tensor([[1.0, 2, 3], [3, 2, 1], [1, 1, 1]])
    seen = Csr.from_pairs(torch.tensor([0, 1, 1, 1]), torch.tensor([2, 0, 1, 2]), 3)
    items, values = recommend(lambda users: scores[users], torch.arange(3), seen, 3)
    assert items.tolist() == [[1, 0, -1], [-1, -1, -1], [0, 1, 2]]
    assert values[0].tolist() == [2, 1, -torch.inf]
    assert scores[0].tolist() == [1, 2, 3]


def test_batch_equals_single() -> None:
    torch.manual_seed(0)
    scores = torch.randn(3, 50).bfloat16()
    batch, _ = recommend(lambda users: scores[users], torch.arange(3), NOTHING, 10)
    single = [recommend(lambda users: scores[users], torch.tensor([u]), NOTHING, 10)[0] for u in range(3)]
    assert torch.equal(batch, torch.cat(single))


def test_nan_is_refused() -> None:
    scores = torch.zeros(3, 4)
    scores[2, 1] = torch.nan
    with pytest.raises(InputError, match="'served' scored NaN for user 2, item 1"):
        recommend(lambda users: scores[users], torch.arange(3), NOTHING, 2, name="served")
