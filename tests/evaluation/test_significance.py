"""E15: paired tests and intervals over users and seeds, against scipy, brute force and by their error rates."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recdistill.errors import InputError
from recdistill.evaluation import significance
from recdistill.evaluation.significance import (
    Array,
    Difference,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_ratio,
    holm,
    paired_t,
)


def bootstrap_p(a: Array, b: Array) -> float:
    return bootstrap_difference(a, b, n=400).p


@pytest.mark.parametrize("test", [paired_t, bootstrap_p])
def test_e15_identical_models_rarely_differ(test: Callable[[Array, Array], float]) -> None:
    rng = np.random.default_rng(1)
    level = rng.random(1000)
    ps = [test(*(level + rng.normal(0, 0.2, (2, 1000)))) for _ in range(100)]
    assert sum(p > 0.05 for p in ps) >= 93


def test_e15_a_shift_of_two_hundredths_shows_on_movielens_users() -> None:
    rng = np.random.default_rng(1)
    ndcg = rng.beta(0.5, 2, 6040)
    other = np.clip(ndcg + 0.02 + rng.normal(0, 0.2, 6040), 0, 1)
    assert paired_t(other, ndcg) < 0.01
    assert bootstrap_difference(other, ndcg).p < 0.01


def seeds_of(level: Array, seeds: int, spread: float, rng: np.random.Generator) -> Array:
    """A model by seed and user: what a seed adds for everybody, and what it adds for each user."""
    return level + rng.normal(0, spread, (seeds, 1)) + rng.normal(0, 0.15, (seeds, len(level)))


@pytest.mark.parametrize(
    ("seeds", "spread", "same_seeds", "most"),
    [(2, 0.02, False, 0.08), (3, 0.02, False, 0.08), (5, 0.02, False, 0.08), (3, 0.02, True, 0.09),
     (5, 0.02, True, 0.08), (3, 0.0, False, 0.06), (5, 0.0, True, 0.06)],
)  # fmt: skip
def test_e15_two_models_of_equal_worth(seeds: int, spread: float, same_seeds: bool, most: float) -> None:
    """Where seeds vary, a test over users calls it a difference; the two-way test does so about one time in twenty."""
    rng = np.random.default_rng(seeds)
    ours, of_users = [], []
    for _ in range(500):
        level = rng.beta(0.5, 2, 200)
        a, b = (seeds_of(level, seeds, spread, rng) for _ in range(2))
        ours.append(bootstrap_difference(a, b, same_seeds=same_seeds, n=200).p)
        of_users.append(paired_t(a.mean(0), b.mean(0)))
    assert np.mean(np.array(ours) < 0.05) <= most
    if spread:
        assert np.mean(np.array(of_users) < 0.05) > 0.25


def test_e15_seeds_that_are_shared_do_not_hide_a_difference() -> None:
    """A model and its compressed self: seeds vary far more than the two differ."""
    rng = np.random.default_rng(0)
    teacher = seeds_of(rng.beta(0.5, 2, 500), 3, 0.05, rng)
    small = teacher - 0.01 + rng.normal(0, 0.02, teacher.shape)
    assert bootstrap_difference(small, teacher, same_seeds=True).p < 0.001
    assert bootstrap_difference(small, teacher).p > 0.2


def user_bootstrap(a: Array, b: Array, n: int) -> Array:
    """The paired bootstrap over users, as a loop."""
    rng = np.random.default_rng(5)
    draws = (rng.integers(len(a), size=len(a)) for _ in range(n))
    return np.array([a[drawn].mean() - b[drawn].mean() for drawn in draws])


def test_one_seed_is_the_bootstrap_over_users() -> None:
    rng = np.random.default_rng(0)
    teacher = rng.beta(0.5, 2, 300)
    student = np.clip(teacher - 0.005 + rng.normal(0, 0.08, 300), 0, 1)
    ours = bootstrap_difference(student, teacher, n=9999)
    theirs = stats.bootstrap(
        (student - teacher,), np.mean, method="percentile", n_resamples=9999, rng=np.random.default_rng(1)
    )
    loop = user_bootstrap(student, teacher, 3000)
    error = theirs.standard_error
    assert ours.value == pytest.approx(student.mean() - teacher.mean(), abs=1e-15)
    assert tuple(ours[1:3]) == pytest.approx(theirs.confidence_interval, abs=0.1 * error)
    assert tuple(ours[1:3]) == pytest.approx(np.quantile(loop, [0.025, 0.975]), abs=0.15 * error)
    permuted = stats.permutation_test(
        (student, teacher), lambda x, y, axis: (x - y).mean(axis), permutation_type="samples", vectorized=True,
        n_resamples=9999, rng=np.random.default_rng(1),
    )  # fmt: skip
    assert ours.p == pytest.approx(permuted.pvalue, abs=0.015)
    assert ours.p == pytest.approx(paired_t(student, teacher), abs=0.015)
    for same_seeds in (False, True):
        assert bootstrap_difference(student[None], teacher[None], same_seeds=same_seeds, n=9999) == ours


def two_way_loop(a: Array, b: Array, n: int) -> Array:
    """Seeds of each model, then users, drawn with replacement: plain, as a loop."""
    rng = np.random.default_rng(3)
    out = []
    for _ in range(n):
        users = rng.integers(a.shape[1], size=a.shape[1])
        left, right = (model[rng.integers(len(model), size=len(model))] for model in (a, b))
        out.append(left[:, users].mean() - right[:, users].mean())
    return np.array(out)


def test_the_two_way_bootstrap_is_the_loop_but_for_its_corrections() -> None:
    """With many seeds, and each a world of its own for everybody, nothing is left to put right."""
    rng = np.random.default_rng(0)
    level = rng.beta(0.5, 2, 150)
    a, b = (level + rng.normal(0, 0.05, (40, 1)) for _ in range(2))
    ours = bootstrap_difference(a, b, n=6000)
    loop = two_way_loop(a, b, 3000)
    assert (ours.high - ours.low) / 2 == pytest.approx(1.99 * loop.std(), rel=0.06)


def test_the_standard_error_is_that_of_the_variance_components() -> None:
    """The closed form of crossed random effects: users / U + seeds / S + the rest / (S U), for both models."""
    rng = np.random.default_rng(2)
    users, seeds = 400, 30
    variance = (0.1**2) / users + 2 * 0.01**2 / seeds + 2 * 0.2**2 / (seeds * users)
    widths = []
    for at in range(20):
        liked = rng.normal(0, 0.1, users)
        a, b = (rng.normal(0, 0.01, (seeds, 1)) + rng.normal(0, 0.2, (seeds, users)) for _ in range(2))
        found = bootstrap_difference(a + liked, b, n=600, seed=at)
        widths.append((found.high - found.low) / 2)
    assert np.mean(np.square(widths)) == pytest.approx(1.98**2 * variance, rel=0.12)


def test_one_seed_against_several_is_taken_to_vary_as_they_do() -> None:
    rng = np.random.default_rng(0)
    level = rng.beta(0.5, 2, 200)
    several = level + rng.normal(0, 0.05, (8, 1))
    one = bootstrap_difference(level, several, n=4000)
    mirrored = bootstrap_difference(several, level, n=4000)
    assert (one.value, one.p) == pytest.approx((-mirrored.value, mirrored.p), abs=0.02)
    sd = several.mean(1).std(ddof=1)
    assert (one.high - one.low) / 2 == pytest.approx(stats.t.ppf(0.975, 7) * sd * np.sqrt(1 + 1 / 8), rel=0.05)
    assert paired_t(level, several.mean(0)) == 0


def test_difference_where_nothing_varies() -> None:
    a = np.array([0.25, 0.5, 0.75])
    assert bootstrap_difference(a, a) == Difference(0, 0, 0, 1)
    assert bootstrap_difference(a + 1, a) == Difference(1, 1, 1, 0)
    assert bootstrap_difference(np.stack([a, a]), np.stack([a, a])).p == 1
    assert bootstrap_difference(a[:1], a[:1] + 1)[::3] == (-1, 1)
    assert np.isnan(bootstrap_difference(a[:0], a[:0]).value)
    with pytest.raises(InputError, match="can't compare 3 users with 2"):
        bootstrap_difference(a, np.zeros((2, 2)))


@given(st.integers(1, 4), st.integers(1, 4), st.integers(2, 30), st.integers(0, 99), st.booleans())
@settings(max_examples=60, deadline=None)
def test_swapping_the_models_changes_the_sign(s: int, t: int, users: int, seed: int, same_seeds: bool) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random((s, users)), rng.random((s if same_seeds else t, users))
    one = bootstrap_difference(a, b, same_seeds=same_seeds, n=50)
    other = bootstrap_difference(b, a, same_seeds=same_seeds, n=50)
    assert other.value == pytest.approx(-one.value)
    assert one.low <= one.value <= one.high
    assert 0 <= one.p <= 1
    assert (one.p < 0.05) == (not one.low <= 0 <= one.high)
    shuffled = rng.permutation(users)
    assert bootstrap_difference(a[:, shuffled], b[:, shuffled], same_seeds=same_seeds, n=50).value == pytest.approx(
        one.value
    )


def test_paired_t_errs_one_time_in_twenty() -> None:
    rng = np.random.default_rng(1)
    level = rng.random(1000)
    ps = [paired_t(*(level + rng.normal(0, 0.2, (2, 1000)))) for _ in range(1000)]
    assert abs(np.mean(np.array(ps) <= 0.05) - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 1000)


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


def test_many_rows_are_resampled_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """As wide as by rows, which the closed form gives, whatever the level; what is compared is drawn together."""
    rng = np.random.default_rng(3)
    a = 100 + rng.exponential(size=5003)
    b = a * 0.9 + rng.normal(0, 0.2, 5003)
    by_rows = bootstrap_mean(a), bootstrap_ratio(a, b), bootstrap_difference(a, b)
    monkeypatch.setattr(significance, "GROUPS", 1000)
    in_groups = bootstrap_mean(a), bootstrap_ratio(a, b), bootstrap_difference(a, b)
    for rows, groups in zip(by_rows, in_groups, strict=True):
        assert groups != rows
        assert groups.value == rows.value
        assert groups.high - groups.low == pytest.approx(rows.high - rows.low, rel=0.1)
    assert in_groups[0].high - in_groups[0].low == pytest.approx(2 * 1.96 * a.std() / np.sqrt(5003), rel=0.1)


def test_groups_are_all_columns_once() -> None:
    rows = np.stack([np.arange(103.0), np.ones(103)])
    found = significance.grouped(rows, 10, 0)
    assert found.sum(1).tolist() == [103 * 51, 103]
    assert set(found[1]) == {10, 11}
    assert not np.array_equal(found[0], np.sort(found[0]))
    assert np.array_equal(found, significance.grouped(rows, 10, 0))


def test_a_million_rows_take_seconds_and_no_memory() -> None:
    values = np.random.default_rng(0).random(10**6)
    started = time.process_time()
    low, high = bootstrap_mean(values)[1:]
    assert time.process_time() - started < 15  # by rows: more than half a minute
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 1000, rel=0.1)
