"""Models and data of the tests of this folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from distiller_parts import make_mf

from recdistill.data.interactions import Interactions, Schema
from recdistill.models.base import FactorModel


@pytest.fixture
def student(schema: Schema) -> FactorModel:
    return make_mf(schema, 1)


@pytest.fixture
def teacher(schema: Schema) -> FactorModel:
    return make_mf(schema, 2, dim=5)


@pytest.fixture
def full_user() -> Interactions:
    """User 0 has seen everything, user 1 all but two items, user 2 one item; there are 6."""
    user = torch.tensor([0] * 6 + [1] * 4 + [2])
    item = torch.tensor([*range(6), 0, 2, 3, 5, 1])
    return Interactions(user, item, 3, 6)
