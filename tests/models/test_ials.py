"""iALS against the normal equations solved user by user, and against its own objective."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.csr import Csr
from recdistill.data.interactions import Interactions, Schema
from recdistill.models import least_squares
from recdistill.models.ials import IALS
from recdistill.models.least_squares import chunks, table

SETTINGS: list[dict[str, Any]] = [
    {"l2": 0.01, "unobserved": 0.1, "nu": 1.0},
    {"l2": 0.5, "unobserved": 1.0, "nu": 0.0},
    {"l2": 0.05, "unobserved": 0.02, "nu": 0.5},
]


def made(train: Interactions, **more: Any) -> IALS:
    torch.manual_seed(3)
    return IALS(Schema(train.n_users, train.n_items), **{"dim": 4, "epochs": 3, "init_std": 1.0, **more}).double()


def dense(train: Interactions) -> np.ndarray:
    x = np.zeros((train.n_users, train.n_items))
    x[train.user, train.item] = 1
    return x


def penalties(x: np.ndarray, model: IALS) -> np.ndarray:
    """λ (|I_u| + α₀ n)^ν of each row."""
    return model.l2 * (x.sum(1) + model.unobserved * x.shape[1]) ** model.nu


def solve(x: np.ndarray, fixed: np.ndarray, model: IALS) -> np.ndarray:
    """Every row by itself: (Σ over its ones h hᵀ + α₀ HᵀH + penalty I)⁻¹ Σ h."""
    rows = []
    for row, penalty in zip(x, penalties(x, model), strict=True):
        own = fixed[row > 0]
        normal = own.T @ own + model.unobserved * fixed.T @ fixed + penalty * np.eye(fixed.shape[1])
        rows.append(np.linalg.solve(normal, own.sum(0)))
    return np.array(rows)


def objective(x: np.ndarray, user: np.ndarray, item: np.ndarray, model: IALS) -> float:
    scores = user @ item.T
    loss = (x * (scores - 1) ** 2).sum() + model.unobserved * (scores**2).sum()
    loss += (penalties(x, model) * (user**2).sum(1)).sum()
    return float(loss + (penalties(x.T, model) * (item**2).sum(1)).sum())


@pytest.mark.parametrize("more", SETTINGS)
def test_a_fit_is_the_loop_over_users_and_items(train: Interactions, more: dict[str, Any]) -> None:
    model = made(train, **more)
    x, item = dense(train), model.item.numpy().copy()
    for _ in range(model.epochs):
        user = solve(x, item, model)
        item = solve(x.T, user, model)
    model.fit(train)
    np.testing.assert_allclose(model.user, user, atol=1e-10)
    np.testing.assert_allclose(model.item, item, atol=1e-10)
    np.testing.assert_allclose(model.scores(torch.tensor([5, 0])), user[[5, 0]] @ item.T, atol=1e-10)


@pytest.mark.parametrize("more", SETTINGS)
def test_every_half_step_lowers_the_objective_to_where_its_gradient_is_zero(
    train: Interactions, more: dict[str, Any]
) -> None:
    model, x = made(train, **more), dense(train)
    sides = [torch.randn(train.n_users, 4, dtype=torch.float64), model.item]
    partners = [train.csr, Csr.from_pairs(train.item, train.user, train.n_items)]
    before = objective(x, *(side.numpy() for side in sides), model)
    for step in range(8):
        sides[step % 2] = model.solved(sides[1 - step % 2], partners[step % 2])
        after = objective(x, *(side.numpy() for side in sides), model)
        assert after < before
        before = after
        for nudge in (1e-3, -1e-3):
            off = [side.numpy().copy() for side in sides]
            off[step % 2][2, 1] += nudge
            assert objective(x, *off, model) > after


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 40), st.integers(20, 400), st.integers(0, 99))
def test_how_users_are_put_together_changes_nothing(users: int, items: int, pairs: int, chunk: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    train = Interactions(
        torch.randint(users, (pairs,), generator=rng), torch.randint(items, (pairs,), generator=rng), users, items
    )
    model = made(train, l2=0.1)
    fixed = torch.randn(items, 4, generator=rng, dtype=torch.float64)
    expected = solve(dense(train), fixed.numpy(), model)
    previous, least_squares.CHUNK = least_squares.CHUNK, chunk
    try:
        there = train.csr.counts().nonzero().flatten()
        assert sorted(n for rows in chunks(train.csr.counts(), 4) for n in rows.tolist()) == there.tolist()
        np.testing.assert_allclose(model.solved(fixed, train.csr), expected, atol=1e-9)
    finally:
        least_squares.CHUNK = previous


def test_a_new_user_is_solved_for_like_any_other(train: Interactions) -> None:
    model = made(train)
    model.fit(train)
    expected = solve(dense(train), model.item.numpy(), model)
    np.testing.assert_allclose(model.folded(train.csr), expected, atol=1e-6)
    model = model.float()
    np.testing.assert_allclose(model.fold_in(train.csr), expected @ model.item.numpy().T, atol=1e-4)


def test_a_padded_table_has_each_row_and_the_filler() -> None:
    sets = Csr.from_pairs(torch.tensor([0, 2, 2, 2]), torch.tensor([4, 1, 3, 0]), 3)
    assert table(sets, torch.tensor([2, 1, 0]), 9).tolist() == [[0, 1, 3], [9, 9, 9], [4, 9, 9]]


def test_nobody_gets_a_vector_from_nothing(train: Interactions) -> None:
    wider = Interactions(train.user, train.item, train.n_users + 1, train.n_items + 1)
    model = made(wider)
    model.fit(wider)
    assert model.user[-1].abs().max() == 0
    assert model.item[-1].abs().max() == 0
    assert bool(model.user.isfinite().all())


def test_single_precision_is_enough(train: Interactions) -> None:
    double = made(train, epochs=16)
    single = IALS(double.schema, dim=4, epochs=16, l2=double.l2, unobserved=double.unobserved)
    single.item.copy_(double.item)
    for model in (double, single):
        model.fit(train)
    users = torch.arange(train.n_users)
    torch.testing.assert_close(single.scores(users).double(), double.scores(users), atol=1e-4, rtol=1e-3)


def test_the_seed_decides(train: Interactions) -> None:
    items = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model = IALS(Schema(train.n_users, train.n_items), dim=4, epochs=1)
        model.fit(train)
        items.append(model.item)
    assert torch.equal(items[0], items[1])
    assert not torch.equal(items[0], items[2])
