"""Data whose items encoders are tried on."""

from __future__ import annotations

import pytest

from recdistill.data.filters import Filters
from recdistill.data.interactions import Dataset
from recdistill.data.prepare import prepare
from recdistill.data.sources.synthetic import Synthetic
from recdistill.data.splits.random import RandomSplit


@pytest.fixture(scope="module")
def data() -> Dataset:
    made = prepare(Synthetic(n_users=60, n_items=40, niches=6), Filters(k_core=0), RandomSplit())
    assert isinstance(made, Dataset)
    return made
