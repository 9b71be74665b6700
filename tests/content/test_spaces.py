"""Whitening, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recdistill.content.spaces import narrowed, whitening


def cone(seed: int, rows: int = 40, length: int = 6) -> torch.Tensor:
    """Vectors of uneven directions about a mean far from 0."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(
        (rng.normal(size=(rows, length)) * rng.uniform(0.1, 3, length) @ rng.normal(size=(length, length)) + 5).astype(
            np.float32
        )
    )


def whitened(vectors: torch.Tensor, fitted: torch.Tensor, length: int | None = None) -> torch.Tensor:
    """All of them, through what was fitted to some that are known."""
    return whitening(vectors[fitted & vectors.isfinite().all(1)], length).of(vectors)


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_mean_0_and_covariance_1_over_the_fitted_rows(seed: int, length: int) -> None:
    vectors = cone(seed)
    vectors[3] = float("nan")
    fitted = torch.arange(40) < 30
    white = whitened(vectors, fitted, length)
    known = white[fitted & white.isfinite().all(1)].double().numpy()
    assert known.shape == (29, length)
    np.testing.assert_allclose(known.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(known.T, bias=True).reshape(length, length), np.eye(length), atol=1e-3)
    assert white[3].isnan().all()
    assert white[35:].isfinite().all()


def test_distances_are_mahalanobis() -> None:
    vectors = cone(1)
    white = whitened(vectors, torch.ones(40, dtype=torch.bool)).double().numpy()
    inverse = np.linalg.inv(np.cov(vectors.double().numpy().T, bias=True))
    gap = (vectors[0] - vectors[1]).double().numpy()
    assert ((white[0] - white[1]) ** 2).sum() == pytest.approx(gap @ inverse @ gap, rel=1e-4)


def test_directions_without_spread_are_left_out() -> None:
    flat = torch.cat([cone(2), torch.full((40, 2), 7.0)], 1)
    assert whitened(flat, torch.ones(40, dtype=torch.bool)).shape == (40, 6)


def test_the_first_directions_are_those_of_an_svd() -> None:
    vectors = cone(3)
    _, s, v = np.linalg.svd(vectors.double().numpy())
    cut, kept = narrowed(vectors, 2)
    np.testing.assert_allclose(np.abs(cut.numpy()), np.abs(vectors.double().numpy() @ v[:2].T), rtol=1e-4)
    assert kept == pytest.approx((s[:2] ** 2).sum() / (s**2).sum())
