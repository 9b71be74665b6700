"""Running averages: equal however users are cut into batches and processes, and directions of metrics."""

from __future__ import annotations

import pytest
import torch

from recdistill.data.csr import Csr
from recdistill.errors import InputError
from recdistill.evaluation.metrics import RankingMetrics, direction
from recdistill.evaluation.ranking import metric_names, rank_all, rank_batch


@pytest.fixture
def case() -> tuple[torch.Tensor, Csr, Csr]:
    torch.manual_seed(0)
    user, item = torch.arange(30).repeat(4), torch.randint(90, (120,))
    return (
        torch.randn(30, 90),
        Csr.from_pairs(user, item, 30),
        Csr.from_pairs(user, (item + 1) % 90, 30),
    )


@pytest.mark.parametrize("size", [1, 7, 30])
def test_equals_the_engine(case: tuple[torch.Tensor, Csr, Csr], size: int) -> None:
    scores, relevant, seen = case
    users = torch.arange(30)
    whole = rank_all(lambda u: scores[u], users=users, relevant=relevant, seen=seen, n_items=90, ks=[5, 10])
    metrics = RankingMetrics(90, [5, 10])
    for part in users.split(size):
        metrics.update(rank_batch(scores[part], part, relevant, seen, [5, 10]))
    means = {name: float(value) for name, value in metrics.compute().items()}
    assert means == pytest.approx(whole.means(), abs=1e-12)
    assert list(means) == [*metric_names([5, 10]), "coverage@5", "coverage@10"]
    shares = RankingMetrics(90, [5, 10])
    shares.update(whole)
    assert {name: float(value) for name, value in shares.compute().items()} == pytest.approx(means, abs=1e-12)
    metrics.reset()
    assert int(metrics.n_users) == 0
    assert not metrics.shown.any()


def test_sums_stay_double_when_the_module_is_halved() -> None:
    assert RankingMetrics(5).half().sums.dtype == torch.float64


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ndcg@10", "max"), ("valid/recall@20", "max"), ("coverage@5", "max"), ("sampled_hr@10[n=99]", "max"),
     ("loss", "min"), ("valid/logloss", "min"), ("rmse", "min"), ("auc", "max")],
)  # fmt: skip
def test_direction(name: str, expected: str) -> None:
    assert direction(name) == expected


def test_unknown_metric_gets_the_nearest_name() -> None:
    with pytest.raises(InputError) as error:
        direction("valid/ndgc@10")
    assert error.value.fix is not None
    assert "valid/ndcg@10" in error.value.fix
    with pytest.raises(InputError, match="unknown metric"):
        direction("zzzz")
