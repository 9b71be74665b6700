"""Paired tests and intervals, against scipy and by their error rates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from recdistill.errors import InputError
from recdistill.evaluation.significance import bootstrap_mean, bootstrap_ratio, holm, paired_t


def test_identical_models_rarely_differ() -> None:
    rng = np.random.default_rng(1)
    level = rng.random(1000)
    ps = [paired_t(*(level + rng.normal(0, 0.2, (2, 1000)))) for _ in range(1000)]
    assert sum(p > 0.05 for p in ps[:100]) >= 93
    assert abs(np.mean(np.array(ps) <= 0.05) - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 1000)


def test_a_shift_of_two_hundredths_shows_on_movielens_users() -> None:
    rng = np.random.default_rng(1)
    ndcg = rng.beta(0.5, 2, 6040)
    other = np.clip(ndcg + 0.02 + rng.normal(0, 0.2, 6040), 0, 1)
    assert paired_t(other, ndcg) < 0.01


def test_paired_t_is_scipys() -> None:
    a, b = torch.rand(50, dtype=torch.float64), torch.rand(50, dtype=torch.float64)
    assert paired_t(a, b) == pytest.approx(stats.ttest_rel(a.numpy(), b.numpy()).pvalue, abs=1e-15)


@pytest.mark.filterwarnings("error")
def test_paired_t_where_the_difference_does_not_vary() -> None:
    a = np.array([0.25, 0.5, 0.75])
    assert paired_t(a, a) == 1
    assert paired_t(a + 1, a) == 0
    assert paired_t(a[:1], a[:1] + 1) == 1
    assert paired_t(a[:0], a[:0]) == 1


@pytest.mark.parametrize("test", [paired_t, bootstrap_ratio])
def test_other_users_are_refused(test) -> None:
    with pytest.raises(InputError, match="can't compare 3 users with 4"):
        test(np.zeros(3), np.zeros(4))


def test_bootstrap_of_the_mean_is_scipys() -> None:
    values = np.random.default_rng(0).beta(0.5, 2, 400)
    ours = bootstrap_mean(values, n=9999)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(1))
    assert ours.value == pytest.approx(values.mean())
    low, high = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_bootstrap_of_the_ratio_is_scipys() -> None:
    rng = np.random.default_rng(0)
    teacher = rng.beta(0.5, 2, 400)
    student = np.clip(0.9 * teacher + rng.normal(0, 0.05, 400), 0, 1)
    ours = bootstrap_ratio(torch.from_numpy(student), torch.from_numpy(teacher), n=9999)
    theirs = stats.bootstrap(
        (student, teacher), lambda a, b, axis: a.mean(axis) / b.mean(axis), paired=True, vectorized=True,
        method="percentile", rng=np.random.default_rng(1),
    )  # fmt: skip
    assert ours.value == pytest.approx(student.mean() / teacher.mean())
    low, high = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_a_model_keeps_all_of_itself() -> None:
    values = np.random.default_rng(0).random(100)
    assert tuple(bootstrap_ratio(values, values)) == pytest.approx((1, 1, 1))


def test_bootstrap_is_repeatable_and_needs_a_denominator() -> None:
    a, b = np.random.default_rng(0).random((2, 100))
    assert bootstrap_ratio(a, b, seed=3) == bootstrap_ratio(a, b, seed=3)
    assert bootstrap_ratio(a, b, seed=3) != bootstrap_ratio(a, b, seed=4)
    assert np.isnan(bootstrap_ratio(a, np.zeros(100))).all()
    assert np.isnan(bootstrap_mean(a[:0])).all()


def test_holm_by_hand() -> None:
    # Sorted .01 .02 .03 .04 times 4 3 2 1 gives .04 .06 .06 .04; a later one is never below an earlier one.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1, 1]
    assert holm([]) == []


def test_holm_rejects_what_the_loop_rejects() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        ps = (rng.random(int(rng.integers(1, 9))) ** 3).tolist()
        rejected = set()
        for step, at in enumerate(np.argsort(ps)):
            if ps[at] * (len(ps) - step) > 0.05:
                break
            rejected.add(int(at))
        assert {i for i, p in enumerate(holm(ps)) if p <= 0.05} == rejected
