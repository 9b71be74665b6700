"""The made-up log: its shape, its seed, and that its right answer is one."""

from __future__ import annotations

import time

import numpy as np
import polars as pl
import pytest

from recdistill.data.sources.synthetic import Synthetic
from recdistill.errors import InputError


def test_shape_and_speed() -> None:
    start = time.perf_counter()
    log = Synthetic().read()
    assert time.perf_counter() - start < 5
    events = log.events
    assert events["user"].n_unique() == 2000
    assert events["item"].n_unique() > 1450
    assert 14 < events.height / 2000 < 18
    assert events.select("user", "item").is_duplicated().sum() == 0
    assert set(events["value"].unique()) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert log.items is not None
    assert log.items["title"].n_unique() == log.items.height == 1500
    assert events["time"].dtype.is_integer()


def test_seed_decides_everything() -> None:
    one, same, other = (Synthetic(n_users=50, n_items=60, niches=8, seed=seed) for seed in (1, 1, 2))
    assert one.read().events.equals(same.read().events)
    assert not one.read().events.equals(other.read().events)
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    assert one.fingerprint() != Synthetic(n_users=50, n_items=60, niches=8, seed=1, drift=0).fingerprint()


def test_events_follow_the_true_scores() -> None:
    source = Synthetic(n_users=300, n_items=200, niches=10, niches_per_user=2)
    scores = source.true_scores()
    events = source.read().events
    user = events["user"].str.slice(1).cast(pl.Int64).to_numpy()
    item = events["item"].str.slice(1).cast(pl.Int64).to_numpy()
    below = np.mean([(scores[u] < scores[u, i]).mean() for u, i in zip(user, item, strict=True)])
    assert below > 0.85


def test_taste_has_many_directions() -> None:
    source = Synthetic(n_users=500)
    scores = source.true_scores()
    share = np.linalg.svd(scores - scores.mean(0), compute_uv=False) ** 2
    share = share.cumsum() / share.sum()
    assert share[7] < 0.2
    assert share[15] < 0.35
    assert share[95] > 0.99


def test_popularity_has_a_long_tail() -> None:
    flat, skewed = (Synthetic(popularity=exponent).read().events for exponent in (0.0, 1.0))
    head = [
        frame["item"].value_counts()["count"].sort(descending=True)[:300].sum() / frame.height
        for frame in (flat, skewed)
    ]
    assert head[0] < 0.35 < 0.5 < head[1]


def test_drift_moves_seasons() -> None:
    for drift, low, high in ((0.0, -0.05, 0.05), (1.0, 0.2, 1.0)):
        source = Synthetic(n_users=500, drift=drift)
        events = source.read().events
        season = source._world[3][events["item"].str.slice(1).cast(pl.Int64).to_numpy()]
        assert low < np.corrcoef(season, events["time"].to_numpy())[0, 1] < high


def test_extremes() -> None:
    assert (
        Synthetic(n_users=3, n_items=4, interactions_per_user=50, niches=2, niches_per_user=1).read().events.height
        == 12
    )
    with pytest.raises(InputError, match=r"data.source.niches_per_user"):
        Synthetic(niches=2, niches_per_user=3)
