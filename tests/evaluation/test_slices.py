"""Slices: the parts add up to the whole, and each is what a loop over its users and items finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_kit import csr_of, oracle

from recdistill.evaluation.beyond import Catalogue
from recdistill.evaluation.ranking import RankingResult, rank_all
from recdistill.evaluation.slices import activity, slices

METRICS = ["ndcg@5", "recall@5", "mrr@5"]


class Case:
    def __init__(self, seed: int, n_users: int = 40, n_items: int = 30, levels: int = 4):
        rng = np.random.default_rng(seed)
        popular = rng.dirichlet(np.ones(n_items) * 0.5) * 0.9 + 0.1 / n_items
        self.scores = rng.integers(0, levels, (n_users, n_items)).astype(float)  # ties everywhere
        sizes = rng.integers(1, 8, n_users)
        self.train = [set(rng.choice(n_items, size, replace=False, p=popular).tolist()) for size in sizes]
        for item in range(n_items):
            self.train[item % n_users].add(item)
        ids = range(n_items + 4)  # four of them are cold
        self.relevant = [
            set(rng.choice(ids, rng.integers(0, 7), replace=False).tolist()) - self.train[u] for u in range(n_users)
        ]
        self.catalogue = Catalogue(csr_of(self.train), n_items, csr_of(self.train))
        table = torch.from_numpy(self.scores)
        self.result: RankingResult = rank_all(
            lambda u: table[u], users=torch.arange(n_users), relevant=csr_of(self.relevant), seen=csr_of(self.train),
            n_items=n_items, ks=[5], chunk=7,
        )  # fmt: skip
        self.records = slices(self.result, METRICS, csr_of(self.relevant), self.catalogue)

    def named(self, by: str) -> dict[str, dict]:
        return {record["name"]: record for record in self.records if record["by"] == by}


@pytest.fixture(params=range(6))
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def test_the_parts_add_up(case: Case) -> None:
    users, items = case.named("users"), case.named("items")
    assert list(users) == ["light", "medium", "heavy"]
    assert list(items) == ["head", "mid", "tail", "cold"]
    pairs = sum(len(relevant) for relevant in case.relevant)
    assert sum(record["users"] for record in users.values()) == case.result.n_users
    assert sum(record["pairs"] for record in users.values()) == pairs
    assert sum(record["pairs"] for record in items.values()) == pairs
    assert items["cold"]["pairs"] == case.result.n_cold
    assert sum(record["items"] for name, record in items.items() if name != "cold") == 30


def test_user_slices_average_to_the_whole(case: Case) -> None:
    for metric in METRICS:
        whole = sum(r["users"] * (r["metrics"][metric] or 0) for r in case.named("users").values())
        assert whole / case.result.n_users == pytest.approx(case.result.means()[metric], abs=1e-12)


def test_item_slices_by_loops(case: Case) -> None:
    groups = case.catalogue.groups.tolist()
    for number, (name, record) in enumerate(case.named("items").items()):
        of_slice = [{i for i in x if (groups[i] if i < 30 else 3) == number} for x in case.relevant]
        found = [oracle(case.scores[u].tolist(), items, case.train[u], 5) for u, items in enumerate(of_slice) if items]
        assert record["users"] == len(found), name
        for metric in METRICS if found else ():
            values = [user[metric] for user in found]
            assert record["metrics"][metric] == pytest.approx(sum(values) / len(values), abs=1e-12)
        if found:
            low, high = record["ci"]["ndcg@5"]
            assert low - 1e-12 <= record["metrics"]["ndcg@5"] <= high + 1e-12


def test_hits_of_item_slices_add_up_without_ties() -> None:
    """A relevant item is hit in its slice where it is hit in the whole."""
    case = Case(0, levels=10**9)
    groups = [*case.catalogue.groups.tolist(), 3, 3, 3, 3]
    hits = 0.0
    for number, record in enumerate(case.named("items").values()):
        of_slice = [sum(groups[i] == number for i in relevant) for relevant in case.relevant]
        weights = [1 / n for n in of_slice if n]  # recall is hits / n, averaged over users with n > 0
        assert record["users"] == len(weights)
        mine = [groups[i] == number for i in case.result.near.item.tolist()]
        hits += sum(o < 5 and m for o, m in zip(case.result.near.others.tolist(), mine, strict=True))
    assert hits == pytest.approx(float((case.result.per_user["recall@5"] * case.result.n_relevant).sum()))


def test_cold_items_cannot_be_hit(case: Case) -> None:
    cold = case.named("items")["cold"]
    assert cold["users"] > 0
    assert set(cold["metrics"].values()) == {0.0}


def test_an_empty_slice_is_none() -> None:
    train = csr_of([{0, 1}, {0, 1}])
    result = rank_all(
        lambda u: torch.rand(len(u), 2), users=torch.arange(2), relevant=csr_of([{0}, {1}]),
        seen=csr_of([set(), set()]), n_items=2, ks=[5],
    )  # fmt: skip
    records = {r["name"]: r for r in slices(result, METRICS, csr_of([{0}, {1}]), Catalogue(train, 2, train))}
    assert records["light"]["users"] == 2  # equal histories stay together
    assert records["heavy"]["users"] == 0
    assert records["heavy"]["metrics"]["ndcg@5"] is records["heavy"]["ci"]["ndcg@5"] is None
    assert records["heavy"]["history"] is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=40))
def test_thirds_of_users(lengths: list[int]) -> None:
    thirds = activity(torch.tensor(lengths)).tolist()
    assert len({(length, third) for length, third in zip(lengths, thirds, strict=True)}) == len(set(lengths))
    ordered = [third for _, third in sorted(zip(lengths, thirds, strict=True))]
    assert ordered == sorted(ordered)
    if len(set(lengths)) == len(lengths):  # no ties: as even as can be
        sizes = [thirds.count(third) for third in range(3)]
        assert max(sizes) - min(sizes) <= 1
