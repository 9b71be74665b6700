"""Keys in messages are made those that somebody types."""

from __future__ import annotations

import pytest

from recdistill.errors import InputError
from recdistill.stages.blame import keys_below


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
    with pytest.raises(InputError) as error, keys_below("alone"):
        raise InputError("net.dim is wrong", where=where, why=fix, fix=fix)
    found = error.value
    assert (found.where, found.why, found.fix) == (said_where, said_fix, said_fix)
    assert found.what == "net.dim is wrong"
