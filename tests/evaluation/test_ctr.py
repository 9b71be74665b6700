"""Click prediction: loops over pairs and bins, torchmetrics, and what ties and processes may not change."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from torchmetrics.functional.classification import binary_calibration_error

from recdistill.errors import InputError
from recdistill.evaluation.ctr import CtrMetrics, auc, calibration_error, gauc, log_loss, normalised_entropy

ROWS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=40
)  # few distinct scores: ties everywhere


def auc_by_pairs(scores: list[float], labels: list[int]) -> float:
    won = [(p > n) + (p == n) / 2
           for p, one in zip(scores, labels, strict=True) if one
           for n, other in zip(scores, labels, strict=True) if not other]  # fmt: skip
    return sum(won) / len(won) if won else math.nan


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_auc_and_gauc_over_pairs(rows: list[tuple[int, int, int]]) -> None:
    scores, labels, users = zip(*rows, strict=True)
    s, y, u = torch.tensor(scores) / 7, torch.tensor(labels), torch.tensor(users) * 1000
    assert auc(s, y) == pytest.approx(auc_by_pairs(scores, labels), nan_ok=True, abs=1e-12)
    weighted, total, one_class = 0.0, 0, 0
    for user in set(users):
        own = [(a, b) for a, b, c in rows if c == user]
        area = auc_by_pairs([a for a, _ in own], [b for _, b in own])
        if math.isnan(area):
            one_class += 1
        else:
            weighted, total = weighted + area * len(own), total + len(own)
    found, left_out = gauc(s, y, u)
    assert found == pytest.approx(weighted / total if total else math.nan, nan_ok=True, abs=1e-12)
    assert left_out == one_class


def test_auc_is_mann_whitneys_u() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 50, 3000) / 50, rng.random(3000) < 0.2
    u = mannwhitneyu(scores[labels], scores[~labels]).statistic
    ours = auc(torch.from_numpy(scores), torch.from_numpy(labels))
    assert ours == pytest.approx(u / (labels.sum() * (~labels).sum()), abs=1e-12)


def test_log_loss_by_hand_and_clipped() -> None:
    losses = log_loss(torch.tensor([0.5, 0.9, 0.0, 1.0], dtype=torch.float64), torch.tensor([1, 0, 1, 1]))
    assert losses.tolist() == pytest.approx([math.log(2), -math.log(0.1), -math.log(1e-15), 0], abs=1e-9)


def test_normalised_entropy_is_one_for_the_base_rate() -> None:
    label = torch.tensor([1, 0, 0, 0, 1])
    loss = float(log_loss(torch.full((5,), 0.4).double(), label).mean())
    assert normalised_entropy(loss, 0.4) == pytest.approx(1)
    assert math.isnan(normalised_entropy(0.1, 0.0))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([5, 15]))
def test_calibration_error_agrees_with_torchmetrics(seed: int, bins: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    p = torch.rand(200, generator=rng)
    label = (torch.rand(200, generator=rng) < p**2).long()
    theirs = float(binary_calibration_error(p, label, n_bins=bins, norm="l1"))
    assert calibration_error(p, label, bins=bins) == pytest.approx(theirs, abs=1e-6)


def test_calibration_error_with_equal_mass_by_loops() -> None:
    rng = np.random.default_rng(1)
    p, label = rng.random(60), rng.integers(0, 2, 60)
    order = p.argsort()
    bins = [order[b * 12 : (b + 1) * 12] for b in range(5)]
    expected = sum(len(b) / 60 * abs(label[b].mean() - p[b].mean()) for b in bins)
    ours = calibration_error(torch.from_numpy(p), torch.from_numpy(label), bins=5, equal="mass")
    assert ours == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("equal", ["width", "mass"])
def test_calibration_by_hand_and_in_any_order(equal: str) -> None:
    p = torch.tensor([0.25, 0.25, 0.25, 0.25, 1.0, 1.0])
    label = torch.tensor([1, 0, 0, 0, 1, 0])
    for order in (torch.arange(6), torch.arange(6).flip(0)):
        assert calibration_error(p[order], label[order], bins=3, equal=equal) == pytest.approx(2 / 6 * 0.5)


def test_equal_probabilities_are_in_the_bin_of_their_middle() -> None:
    """Two halves of six rows: four are equal, and their middle is in the second half."""
    p, label = torch.tensor([0.1, 0.1, 0.5, 0.5, 0.5, 0.5]), torch.tensor([1, 1, 1, 0, 0, 0])
    assert calibration_error(p, label, bins=2, equal="mass") == pytest.approx((1.8 + 1.0) / 6)


def case(n: int = 500) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    p = (torch.rand(n, generator=rng) * 20).round() / 20
    return p, (torch.rand(n, generator=rng) < p).long(), torch.randint(40, (n,), generator=rng)


@pytest.mark.parametrize("size", [1, 7, 64, 500])
def test_batch_size_does_not_matter(size: int) -> None:
    p, label, user = case()
    metrics = CtrMetrics(users=True)
    for part in torch.arange(500).split(size):
        metrics.update(p[part], label[part], user[part])
    found = {name: float(value) for name, value in metrics.compute().items()}
    loss = float(log_loss(p, label).mean())
    assert found == pytest.approx({
        "auc": auc(p, label), "logloss": loss, "ne": normalised_entropy(loss, float(label.double().mean())),
        "ece": calibration_error(p, label), "ece_mass": calibration_error(p, label, equal="mass"),
        "gauc": gauc(p, label, user)[0],
    }, abs=1e-12)  # fmt: skip
    assert metrics.n_one_class == gauc(p, label, user)[1]
    assert metrics.warnings == []


def test_constant_predictions_are_half_right_and_named() -> None:
    metrics = CtrMetrics()
    for _ in range(3):
        metrics.update(torch.full((4,), 0.3), torch.tensor([1, 0, 1, 0]))
    assert float(metrics.compute()["auc"]) == 0.5
    assert metrics.warnings == ["constant_predictions"]
    one = CtrMetrics()
    one.update(torch.tensor([0.3]), torch.tensor([1]))
    assert math.isnan(float(one.compute()["auc"]))
    assert one.warnings == []


def test_nan_names_model_and_row() -> None:
    metrics = CtrMetrics("student")
    metrics.update(torch.rand(5), torch.ones(5))
    with pytest.raises(InputError, match="'student' predicted NaN for row 7"):
        metrics.update(torch.tensor([0.1, 0.2, torch.nan]), torch.ones(3))


@pytest.mark.parametrize("logit", [-0.1, 1.1])
def test_logits_are_refused(logit: float) -> None:
    with pytest.raises(ValueError, match="not logits"):
        CtrMetrics().update(torch.tensor([0.5, logit]), torch.ones(2))


def test_users_are_given_always_or_never() -> None:
    with pytest.raises(ValueError, match="users"):
        CtrMetrics(users=True).update(torch.rand(2), torch.ones(2))
