"""Keys in messages are made those that somebody types."""

from __future__ import annotations

import pytest

from recdistill.errors import InputError
from recdistill.stages.blame import keys_below, keys_of_source


@pytest.mark.parametrize(
    ("where", "fix", "said_where", "said_fix"),
    [
        ("net.heads", "net.heads=2, or net.dim=15", "alone.net.heads", "alone.net.heads=2, or alone.net.dim=15"),
        ("objective", "objective@objective=bpr", "alone.objective", "objective@alone.objective=bpr"),
        ("objective.sampler", "sampler@objective.sampler=uniform", "alone.objective.sampler",
         "sampler@alone.objective.sampler=uniform"),
        ("fit.item_init", "fit.item_init=null, or a model that would fit. Like mf", "alone.fit.item_init",
         "alone.fit.item_init=null, or a model that would fit. Like mf"),
        ("student.net", "student.net.dim=8 data.net.x=1", "student.net", "student.net.dim=8 data.net.x=1"),
        ("data.split", "leave out the net, fit or objective", "data.split", "leave out the net, fit or objective"),
        (None, None, None, None),
    ],
)  # fmt: skip
def test_keys(where: str | None, fix: str | None, said_where: str | None, said_fix: str | None) -> None:
    with pytest.raises(InputError) as error, keys_below("alone", {"net": {"dim": 3}}):
        raise InputError("net.dim is wrong", where=where, why=fix, fix=fix)
    found = error.value
    assert (found.where, found.why, found.fix) == (said_where, said_fix, said_fix)
    assert found.what == "net.dim is wrong"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("net.path", "teacher.path"),
        ("net.k", "teacher.net.k"),
        ("net.user", "teacher.net.user"),
        ("net.pat", "teacher.net.pat"),
    ],
)
def test_an_argument_that_the_net_takes_from_its_node(key: str, said: str) -> None:
    """It is typed at the node, unless somebody has given the net one of its own."""
    node = {"path": "lists.csv", "user": "user", "net": {"path": "lists.csv", "k": 100, "user": "id"}, "fit": None}
    with pytest.raises(InputError) as error, keys_below("teacher", node):
        raise InputError("it is wrong", where=key, fix=f"{key}=1, or fit.lr=2")
    assert (error.value.where, error.value.fix) == (said, f"{said}=1, or teacher.fit.lr=2")


@pytest.mark.parametrize(
    ("where", "fix", "said_where", "said_fix"),
    [
        ("data.split", "data/split=random, or name a column of times: data.time=COLUMN", "transfer.data.split",
         "data/split@transfer.data.split=random, or name a column of times: transfer.data.time=COLUMN"),
        ("data", "data=csv with other data", "transfer.data", "data@transfer.data=csv with other data"),
        ("log.csv:3", "leave the data as they are", "log.csv:3", "leave the data as they are"),
        ("transfer.data", "transfer.data.path=FILE", "transfer.data", "transfer.data.path=FILE"),
        (None, None, None, None),
    ],
)  # fmt: skip
def test_keys_of_another_domain(
    where: str | None, fix: str | None, said_where: str | None, said_fix: str | None
) -> None:
    with pytest.raises(InputError) as error, keys_of_source():
        raise InputError("it is wrong", where=where, fix=fix)
    assert (error.value.where, error.value.fix) == (said_where, said_fix)
