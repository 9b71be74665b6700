"""Vectors of users that training lacked, against the normal equations solved one user at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.interactions import Schema
from recdistill.models import least_squares
from recdistill.models.fold_in import fold_in
from recdistill.models.ials import IALS


def items_of(n: int = 30, dim: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def histories(n_users: int = 12, n_items: int = 30, seed: int = 0) -> Csr:
    """Histories of many lengths; user 3 has none."""
    rng = torch.Generator().manual_seed(seed)
    user = torch.cat([torch.full((2 * n + 1,), n) for n in range(n_users) if n != 3])
    return Csr.from_pairs(user, torch.randint(n_items, user.shape, generator=rng), n_users)


def slow(items: Tensor, history: Csr, unobserved: float, ridge: float) -> np.ndarray:
    q = items.double().numpy()
    rows = []
    for start, end in zip(history.indptr[:-1].tolist(), history.indptr[1:].tolist(), strict=True):
        own = history.indices[start:end].numpy()
        weight = np.full(len(q), unobserved)
        weight[own] += 1
        penalty = ridge * (q**2).mean() * (len(own) + unobserved * len(q))
        normal = q.T @ (weight[:, None] * q) + penalty * np.eye(q.shape[1])
        target = np.zeros(len(q))
        target[own] = 1
        rows.append(np.linalg.solve(normal, q.T @ target))
    return np.stack(rows)


@pytest.mark.parametrize("chunk", [1, 300, 1 << 23])
@pytest.mark.parametrize(("unobserved", "ridge"), [(1 / 40, 3.0), (1.0, 0.01), (0.001, 0.5)])
def test_normal_equations(chunk: int, unobserved: float, ridge: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(least_squares, "CHUNK", chunk)
    items, history = items_of(), histories()
    found = fold_in(items, history, unobserved, ridge)
    np.testing.assert_allclose(found.numpy(), slow(items, history, unobserved, ridge), rtol=1e-4, atol=1e-5)
    assert not found[3].any()


def test_the_length_of_vectors_has_no_say() -> None:
    items, history = items_of(), histories()
    scores = [fold_in(scale * items, history) @ (scale * items).T for scale in (1.0, 100.0)]
    torch.testing.assert_close(scores[0], scores[1], atol=1e-5, rtol=1e-4)


def test_a_history_of_one_kind_is_recognised() -> None:
    items = torch.eye(2).repeat_interleave(10, 0)
    scores = fold_in(items, Csr.from_pairs(torch.tensor([0, 0, 0]), torch.tensor([0, 1, 2]), 1)) @ items.T
    assert bool((scores[0, :10] > scores[0, 10:].max()).all())


def test_nobody() -> None:
    nobody = Csr.from_pairs(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64), 0)
    assert fold_in(items_of(), nobody).shape == (0, 5)


def test_ials_solves_its_own_equation() -> None:
    torch.manual_seed(0)
    model = IALS(Schema(n_users=4, n_items=30), dim=5)
    history = histories()
    torch.testing.assert_close(model.folded(history), model.solved(model.item, history))
    torch.testing.assert_close(model.fold_in(history), model.folded(history) @ model.item.T)
