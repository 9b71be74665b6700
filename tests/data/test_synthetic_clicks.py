"""The made-up clicks: the formula, the rate, and the best that can be had, against loops over rows and pairs."""

from __future__ import annotations

import math
import time
from itertools import combinations, product
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.filters import Filters
from recdistill.data.interactions import TableDataset
from recdistill.data.prepare import prepare
from recdistill.data.sources.synthetic_clicks import SyntheticClicks, best_auc, best_logloss
from recdistill.data.splits import RandomSplit
from recdistill.errors import InputError

SMALL: dict[str, Any] = {"n_rows": 300, "sizes": {"a": 6, "b": 3}, "group": None}
CHANCES = st.lists(st.floats(0.01, 0.99) | st.just(0.5), min_size=2, max_size=12)


@settings(max_examples=60, deadline=None)
@given(CHANCES)
def test_the_best_auc_is_that_over_all_pairs(chances: list[float]) -> None:
    won = total = 0.0
    for one, other in product(range(len(chances)), repeat=2):
        if one != other:
            pair = chances[one] * (1 - chances[other])  # `one` is clicked, `other` is not
            total += pair
            won += pair * (chances[one] > chances[other]) + pair * (chances[one] == chances[other]) / 2
    assert best_auc(np.array(chances)) == pytest.approx(won / total, abs=1e-12)


@given(CHANCES)
def test_the_best_logloss_is_the_entropy(chances: list[float]) -> None:
    entropy = [-p * math.log(p) - (1 - p) * math.log(1 - p) for p in chances]
    assert best_logloss(np.array(chances)) == pytest.approx(sum(entropy) / len(entropy))


def test_what_is_said_is_what_labels_show() -> None:
    source = SyntheticClicks(n_rows=30_000)
    label, chance = source.read().events["value"].to_numpy(), source.true_probabilities()
    rank = np.empty(label.size)
    rank[np.argsort(chance)] = np.arange(1, label.size + 1)
    positive = label.sum()
    shown = (rank[label == 1].sum() - positive * (positive + 1) / 2) / (positive * (label.size - positive))
    assert source.read().facts["best AUC"] == f"{best_auc(chance):.4f}, of the true probabilities"
    assert best_auc(chance) == pytest.approx(shown, abs=0.01)
    assert best_logloss(chance) == pytest.approx(
        -np.mean(label * np.log(chance) + (1 - label) * np.log(1 - chance)), abs=0.01
    )
    assert label.mean() == pytest.approx(0.25, abs=0.01)
    assert chance.mean() == pytest.approx(0.25, abs=1e-9)


def one_hot(events: pl.DataFrame) -> Any:
    """The inputs of the formula: fields one-hot, then numbers."""
    fields = [name for name, dtype in events.schema.items() if dtype == pl.String]
    return np.hstack([events.select(fields).to_dummies().to_numpy(), events.select("price", "age").to_numpy()])


@pytest.mark.parametrize(("arguments", "fits"), [({"interaction": 0.0}, True), ({"dim": 0}, True), ({}, False)])
def test_without_pairs_it_is_a_logistic_regression(arguments: dict[str, Any], fits: bool) -> None:
    source = SyntheticClicks(**SMALL | arguments)
    chance = source.true_probabilities()
    inputs = one_hot(source.read().events)
    logit = np.log(chance / (1 - chance))
    residual = logit - inputs @ np.linalg.lstsq(inputs, logit, rcond=None)[0]
    assert bool(np.abs(residual).max() < 1e-8) is fits


def test_with_pairs_it_is_a_polynomial_of_second_order() -> None:
    source = SyntheticClicks(**SMALL, linear=0.0)
    chance = source.true_probabilities()
    first = one_hot(source.read().events)
    pairs = [first[:, i] * first[:, j] for i, j in combinations(range(first.shape[1]), 2)]
    inputs = np.column_stack([first, *pairs])
    logit = np.log(chance / (1 - chance))
    residual = logit - inputs @ np.linalg.lstsq(inputs, logit, rcond=None)[0]
    assert np.abs(residual).max() < 1e-8


@pytest.mark.parametrize("interaction", [0.0, 1.0])
@pytest.mark.parametrize("linear", [0.0, 0.7])
def test_the_terms_are_as_large_as_asked(linear: float, interaction: float) -> None:
    def logit(**arguments: float) -> Any:
        chance = SyntheticClicks(**SMALL, **arguments).true_probabilities()
        return np.log(chance / (1 - chance))

    assert logit(linear=linear, interaction=0.0).std() == pytest.approx(linear, abs=1e-9)
    assert logit(linear=0.0, interaction=interaction).std() == pytest.approx(interaction, abs=1e-9)


def test_the_tail_is_long() -> None:
    counts = SyntheticClicks(sizes={"a": 50}, group="a").read().events["a"].value_counts()["count"].sort()
    assert counts[-1] / counts[-2] == pytest.approx(2, rel=0.1)
    flat = SyntheticClicks(sizes={"a": 50}, group="a", popularity=0).read().events["a"].value_counts()["count"]
    assert flat.max() < 1.5 * flat.min()  # type: ignore[operator]


def test_a_seed_is_a_table() -> None:
    first, again, other = SyntheticClicks(**SMALL), SyntheticClicks(**SMALL), SyntheticClicks(**SMALL, seed=1)
    before = first.fingerprint()
    assert first.read().events.equals(again.read().events)
    assert not first.read().events.equals(other.read().events)
    assert before == first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_it_is_prepared_like_any_table() -> None:
    start = time.process_time()
    log = SyntheticClicks().read()
    assert time.process_time() - start < 1
    assert log.events.height == 20_000
    dataset = prepare(SyntheticClicks(), Filters(), RandomSplit())
    assert isinstance(dataset, TableDataset)
    assert set(dataset.schema.features) == {"categorical", "numeric"}
    assert dataset.train.group is not None
    assert dataset.report["parts"]["test"]["positive"] == int(dataset.test.label.sum())


def test_names_that_are_taken() -> None:
    with pytest.raises(InputError, match="price"):
        SyntheticClicks(sizes={"price": 3})
    with pytest.raises(InputError, match="item"):
        SyntheticClicks(sizes={"item": 3}, group=None)
    with pytest.raises(InputError) as caught:
        SyntheticClicks(sizes={"user_id": 3}, group="user")
    assert caught.value.fix == "data.source.group=user_id"
