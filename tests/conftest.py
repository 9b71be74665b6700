"""Settings and small data for all tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from recdistill.data.interactions import Interactions, Schema


def pytest_configure() -> None:
    import torch

    torch.set_num_threads(1)


MakeTrain = Callable[..., Interactions]


@pytest.fixture
def make_train() -> MakeTrain:
    """Random interactions where all users and items occur: ``make_train(n_users, n_items, n, seed=0)``."""
    import torch

    def make(n_users: int = 12, n_items: int = 17, n: int = 60, seed: int = 0) -> Interactions:
        rng = torch.Generator().manual_seed(seed)
        user = torch.cat([torch.arange(n_users), torch.arange(n_items) % n_users])
        item = torch.cat([torch.arange(n_users) % n_items, torch.arange(n_items)])
        user = torch.cat([user, torch.randint(n_users, (n,), generator=rng)])
        item = torch.cat([item, torch.randint(n_items, (n,), generator=rng)])
        pairs = torch.unique(torch.stack([user, item], 1), dim=0)
        return Interactions(pairs[:, 0], pairs[:, 1], n_users, n_items)

    return make


@pytest.fixture
def train(make_train: MakeTrain) -> Interactions:
    return make_train()


@pytest.fixture
def schema(train: Interactions) -> Schema:
    return Schema(n_users=train.n_users, n_items=train.n_items)
