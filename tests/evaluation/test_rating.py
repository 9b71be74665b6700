"""Ratings and classes: against torchmetrics, loops, and cases worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score, multiclass_recall
from torchmetrics.functional.regression import mean_absolute_error, mean_squared_error

from recdistill.errors import InputError
from recdistill.evaluation.classification import ClassificationMetrics, confusion, from_confusion
from recdistill.evaluation.rating import RatingMetrics, mae, rmse, user_mae, user_rmse


@pytest.fixture
def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    rating = torch.randint(1, 6, (400,), generator=rng).float()
    return rating + torch.randn(400, generator=rng), rating, torch.randint(2, 30, (400,), generator=rng)


@pytest.mark.parametrize("size", [1, 7, 400])
def test_rating_by_loops_and_torchmetrics(rows, size: int) -> None:
    prediction, rating, user = rows
    metrics = RatingMetrics(n_users=35)
    for part in torch.arange(400).split(size):
        metrics.update(prediction[part], rating[part], user[part])
    found = {name: float(value) for name, value in metrics.compute().items()}
    p, r = prediction.double(), rating.double()
    assert found["rmse"] == pytest.approx(float(mean_squared_error(p, r, squared=False)), abs=1e-12)
    assert found["mae"] == pytest.approx(float(mean_absolute_error(p, r)), abs=1e-12)
    assert (rmse(prediction, rating), mae(prediction, rating)) == pytest.approx((found["rmse"], found["mae"]))
    errors: dict[int, list[float]] = {}
    for a, b, u in zip(p.tolist(), r.tolist(), user.tolist(), strict=True):
        errors.setdefault(u, []).append(a - b)
    by_user = [math.sqrt(sum(e * e for e in errors[u]) / len(errors[u])) for u in sorted(errors)]
    assert user_rmse(prediction, rating, user).tolist() == pytest.approx(by_user)
    absolute = [sum(abs(e) for e in errors[u]) / len(errors[u]) for u in sorted(errors)]
    assert user_mae(prediction, rating, user).tolist() == pytest.approx(absolute)
    assert found["user_rmse"] == pytest.approx(sum(by_user) / len(by_user))
    assert found["user_mae"] == pytest.approx(sum(absolute) / len(absolute))
    assert metrics.warnings == []


def test_rating_by_hand() -> None:
    metrics = RatingMetrics(n_users=3)
    metrics.update(torch.tensor([3.0, 3, 3]), torch.tensor([5.0, 3, 4]), torch.tensor([0, 0, 2]))
    found = {name: float(value) for name, value in metrics.compute().items()}
    assert found == pytest.approx({
        "rmse": math.sqrt(5 / 3), "mae": 1, "user_rmse": (math.sqrt(2) + 1) / 2, "user_mae": 1
    })  # fmt: skip
    assert metrics.warnings == ["constant_predictions"]
    metrics.reset()
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert math.isnan(float(metrics.compute()["rmse"]))


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 5), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_classes_agree_with_torchmetrics(n_classes: int, pairs: list[tuple[int, int]]) -> None:
    predicted = torch.tensor([a % n_classes for a, _ in pairs])
    label = torch.tensor([b % n_classes for _, b in pairs])
    ours = {name: float(value) for name, value in from_confusion(confusion(predicted, label, n_classes)).items()}
    macro = {"num_classes": n_classes, "average": "macro"}
    assert ours == pytest.approx({
        "accuracy": float(multiclass_accuracy(predicted, label, n_classes, average="micro")),
        "macro_f1": float(multiclass_f1_score(predicted, label, **macro)),
        "macro_recall": float(multiclass_recall(predicted, label, **macro)),
    }, abs=1e-6)  # fmt: skip


def test_rare_classes_count_as_much_by_hand() -> None:
    """Nine of class 0, one of class 1, all called 0; class 2 never occurs."""
    found = from_confusion(confusion(torch.zeros(10, dtype=torch.int64), torch.tensor([0] * 9 + [1]), 3))
    assert float(found["accuracy"]) == pytest.approx(0.9)
    assert float(found["macro_recall"]) == pytest.approx(0.5)
    assert float(found["macro_f1"]) == pytest.approx((18 / 19) / 2)


@pytest.mark.parametrize("size", [1, 7, 90])
def test_class_metrics_by_batches(size: int) -> None:
    rng = torch.Generator().manual_seed(0)
    logits, label = torch.randn(90, 4, generator=rng), torch.randint(4, (90,), generator=rng)
    metrics = ClassificationMetrics(4)
    for part in torch.arange(90).split(size):
        metrics.update(logits[part], label[part])
    expected = from_confusion(confusion(logits.argmax(1), label, 4))
    assert {k: float(v) for k, v in metrics.compute().items()} == {k: float(v) for k, v in expected.items()}
    assert metrics.warnings == []


def test_equal_logits_never_favour_the_model() -> None:
    metrics = ClassificationMetrics(3)
    metrics.update(torch.zeros(6, 3), torch.tensor([0, 1, 2, 0, 1, 2]))
    assert float(metrics.compute()["accuracy"]) == 0
    assert metrics.warnings == ["constant_predictions"]


def test_nan_names_model_and_row_of_the_table() -> None:
    bad = torch.tensor([0.0, torch.nan])
    with pytest.raises(InputError, match="'mlp' predicted NaN for row 1"):
        RatingMetrics(3, "mlp").update(bad, torch.zeros(2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(InputError, match="'cnn' predicted NaN for row 1"):
        ClassificationMetrics(2, "cnn").update(bad.unsqueeze(1).expand(2, 2), torch.zeros(2, dtype=torch.int64))
