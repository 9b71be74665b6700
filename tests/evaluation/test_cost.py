"""Latency is measured warm, with pinned threads that are given back."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from recdistill.evaluation import cost
from recdistill.evaluation.cost import WARM_UP, cpu_name, latency, work


def test_latency_measures_the_call() -> None:
    result = latency(lambda _: time.sleep(0.002), torch.arange(10), batch=4, repeats=20)
    assert 2 <= result["p50_ms"] <= result["p95_ms"] <= result["p99_ms"]
    assert (result["repeats"], result["batch"], result["threads"]) == (20, 4, 1)


@pytest.mark.parametrize(("pool", "batch"), [(10, 1), (10, 4), (10, 10), (3, 8)])
def test_calls_get_whole_batches_of_known_users(pool: int, batch: int) -> None:
    calls: list[Tensor] = []
    latency(calls.append, torch.arange(pool), batch=batch, repeats=7)
    assert len(calls) == 7 + WARM_UP
    assert all(len(users) == batch and int(users.max()) < pool for users in calls)


def test_calls_go_through_the_pool() -> None:
    calls: list[Tensor] = []
    latency(calls.append, torch.arange(10), batch=1, repeats=10)
    assert set(torch.cat(calls).tolist()) == set(range(10))


def test_threads_are_pinned_and_given_back_even_after_an_error() -> None:
    before = torch.get_num_threads()
    inside: list[int] = []
    latency(lambda _: inside.append(torch.get_num_threads()), torch.arange(3), repeats=2, threads=before + 1)
    assert set(inside) == {before + 1}
    with pytest.raises(ZeroDivisionError):
        latency(lambda _: 1 / 0, torch.arange(3), threads=before + 1)
    assert torch.get_num_threads() == before


def test_cpu_has_a_name() -> None:
    assert cpu_name()


def test_work_of_a_request_by_hand() -> None:
    """Two products of [2, 8] by [8, n], one after the other; views and what goes away are not counted twice."""
    table = torch.randn(500, 8)

    def recommend(users: Tensor) -> Tensor:
        query = table[users]
        scores = query @ table.T
        scores = scores.view(2, 500) + 1
        del query
        return (scores @ torch.ones(500, 500)).sum(1)

    found = work(recommend, torch.arange(2))
    assert found["flops"] == 2 * 2 * 8 * 500 + 2 * 2 * 500 * 500
    # When the product is there: the scores, the ones and itself; their sum comes when the ones are gone.
    assert found["memory"] == 4 * (2 * 500 + 500 * 500 + 2 * 500)
    assert work(lambda _: None, torch.arange(2)) == {"flops": 0, "memory": 0}


@pytest.mark.parametrize("layout", [torch.sparse_csr, torch.sparse_coo])
def test_work_of_a_sparse_product_is_that_of_its_entries(layout: torch.layout) -> None:
    dense = (torch.rand(40, 30, generator=torch.Generator().manual_seed(0)) < 0.1).float()
    graph, vectors = dense.to_sparse(layout=layout), torch.randn(30, 8)
    found = work(lambda _: graph @ vectors, torch.arange(2))
    assert found == {"flops": 2 * int(dense.sum()) * 8, "memory": 4 * 40 * 8}


def test_a_slow_model_is_timed_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "LONGEST", 0.05)
    assert latency(lambda _: time.sleep(0.01), torch.arange(10), repeats=200)["repeats"] == cost.FEWEST
    assert latency(lambda _: time.sleep(0.001), torch.arange(10), repeats=20)["repeats"] == 20


def test_work_is_that_of_the_counter_of_torch() -> None:
    """In layers whose parts are hidden in others, and whose parameters want gradients."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), nn.Conv1d(3, 4, 5))
    rows = torch.randn(2, 3, 8)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(rows)
    assert work(lambda _: model(rows), torch.arange(2))["flops"] == counter.get_total_flops() > 0
    scale = nn.Parameter(torch.ones(3, 8))
    assert work(lambda _: model[0](scale), torch.arange(2))["flops"] == 2 * 3 * 8 * 16
