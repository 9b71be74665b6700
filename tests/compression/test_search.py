"""The mildest choices within a budget, against trying all."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.compression.search import mildest


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(0, 999), st.integers(0, 120))
def test_they_are_those_of_which_no_pass_can_be_milder(counts: list[int], seed: int, limit: int) -> None:
    weights = [1 + (seed >> (3 * n)) % 8 for n in range(len(counts))]

    def fits(choice: tuple[int, ...]) -> bool:
        return sum(w * c * c for w, c in zip(weights, choice, strict=True)) >= limit

    every = [choice for choice in itertools.product(*map(range, counts)) if fits(choice)]
    wanted = [
        choice for choice in every
        if not any(choice[n] and fits(tuple(c - (m == n) for m, c in enumerate(choice))) for n in range(len(counts)))
    ]  # fmt: skip
    assert sorted(mildest(counts, fits)) == wanted


@pytest.mark.parametrize("limit", range(9))
def test_one_pass_is_found_by_bisection(limit: int) -> None:
    asked = []

    def fits(choice: tuple[int, ...]) -> bool:
        asked.append(choice)
        return choice[0] >= limit

    assert mildest([8], fits) == ([(limit,)] if limit < 8 else [])
    assert len(asked) <= 5  # the strongest, and then halves
    assert len(set(asked)) == len(asked)
