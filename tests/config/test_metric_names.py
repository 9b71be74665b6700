"""What a metric's name says, and which names a run can be about."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from recdistill.config.metrics import BY_ROW, BY_USER, direction, share_terms, sign
from recdistill.config.schema import Evaluation


@pytest.mark.parametrize(
    ("name", "way"), [("auc", 1), ("valid/rmse", -1), ("sampled_ndcg@10[n=99]", 1), ("ece_mass", -1), ("mine", 1)]
)
def test_sign_agrees_with_direction(name: str, way: int) -> None:
    assert sign(name) == way
    assert name == "mine" or direction(name) == ("max" if way > 0 else "min")


@pytest.mark.parametrize("name", [*BY_ROW, *BY_USER])
def test_a_run_on_a_table_can_be_about_it(name: str) -> None:
    assert Evaluation(metric=name, ks=[3]).metric == name


@pytest.mark.parametrize(
    ("wrong", "meant", "why"),
    [
        ("AUC", "auc", "or of a table auc, logloss"),
        ("auc@10", "auc", "must be NAME@K"),
        ("log_loss", "logloss", "must be"),
        ("macro_f1", "accuracy", "one number for all rows, so that no test can be made of it"),
        ("ece", "logloss", "one number for all rows"),
        ("ndgc@5", "ndcg@5", "must be"),
        ("RECALL", "recall@10", "must be"),
        ("zzz", "ndcg@10", "must be"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(wrong: str, meant: str, why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Evaluation(metric=wrong)
    (error,) = caught.value.errors()
    assert error["ctx"]["fix"] == f"evaluation.metric={meant}"
    assert why in error["msg"]
    assert Evaluation(metric=meant).metric == meant


@pytest.mark.parametrize("metric", ["ndcg@10", "auc", "gauc", "rmse", "accuracy"])
def test_as_good_as_the_teacher_is_a_share_of_one_and_worse_is_less(metric: str) -> None:
    part, whole = share_terms(0.8, 0.8, metric)
    assert part / whole == 1
    part, whole = share_terms(0.8 - 0.1 * sign(metric), 0.8, metric)
    assert part / whole < 1
