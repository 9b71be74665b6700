"""Users and items that training lacks: numbers, histories, masks and scores."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data import report, store
from recdistill.data.csr import Csr
from recdistill.data.filters import Filters
from recdistill.data.interactions import Dataset, Interactions
from recdistill.data.prepare import prepare
from recdistill.data.sources.base import RawLog, Source
from recdistill.data.splits import ColdItem, ColdUser, GivenSplit, GlobalTemporal
from recdistill.errors import InputError
from recdistill.models.base import RankingModel
from recdistill.models.linear import EASE
from recdistill.models.mf import MF
from recdistill.models.popularity import Popularity
from recdistill.tasks.ranking import Ranking, known_of_cold, scorer


class Memory(Source):
    """A log from memory."""

    def __init__(self, **columns: object):
        self.events = pl.DataFrame(columns).with_columns(pl.col("user", "item").cast(pl.String))

    def read(self) -> RawLog:
        return RawLog(self.events)

    def fingerprint(self) -> str:
        return "memory"

    def where(self) -> str:
        return "memory"


def log(users: int = 40, items: int = 30, n: int = 500, seed: int = 0) -> Memory:
    rng = np.random.default_rng(seed)
    return Memory(user=rng.integers(0, users, n), item=rng.integers(0, items, n), time=rng.integers(0, 10**4, n))


def cold_users(seed: int = 0) -> Dataset:
    found = prepare(log(seed=seed), Filters(), ColdUser(0.2, 0.3, 0.6))
    assert isinstance(found, Dataset)
    return found


def pairs(data: Dataset, part: Interactions) -> set[tuple[str, str]]:
    return set(zip(data.users[part.user.numpy()], data.items[part.item.numpy()], strict=True))


def test_held_out_users_come_behind_those_of_training() -> None:
    data = cold_users()
    assert data.known is not None
    n, n_all = data.train.n_users, len(data.users)
    assert (n, n_all - n) == (20, 20) == (data.schema.n_users, data.report["n_cold_users"])
    assert int(data.train.user.max()) < n
    held = [set(part.user.tolist()) for part in (data.valid, data.test, data.known)]
    assert held[0] | held[1] == held[2] == set(range(n, n_all))
    assert not held[0] & held[1]
    assert max(held[0]) < min(held[1]), "validation's come first, so that they do not depend on the test"
    assert sorted(data.users[:n]) == data.users[:n].tolist()
    parts = (data.train, data.known, data.valid, data.test)
    assert len(set().union(*(pairs(data, part) for part in parts))) == sum(map(len, parts)) == data.report["rows"]
    last_known = {user: max(data.known.time[data.known.user == user].tolist()) for user in held[2]}  # type: ignore[index]
    for part in (data.valid, data.test):
        assert part.time is not None
        assert all(time >= last_known[user] for user, time in zip(part.user.tolist(), part.time.tolist(), strict=True))


def test_the_account_holds_what_is_known() -> None:
    data = cold_users()
    assert set(data.manifest["parts"]) == {"train", "valid", "test", "known"}
    assert data.manifest["leaks_time"] is True
    assert data.manifest["split"] == {"name": "ColdUser", "valid": 0.2, "test": 0.3, "known": 0.6, "seed": 0}
    assert data.report["parts"]["known"]["users"] == 20
    assert data.report["lost"]["test"]["user without training history"] == 0
    text = str(report.as_dict(data))
    assert "a known history" in text
    assert "training history (" not in text
    other = prepare(log(), Filters(), ColdUser(0.2, 0.3, 0.5))
    assert other.manifest["parts"]["train"] == data.manifest["parts"]["train"]
    assert other.manifest["parts"]["known"] != data.manifest["parts"]["known"]


def test_no_split_of_users_no_known_part() -> None:
    data = prepare(log(), Filters(), GlobalTemporal())
    assert isinstance(data, Dataset)
    assert data.known is None
    assert data.history is data.train.csr
    assert data.seen("valid") is data.train.csr
    assert known_of_cold(data, torch.device("cpu")) is None
    assert "known" not in data.manifest["parts"]


def test_a_source_may_say_what_is_known() -> None:
    rows = [("a", "x", 0), ("a", "y", 0), ("b", "x", 3), ("b", "q", 3), ("b", "y", 2), ("c", "x", 2), ("d", "x", 3)]
    user, item, part = zip(*rows, strict=True)
    data = prepare(Memory(user=user, item=item, part=part), Filters(), GivenSplit())
    assert isinstance(data, Dataset)
    assert data.users.tolist() == ["a", "b", "d"]
    assert pairs(data, data.test) == {("b", "y")}
    assert data.report["lost"]["test"]["user without training history"] == 1  # c
    assert data.items.tolist() == ["x", "y", "q"]


def test_known_pairs_are_not_tested_on_again() -> None:
    columns = {"user": list("aabbbcc"), "item": list("xyxyxxy"), "time": [1, 2, 1, 2, 3, 1, 2]}
    lost = []
    for seed in range(20):
        data = prepare(Memory(**columns), Filters(repeats="all"), ColdUser(0, 0.4, 0.6, seed=seed))
        assert isinstance(data, Dataset)
        assert data.known is not None
        assert not pairs(data, data.known) & pairs(data, data.test)
        lost.append(data.report["lost"]["test"]["pair of an earlier part"])
        assert lost[-1] == ("b" in data.users[data.train.n_users :])  # who comes back to x
    assert set(lost) == {0, 1}


def test_round_trip(tmp_path: Path) -> None:
    data = cold_users()
    store.save(data, tmp_path)
    for parts in (("train", "valid", "test"), ("train", "valid")):
        loaded = store.load_pairs(tmp_path, parts)
        assert loaded.known is not None
        assert data.known is not None
        assert torch.equal(loaded.known.item, data.known.item)
        assert loaded.known.n_cold_users == loaded.valid.n_cold_users == 20
        assert torch.equal(loaded.history.indices, data.history.indices)
    store.verify(store.load(tmp_path))
    (tmp_path / "known.safetensors").unlink()
    with pytest.raises(InputError, match="no prepared data set"):
        store.load(tmp_path)


def histories(data: Dataset) -> dict[int, set[int]]:
    """The items of the catalogue that each cold user is known to have, by a loop."""
    assert data.known is not None
    found: dict[int, set[int]] = defaultdict(set)
    for user, item in zip(data.known.user.tolist(), data.known.item.tolist(), strict=True):
        if item < data.train.n_items:
            found[user].add(item)
    return found


def test_ease_scores_cold_users_by_their_history() -> None:
    data = cold_users()
    model = EASE(data.schema, l2=5.0)
    model.fit(data.train)
    users = torch.tensor([21, 0, 39, 3, 25])
    scores = scorer(model, data)(users)
    for user, row in zip(users.tolist(), scores, strict=True):
        items = histories(data)[user] if user >= 20 else set(data.train.item[data.train.user == user].tolist())
        expected = sum(model.weight[item] for item in sorted(items))
        torch.testing.assert_close(row, expected)


def test_a_cold_user_with_a_trained_users_history_gets_the_same_scores() -> None:
    data = cold_users()
    model = EASE(data.schema)
    model.fit(data.train)
    own = data.train.csr.take(torch.tensor([4, 9]))
    torch.testing.assert_close(model.fold_in(own), model.scores(torch.tensor([4, 9])))


def test_popularity_is_the_same_for_everybody() -> None:
    data = cold_users()
    model = Popularity(data.schema)
    model.fit(data.train)
    scores = scorer(model, data)(torch.tensor([0, 25]))
    assert torch.equal(scores[0], scores[1])


def test_factor_models_fold_in_and_leave_trained_users_alone() -> None:
    data = cold_users()
    torch.manual_seed(0)
    model = MF(data.schema, 6, item_bias=True, init_std=0.5)
    torch.nn.init.normal_(model.bias)  # type: ignore[arg-type]
    with torch.no_grad():
        users = torch.tensor([21, 0, 39])
        scores, plain = scorer(model, data)(users), model.scores(torch.tensor([0]))
        known = Csr.from_pairs(
            *torch.tensor([(user - 20, item) for user, items in histories(data).items() for item in items]).T, 20
        )
        torch.testing.assert_close(scores[[0, 2]], model.fold_in(known.take(torch.tensor([1, 19]))))
    torch.testing.assert_close(scores[1:2], plain)


def test_a_model_without_a_way_says_so() -> None:
    class ById(RankingModel):
        def __init__(self, data: Dataset):
            super().__init__(data.schema)
            self.register_buffer("table", torch.zeros(data.train.n_users, data.train.n_items))

        def scores(self, users: torch.Tensor, items: torch.Tensor | None = None) -> torch.Tensor:
            return self.table[users] if items is None else self.table[users][:, items]

    data = cold_users()
    with pytest.raises(InputError, match="ById can't score users that training lacks") as caught:
        Ranking().evaluate(ById(data), data, "test", [5])
    assert "ease" in str(caught.value.fix)


@pytest.mark.parametrize("part", ["valid", "test"])
def test_known_items_are_masked(part: str) -> None:
    data = cold_users(seed=1)
    model = EASE(data.schema)
    model.fit(data.train)
    found = Ranking().evaluate(model, data, part, [5, 25])
    assert sorted(found.users.tolist()) == sorted(set(getattr(data, part).user.tolist()))
    for user, top in zip(found.users.tolist(), found.top.tolist(), strict=True):
        assert not histories(data)[user] & set(top)
        assert len(set(top) - {-1}) == min(25, data.train.n_items - len(histories(data)[user]))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=30), st.integers(0, 3))
def test_seen_is_a_union_over_all_users(rows: list[tuple[int, int]], n_cold: int) -> None:
    first = [row for row in rows if row[0] < 5 - n_cold]
    one, two = (
        Csr.from_pairs(*torch.tensor(own, dtype=torch.int64).reshape(-1, 2).T, size)
        for own, size in ((first, 5 - n_cold), (rows, 5))
    )
    both = one.union(two)
    assert len(both.counts()) == 5
    position, item = both.rows(torch.arange(5))
    assert set(zip(position.tolist(), item.tolist(), strict=True)) == set(rows)
    users = torch.tensor([4, 0, 4])
    taken = two.take(users)
    for place, user in enumerate(users.tolist()):
        own = taken.indices[taken.indptr[place] : taken.indptr[place + 1]].tolist()
        assert own == sorted({item for other, item in rows if other == user})


def test_held_out_items_are_all_cold(tmp_path: Path) -> None:
    data = prepare(log(), Filters(), ColdItem(0.2, 0.2))
    assert isinstance(data, Dataset)
    assert bool((data.test.item >= data.train.n_items).all())
    assert data.report["n_cold_items"] == 12
    assert any("100% of the test rows are on items that train lacks" in text for text in data.report["warnings"])
    store.save(data, tmp_path)
    assert isinstance(store.load(tmp_path), Dataset)
    with pytest.raises(InputError, match="no model can rank the items that this split holds out") as caught:
        store.load_pairs(tmp_path)
    assert caught.value.why is not None
    assert caught.value.why.startswith("all 12 items")
