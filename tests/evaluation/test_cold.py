"""Cold items, against loops over users and, for chance, over all orders."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_kit import oracle

from recdistill.data.interactions import Dataset, Interactions
from recdistill.evaluation.cold import by_chance, cold_items, fields, rank_cold, summary

N_USERS, N_ITEMS, N_ALL = 6, 9, 15
KS = [1, 3, 5]


def dataset(seed: int, shares: tuple[float, float, float] = (0.3, 0.25, 0.3)) -> Dataset:
    """Items 9 to 14 are cold: some in validation, some in the test part, some in both."""
    rng = np.random.default_rng(seed)
    part = rng.choice(4, (N_USERS, N_ALL), p=[*shares, 1 - sum(shares)])
    part[:, N_ITEMS:][part[:, N_ITEMS:] == 0] = 3
    part[:, 10][part[:, 10] == 2] = 3  # cold to validation alone
    part[0, 9] = 2

    def events(number: int) -> Interactions:
        user, item = (torch.from_numpy(column.copy()) for column in (part == number).nonzero())
        return Interactions(user, item, N_USERS, N_ITEMS)

    users, items = (np.array([f"{name}{n}" for n in range(size)]) for name, size in (("u", N_USERS), ("i", N_ALL)))
    return Dataset(events(0), events(1), events(2), users, items, {}, {}, "x")


def sets(part: Interactions, user: int) -> set[int]:
    return set(part.item[part.user == user].tolist())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.sampled_from(["valid", "test"]))
def test_as_a_loop_over_users(seed: int, ties: bool, part: str) -> None:
    data = dataset(seed)
    tested = getattr(data, part)
    cold = sorted({i for i in tested.item.tolist() if i >= N_ITEMS})
    if not cold:
        assert not len(cold_items(data, part))
        return
    assert cold_items(data, part).tolist() == cold
    table = torch.from_numpy(np.random.default_rng(seed).integers(0, 4 if ties else 10**6, (N_USERS, N_ALL))).float()
    among = fields(data, part)
    found = rank_cold(lambda users: table[users][:, [*range(N_ITEMS), *cold]], among, KS)
    expected: dict[str, list[dict[str, float]]] = {"cold": [], "all": []}
    for user in range(N_USERS):
        relevant = sets(tested, user) & set(cold)
        seen = sets(data.train, user) | (sets(data.valid, user) if part == "test" else set())
        if relevant:
            for field, items in (("cold", cold), ("all", [*range(N_ITEMS), *cold])):
                scores = [float(table[user, item]) for item in items]
                places = [{items.index(i) for i in some & set(items)} for some in (relevant, seen)]
                own = among[field].ks(KS)
                expected[field].append({k: v for n in own for k, v in oracle(scores, *places, n).items()})
    for field, users in expected.items():
        for name in users[0]:
            assert found[field][name].tolist() == pytest.approx([user[name] for user in users], abs=1e-12)
    assert among["cold"].users.tolist() == among["all"].users.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_chance_is_the_mean_over_all_orders(seed: int) -> None:
    data = dataset(seed, (0.3, 0.2, 0.4))
    field = fields(data, "test")["cold"]
    expected: dict[str, list[float]] = {f"{family}@{k}": [] for family in ("ndcg", "recall") for k in (1, 3)}
    for user in field.users.tolist():
        relevant, seen = (set(some.rows(torch.tensor([user]))[1].tolist()) for some in (field.relevant, field.seen))
        own = [
            oracle(order, relevant, seen, k) for order in itertools.permutations(range(field.n_items)) for k in (1, 3)
        ]
        for name, values in expected.items():
            values.append(statistics.fmean(each[name] for each in own if name in each))
    found = by_chance({"cold": field}, [1, 3])["cold"]
    assert found == pytest.approx({name: statistics.fmean(values) for name, values in expected.items()}, abs=1e-9)


def test_what_is_said_of_a_model_that_cannot() -> None:
    data = dataset(1)
    among = fields(data, "test")
    said = summary(None, among, [5, 50])
    assert said["metrics"] is None
    assert said["ci"] is None
    pairs = data.test.item >= N_ITEMS
    assert said["items"] == len(cold_items(data, "test"))
    assert said["pairs"] == int(pairs.sum())
    assert said["users"] == len(data.test.user[pairs].unique())
    assert set(said["random"]["all"]) == {"ndcg@5", "recall@5"}
    found = rank_cold(lambda users: torch.rand(len(users), N_ITEMS + said["items"]), among, [5])
    able = summary(found, among, [5])
    assert able["metrics"]["cold"]["ndcg@5"] == pytest.approx(float(found["cold"]["ndcg@5"].mean()))
    low, high = able["ci"]["all"]["ndcg@5"]
    assert low <= able["metrics"]["all"]["ndcg@5"] <= high


def test_without_cold_items() -> None:
    data = dataset(2)
    warm = data.test.item < N_ITEMS
    test = replace(data.test, user=data.test.user[warm], item=data.test.item[warm])
    assert not len(cold_items(replace(data, test=test), "test"))
