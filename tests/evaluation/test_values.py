"""Values by row and by user: their mean is the metric, their variance that of loops, formulas and resamples."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from recdistill.errors import InputError
from recdistill.evaluation.classification import ClassificationMetrics
from recdistill.evaluation.ctr import CtrMetrics, auc
from recdistill.evaluation.kept import kept, kept_share
from recdistill.evaluation.rating import RatingMetrics
from recdistill.evaluation.significance import bootstrap_mean, bootstrap_ratio, paired_t
from recdistill.evaluation.values import HAVE_VALUES, placements, values_of

CLICKS, RATINGS = ("auc", "gauc", "logloss", "ne"), ("rmse", "mae", "user_rmse", "user_mae")
ROWS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=40)


def of(metric: str, prediction: Tensor, label: Tensor, group: Tensor | None = None) -> tuple[Tensor, Tensor]:
    found = values_of(metric, prediction, label, group)
    assert found is not None
    assert found[0].dtype == torch.int64
    assert found[1].dtype == torch.float64
    assert found[0].shape == found[1].shape
    return found


def clicks(n: int, seed: int = 0, rate: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities with ties, labels that follow them, users."""
    rng = torch.Generator().manual_seed(seed)
    y = (torch.rand(n, generator=rng) < rate).long()
    p = torch.sigmoid(torch.randn(n, generator=rng) + 1.5 * y - 1)
    return (p * 200).round() / 200, y, torch.randint(max(n // 20, 1), (n,), generator=rng)


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_the_mean_is_the_metric_of_clicks(rows: list[tuple[int, int, int]]) -> None:
    score, label, user = (torch.tensor(column) for column in zip(*rows, strict=True))
    metrics = CtrMetrics(users=True)
    metrics.update(score / 7, label, user * 1000)
    for name, value in metrics.compute().items():
        if name in CLICKS:
            mean = float(of(name, score / 7, label, user * 1000)[1].mean())
            assert mean == pytest.approx(float(value), abs=1e-12, nan_ok=True), name


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_the_mean_is_the_metric_of_ratings(rows: list[tuple[int, int, int]]) -> None:
    prediction, offset, user = (torch.tensor(column) for column in zip(*rows, strict=True))
    rating = (prediction * 0.8 + offset).round()
    metrics = RatingMetrics(n_users=4)
    metrics.update(prediction.double(), rating, user)
    for name, value in metrics.compute().items():
        units, values = of(name, prediction.double(), rating, user)
        assert float(values.mean()) == pytest.approx(float(value), abs=1e-12), name
        assert units.tolist() == (sorted(set(user.tolist())) if "user" in name else list(range(len(rows))))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 2)] * 4), min_size=1, max_size=30))
def test_the_mean_is_the_accuracy_and_ties_lose(rows: list[tuple[int, int, int, int]]) -> None:
    table = torch.tensor(rows)
    logits, label = table[:, :3].float(), table[:, 3]
    metrics = ClassificationMetrics(3)
    metrics.update(logits, label)
    _, values = of("accuracy", logits, label)
    assert float(values.mean()) == pytest.approx(float(metrics.compute()["accuracy"]), abs=1e-12)
    by_hand = [float(all(row[row[3]] > row[c] for c in range(3) if c != row[3])) for row in rows]
    assert values.tolist() == by_hand


def delong_by_loops(score: list[float], label: list[int]) -> tuple[float, list[float], list[float]]:
    """AUC, V10 and V01, pair by pair."""
    positive = [s for s, y in zip(score, label, strict=True) if y]
    negative = [s for s, y in zip(score, label, strict=True) if not y]
    wins = [[(p > n) + (p == n) / 2 for n in negative] for p in positive]
    v10 = [sum(row) / len(negative) for row in wins]
    v01 = [sum(column) / len(positive) for column in zip(*wins, strict=True)]
    return sum(v10) / len(v10), v10, v01


def sample_variance(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


@pytest.mark.parametrize(("n", "seed"), list(product((30, 200), range(3))))
def test_placements_and_variance_are_delongs(n: int, seed: int) -> None:
    p, y, _ = clicks(n, seed)
    area, v10, v01 = delong_by_loops(p.tolist(), y.tolist())
    place = placements(p, y)
    assert place[y == 1].tolist() == pytest.approx(v10, abs=1e-12)
    assert place[y == 0].tolist() == pytest.approx(v01, abs=1e-12)
    assert float(place[y == 1].mean()) == pytest.approx(auc(p, y), abs=1e-12)
    _, values = of("auc", p, y)
    assert float(values.mean()) == pytest.approx(area, abs=1e-12)
    # Theirs divides by m - 1 and n - 1, ours by N - 1 over all rows: the same but for these factors.
    positive, negative = len(v10), len(v01)
    theirs = (positive - 1) / positive**2 * sample_variance(v10) + (negative - 1) / negative**2 * sample_variance(v01)
    assert float(values.var(correction=0)) / n == pytest.approx(theirs, rel=1e-10)


def test_the_paired_test_is_delongs_of_two_curves() -> None:
    """z of the difference from the covariance matrix of both models' placements, as in the paper."""
    p, y, _ = clicks(2000, rate=0.2)
    q = (p + 0.08 * torch.randn(2000, generator=torch.Generator().manual_seed(5))).clamp(0, 1)
    one, other = delong_by_loops(p.tolist(), y.tolist()), delong_by_loops(q.tolist(), y.tolist())
    s10, s01 = np.cov(one[1], other[1]), np.cov(one[2], other[2])
    cov = s10 / len(one[1]) + s01 / len(one[2])
    z = (one[0] - other[0]) / math.sqrt(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1])
    found = paired_t(of("auc", p, y)[1], of("auc", q, y)[1])
    assert stats.t.isf(found / 2, len(p) - 1) == pytest.approx(abs(z), rel=2e-3)
    assert 1 < abs(z) < 6


def ne_by_hand(p: Tensor, y: Tensor) -> float:
    rate = float(y.double().mean())
    loss = float(-(y * p.log() + (1 - y) * (1 - p).log()).mean())
    return loss / -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))


@pytest.mark.parametrize("metric", ["auc", "ne", "rmse"])
def test_the_variance_is_that_of_resamples(metric: str) -> None:
    """The metric itself on bootstrap samples, not the mean of resampled values."""
    p, y, _ = clicks(1500, seed=3, rate=0.1)
    p = p.double().clamp(0.01, 0.99)
    whole = {"auc": auc, "ne": ne_by_hand, "rmse": lambda a, b: float((a - b).square().mean().sqrt())}[metric]
    rng = torch.Generator().manual_seed(1)
    drawn = [torch.randint(1500, (1500,), generator=rng) for _ in range(1500)]
    error = np.std([whole(p[rows], y[rows]) for rows in drawn], ddof=1)
    values = of(metric, p, y)[1]
    assert float(values.std()) / math.sqrt(1500) == pytest.approx(error, rel=0.07)


def test_the_variance_of_gauc_is_that_of_resampled_users() -> None:
    """A user's rows are drawn together; most weight is on few users."""
    p, y, _ = clicks(3000, seed=4)
    user = (torch.rand(3000, generator=torch.Generator().manual_seed(2)) ** 2 * 300).long()
    units, values = of("gauc", p, y, user)
    areas = {int(u): (auc(p[user == u], y[user == u]), int((user == u).sum())) for u in user.unique()}
    known = {u: found for u, found in areas.items() if not math.isnan(found[0])}
    assert units.tolist() == sorted(known)
    area, weight = np.array([known[u] for u in sorted(known)]).T
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(known), size=(2000, len(known)))
    resampled = (area[drawn] * weight[drawn]).sum(1) / weight[drawn].sum(1)
    assert float(values.std()) / math.sqrt(len(known)) == pytest.approx(resampled.std(), rel=0.07)


def test_one_class_and_no_error() -> None:
    p, ones = torch.tensor([0.3, 0.6]), torch.ones(2)
    assert of("auc", p, ones)[1].isnan().all()
    assert of("ne", p, ones)[1].isnan().all()
    assert len(of("gauc", p, ones, torch.tensor([4, 4]))[1]) == 0
    assert of("rmse", p, p)[1].tolist() == [0, 0]


def test_which_metrics_have_values() -> None:
    p, y, user = clicks(40)
    logits = torch.stack([1 - p, p], 1)
    found = {name for name in HAVE_VALUES if values_of(name, logits if name == "accuracy" else p, y, user)}
    assert found == {*CLICKS, *RATINGS, "accuracy"} == set(HAVE_VALUES)
    assert all(values_of(name, p, y, user) is None for name in ("ece", "ece_mass", "macro_f1", "ndcg@10"))
    assert all(values_of(name, p, y) is None for name in ("gauc", "user_rmse", "user_mae"))


@settings(max_examples=100, deadline=None)
@given(ROWS, st.randoms())
def test_the_order_of_rows_does_not_matter(rows: list[tuple[int, int, int]], rng: object) -> None:
    order = list(range(len(rows)))
    rng.shuffle(order)  # type: ignore[attr-defined]
    score, label, _ = (torch.tensor(column) for column in zip(*rows, strict=True))
    for metric in ("auc", "ne", "rmse"):
        plain, shuffled = of(metric, score / 7, label)[1], of(metric, (score / 7)[order], label[order])[1]
        torch.testing.assert_close(plain[order], shuffled, rtol=1e-9, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize(
    ("metric", "own", "teacher", "share"),
    [
        ("ndcg@10", 0.3, 0.4, 0.75), ("accuracy", 0.9, 0.95, 0.9 / 0.95), ("auc", 0.7, 0.9, 0.5),
        ("gauc", 0.4, 0.6, -1.0), ("rmse", 0.8, 0.6, 0.75), ("logloss", 0.4, 0.5, 1.25), ("mae", 0.5, 0.0, 0.0),
        ("auc", 0.7, 0.5, None), ("auc", 0.7, 0.4, None), ("ndcg@10", 0.1, 0.0, None), ("mae", 0.0, 0.1, None),
        ("auc", 0.7, math.nan, None),
    ],
)  # fmt: skip
def test_share_kept(metric: str, own: float, teacher: float, share: float | None) -> None:
    found = kept_share(own, teacher, metric)
    assert found == (None if share is None else pytest.approx(share, abs=1e-12))


def test_share_of_values_has_the_interval_of_the_paired_ratio() -> None:
    p, y, _ = clicks(1000)
    own, teacher = of("auc", (p * 8).round(), y)[1], of("auc", p, y)[1]
    found = kept(own, teacher, "auc")
    assert found is not None
    assert found == pytest.approx(bootstrap_ratio(own - 0.5, teacher - 0.5))
    assert found.value == pytest.approx((auc((p * 8).round(), y) - 0.5) / (auc(p, y) - 0.5), abs=1e-12)
    ours, theirs = of("rmse", p * 0.5, y)[1], of("rmse", p, y)[1]
    assert kept(ours, theirs, "rmse") == pytest.approx(bootstrap_ratio(theirs, ours))
    assert kept(ours, theirs, "ndcg@10") == pytest.approx(bootstrap_ratio(ours, theirs))


def test_a_teacher_that_may_be_no_better_than_chance_gives_no_share() -> None:
    p, y, _ = clicks(1000)
    rng = torch.Generator().manual_seed(0)
    draws = (torch.rand(1000, generator=rng) for _ in range(20))
    noise = next(draw for draw in draws if 0.5 < auc(draw, y) < 0.51)
    own, teacher = of("auc", p, y)[1], of("auc", noise, y)[1]
    assert bootstrap_mean(teacher).low < 0.5 < float(teacher.mean())
    assert kept(own, teacher, "auc") is None
    assert kept(teacher, own, "auc") is not None
    assert kept(own, of("auc", 1 - p, y)[1], "auc") is None
    one_hit = torch.zeros(200, dtype=torch.float64).index_fill(0, torch.tensor([7]), 1.0)
    assert kept(torch.full((200,), 0.5), one_hit, "ndcg@10") is None
    assert kept(one_hit + 0.1, one_hit, "rmse") is not None  # of an error 0 is no chance


def test_values_of_other_rows_are_refused() -> None:
    p, y, _ = clicks(100)
    with pytest.raises(InputError, match="100"):
        kept(of("auc", p, y)[1], of("auc", p[:90], y[:90])[1], "auc")


def test_a_million_rows_take_seconds() -> None:
    rng = torch.Generator().manual_seed(0)
    p, y = torch.rand(10**6, generator=rng), torch.rand(10**6, generator=rng) < 0.001
    _, values = of("auc", p, y)
    assert float(values.mean()) == pytest.approx(auc(p, y), abs=1e-12)
