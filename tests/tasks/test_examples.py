"""Interactions as a table of rows, against loops over events."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recdistill.data.features import Features
from recdistill.data.interactions import Dataset, Examples, Interactions, TableDataset
from recdistill.errors import InputError
from recdistill.tasks.ctr import Ctr
from recdistill.tasks.examples import HISTORY, as_table, with_logarithms

Event = tuple[int, int, float, int]  # user, item, value, time
USERS, ITEMS = 4, 5  # of training; ids from here on are cold
EVENTS = st.lists(
    st.tuples(st.integers(0, USERS), st.integers(0, ITEMS), st.sampled_from([1.0, 3.0, 4.0, 5.0]), st.integers(0, 6)),
    max_size=25,
)


def part(events: list[Event], cold: bool = True) -> Interactions:
    kept = [event for event in events if cold or (event[0] < USERS and event[1] < ITEMS)]
    user, item, value, time = (list(column) for column in zip(*kept, strict=True)) if kept else ([], [], [], [])
    return Interactions(
        torch.tensor(user, dtype=torch.int64), torch.tensor(item, dtype=torch.int64), USERS, ITEMS,
        torch.tensor(value, dtype=torch.float32), torch.tensor(time, dtype=torch.int64),
        n_cold_users=0 if not cold else 1,
    )  # fmt: skip


def dataset(train: list[Event], valid: list[Event], test: list[Event], **changes: Any) -> Dataset:
    users = np.array([f"0{user}" for user in range(USERS + 1)], dtype=object)
    items = np.array([f"i{item}" for item in range(ITEMS + 1)], dtype=object)
    return Dataset(part(train, cold=False), part(valid), part(test), users, items, {}, {}, "f", **changes)


def rows_of(column: Any, n: int) -> list[list[int]]:
    return [column.indices[column.indptr[row] : column.indptr[row + 1]].tolist() for row in range(n)]


@settings(max_examples=150, deadline=None)
@given(EVENTS, EVENTS, EVENTS, st.integers(1, 4))
def test_histories_are_the_last_earlier_likes(
    train: list[Event], valid: list[Event], test: list[Event], length: int
) -> None:
    """Strictly earlier: what happens at the same time never tells of it. Of the test part, validation counts too."""
    data = dataset(train, valid, test)
    table = as_table(data, threshold=4.0, history=length)
    before: list[Event] = []
    for name in ("train", "valid", "test"):
        if name != "valid":
            before += list(events_of(data.train if name == "train" else data.valid))
        examples: Examples = getattr(table, name)
        found = rows_of(examples.features.multi[HISTORY], len(examples))
        for row, (user, _, _, time) in enumerate(events_of(getattr(data, name))):
            likes = sorted(
                (e for e in before if e[0] == user and e[3] < time and e[2] >= 4 and e[1] < ITEMS), key=lambda e: e[3]
            )[-length:]
            assert len(found[row]) == len(likes)
            # Which of several at one time is left out or comes first is open; their times are not.
            assert sorted(found[row]) == sorted(e[1] + 1 for e in likes) or ties(likes, before, user, time)
            known = {(e[1] + 1, e[3]) for e in before if e[0] == user and e[2] >= 4}
            assert all((code, like[3]) in known for code, like in zip(found[row], likes, strict=True))


def ties(likes: list[Event], before: list[Event], user: int, time: int) -> bool:
    """Whether the oldest of the likes shares its time with one that is left out."""
    mine = [e for e in before if e[0] == user and e[3] < time and e[2] >= 4 and e[1] < ITEMS]
    return sum(e[3] == likes[0][3] for e in mine) > sum(e[3] == likes[0][3] for e in likes)


def events_of(events: Interactions) -> list[Event]:
    assert events.value is not None
    assert events.time is not None
    columns = (events.user, events.item, events.value, events.time)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@settings(max_examples=60, deadline=None)
@given(EVENTS, EVENTS, st.sampled_from([None, 3.0, 4.5]))
def test_a_row_for_each_event(train: list[Event], test: list[Event], threshold: float | None) -> None:
    data = dataset(train, [], test)
    table = as_table(data, threshold)
    for name in ("train", "test"):
        examples, events = getattr(table, name), events_of(getattr(data, name))
        columns = examples.features.categorical
        for row, (user, item, value, time) in enumerate(events):
            assert columns["user"][row] == (user + 1 if user < USERS else 0)
            assert columns["item"][row] == (item + 1 if item < ITEMS else 0)
            assert examples.label[row] == (value if threshold is None else float(value >= threshold))
            assert examples.time[row] == time
            assert examples.group[row] == user  # also of those that training lacks
    assert table.schema.features["categorical"] == {"user": USERS + 1, "item": ITEMS + 1}
    assert table.train.features.vocabularies["user"].tolist() == ["", "00", "01", "02", "03"]


def test_features_of_both_sides_and_of_the_event() -> None:
    data = dataset(
        [(0, 1, 5.0, 0), (2, 4, 1.0, 1)], [], [(4, 5, 3.0, 2)],
        user_features=Features(categorical={"age": torch.tensor([1, 2, 3, 1, 2])}),
        item_features=Features(numeric={"price": torch.arange(6.0)}, moments={"price": (2.0, 1.0)}),
    )  # fmt: skip
    table = as_table(data)
    assert table.train.features.categorical["user_age"].tolist() == [1, 3]
    assert table.train.features.numeric["item_price"].tolist() == [1.0, 4.0]
    assert table.test.features.categorical["user_age"].tolist() == [2]
    assert table.test.features.numeric["item_price"].tolist() == [5.0]


def test_what_a_table_can_not_be_made_of() -> None:
    data = dataset([(0, 0, 1.0, 0)], [], [])
    bare = Interactions(data.train.user, data.train.item, USERS, ITEMS, data.train.value)
    with pytest.raises(InputError, match="a history needs times"):
        as_table(Dataset(bare, bare, bare, data.users, data.items, {}, {}, "f"), history=2)
    nothing = Interactions(data.train.user, data.train.item, USERS, ITEMS)
    with pytest.raises(InputError, match="no values to predict"):
        as_table(Dataset(nothing, nothing, nothing, data.users, data.items, {}, {}, "f"))


def logged(train: Tensor, test: Tensor) -> TableDataset:
    parts = {
        name: Examples(torch.zeros(len(x)), Features(numeric={"x": x}, moments={"x": (0.0, 1.0)}))
        for name, x in (("train", train), ("valid", train[:0]), ("test", test))
    }
    return with_logarithms(TableDataset(**parts, report={}, manifest={}, fingerprint=""))


def test_logarithms_keep_sign_and_missing_and_have_the_moments_of_training() -> None:
    train, test = torch.tensor([0.0, 3.0, float("nan"), -7.0]), torch.tensor([100.0, float("nan")])
    table = logged(train, test)
    expected = np.sign(train.numpy()) * np.log1p(np.abs(train.numpy()))
    found = table.train.features.numeric["x"]
    assert np.allclose(found.numpy(), expected, equal_nan=True)
    assert table.test.features.numeric["x"][0] == pytest.approx(np.log(101.0))
    for features in (table.train.features, table.test.features):
        assert features.moments["x"] == pytest.approx((np.nanmean(expected), np.nanstd(expected)))


def test_a_validation_part_of_one_class_is_refused_for_auc() -> None:
    rows = Features({"a": torch.tensor([1, 2])}, vocabularies={"a": np.array(["", "x", "y"], dtype=object)})
    both, one = (Examples(torch.tensor(labels), rows) for labels in ([0.0, 1.0], [1.0, 1.0]))
    data = TableDataset(both, one, both, report={}, manifest={}, fingerprint="two rows")
    Ctr().require_evaluation(data, "logloss", None)
    with pytest.raises(InputError, match="auc has no value on the validation part"):
        Ctr().require_evaluation(data, "auc", None)
