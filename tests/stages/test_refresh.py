"""Refreshing a model on new events: what it keeps, when it takes the old one's place, and how one goes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from stage_kit import finish, start

from recdistill.data.sources.appended import Appended, read_events
from recdistill.data.sources.synthetic import Synthetic
from recdistill.errors import InputError
from recdistill.export.manifest import open_manifest
from recdistill.stages.carry import Rows, carried
from recdistill.stages.refresh import config_of, exchange, good_enough, swap

LOG = Synthetic(n_users=150, n_items=80, niches=8).read().events.sort("time")


def test_users_and_items_keep_their_vectors() -> None:
    users = Rows.of(np.array(["a", "b", "c"]), np.array(["b", "d", "a"]))
    items = Rows.of(np.array(["x", "y"]), np.array(["w", "y", "x", "z"]))
    assert users.at.tolist() == [1, -1, 0]
    assert items.known.tolist() == [False, True, True, False]
    old = {"user.weight": torch.tensor([[1.0], [2], [3]]), "item.weight": torch.tensor([[10.0], [20], [99]]),
           "bias": torch.tensor([1.0, 2]), "layer": torch.ones(3, 3), "gone": torch.ones(1)}  # fmt: skip
    new = {"user.weight": torch.zeros(3, 1), "item.weight": torch.zeros(5, 1), "bias": torch.zeros(4),
           "layer": torch.zeros(3, 3), "fresh": torch.zeros(2)}  # fmt: skip
    found = carried(old, new, users, items)
    assert found["user.weight"].flatten().tolist() == [2, 0, 1]
    assert found["item.weight"].flatten().tolist() == [0, 20, 10, 0, 99]  # the last fills histories up
    assert found["bias"].tolist() == [0, 2, 1, 0]
    assert found["layer"].eq(1).all()  # as large as there are users, and no table of them
    assert found["fresh"].tolist() == [0, 0]
    assert new["user.weight"].eq(0).all()


def test_the_new_one_must_not_be_worse() -> None:
    was = torch.tensor([0.2, 0.4, 0.6])
    assert good_enough(was + 0.1, was, 0.001, 0.0)
    assert good_enough(was, was, 1.0, 0.0)
    assert not good_enough(was - 0.01, was, 0.9, 0.0)
    assert good_enough(was - 0.01, was, 0.9, 0.05)
    assert not good_enough(was - 0.01, was, 0.01, 0.05)


def folder_with(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "file").write_text(text)
    return path


def test_folders_change_places(tmp_path: Path) -> None:
    one, other = (folder_with(tmp_path / name, name) for name in ("one", "other"))
    exchange(one, other)
    assert ((one / "file").read_text(), (other / "file").read_text()) == ("other", "one")
    swap(one, other, tmp_path / "previous")
    assert (one / "file").read_text() == "one"
    assert (tmp_path / "previous" / "file").read_text() == "other"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other", "previous"]


def events_in(tmp_path: Path, frame: pl.DataFrame, name: str = "e.jsonl") -> Path:
    file = tmp_path / name
    (frame.write_ndjson if name.endswith("l") else frame.write_csv)(file)
    return file


def test_events_are_put_behind_a_log_once(tmp_path: Path) -> None:
    base = Synthetic(n_users=20, n_items=20)
    log = base.read().events
    new = pl.DataFrame({"user": ["new", "new"], "item": ["i00001", "thing"], "time": [1.8e9, 1.9e9]})
    again = log.head(3).select("user", "item", pl.col("time").cast(pl.Float64))
    for name in ("e.jsonl", "e.csv"):
        source = Appended(base, str(events_in(tmp_path, pl.concat([new, new, again]), name)))
        found = source.read().events
        assert len(found) == len(log) + 2
        assert found.tail(2)["item"].to_list() == ["i00001", "thing"]
        assert found.schema == log.schema
        assert found["value"].null_count() == 0
    assert source.fingerprint() != base.fingerprint()
    assert "e.csv" in source.where()


@pytest.mark.parametrize(
    ("text", "said"),
    [('{"user": "u"}\n', "no item and no time"), ("nonsense", "can't be read"),
     ("", "empty file"),
     ('{"user": "u", "item": null, "time": 3}\n', "missing"),
     ('{"user": "u", "item": "i", "time": "soon"}\n', "missing"),
     ('{"user": ["u"], "item": "i", "time": 3}\n', "can't be read"),
     ('{"user": "u", "item": "i", "time": 1701000000000}\n', "divide milliseconds")],
)  # fmt: skip
def test_events_that_can_not_be_read(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_text(text)
    with pytest.raises(InputError, match=said):
        read_events(tmp_path / "e.jsonl")


def test_a_run_is_refreshed_and_rolled_back(tmp_path: Path) -> None:
    n = len(LOG)
    LOG[: int(0.7 * n)].write_csv(tmp_path / "log.csv")
    later = LOG[int(0.7 * n) :].select("user", "item", "time")
    new = pl.DataFrame({"user": ["somebody"] * 4, "item": ["i00001", "i00002", "i00003", "novel"],
                        "time": [int(later["time"].min()) + at for at in range(4)]})  # fmt: skip
    events_in(tmp_path, pl.concat([later, new.cast(later.schema)]))
    data = ("data=csv", "data.path=log.csv", "data.time=time")
    code, output = finish(start(tmp_path, "run", *data, "compression=[quantize]", "export=[bundle]", "run.name=a"))
    assert code == 0, output
    bundle = tmp_path / "outputs" / "a" / "export"
    before = open_manifest(bundle)["weights_hash"]
    (tmp_path / "current").symlink_to(bundle)  # a link is followed, and stays one
    words = ("current", "e.jsonl", "refresh.tolerance=1", "refresh.least_users=1")
    code, output = finish(start(tmp_path, "refresh", *words))
    assert code == 0, output
    assert (tmp_path / "current").is_symlink()
    assert not bundle.is_symlink()
    said = json.loads((tmp_path / "outputs" / "a" / "refresh" / "0001" / "decision.json").read_text())
    assert {"accepted", "metric", "old", "new", "p", "users", "new_users", "new_items"} <= said.keys()
    assert said["new_users"] >= 1
    assert said["new_items"] >= 1
    assert ("refreshed:" in output) == said["accepted"]
    assert said["accepted"], said  # it has seen what the season brings
    assert open_manifest(bundle)["weights_hash"] != before
    assert "somebody" in pl.read_parquet(bundle / "users.parquet")["user"].to_list()
    assert open_manifest(bundle.with_name("export.previous"))["weights_hash"] == before
    assert said["events"] == len(later.unique()) + 4
    assert "## Refreshed" in (bundle / "README.md").read_text()
    code, output = finish(start(tmp_path, "refresh", "outputs/a", "e.jsonl"))
    assert code == 2, output
    assert "all of these events already" in output
    assert [path.name for path in sorted((tmp_path / "outputs" / "a" / "refresh").glob("0*"))] == ["0001"]
    code, output = finish(start(tmp_path, "refresh", "outputs/a/export", "refresh.rollback=true"))
    assert code == 0, output
    assert open_manifest(bundle)["weights_hash"] == before
    code, output = finish(start(tmp_path, "refresh", "outputs/a/export", "refresh.rollback=true"))
    assert code == 2, output
    assert "nothing to go back to" in output


@pytest.mark.parametrize(
    ("words", "said"),
    [((), "refresh needs EXPORT"), (("nowhere", "e.jsonl"), "nowhere"),
     (("nowhere", "refresh.newest=2"), "refresh.newest")],
)  # fmt: skip
def test_what_can_not_be_is_refused(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    code, output = finish(start(tmp_path, "refresh", *words))
    assert code == 2, output
    assert said in output


@pytest.mark.parametrize(
    "part", [{"transfer": {"bridge": {}}}, {"teaching": {"x": {}}}, {"teacher": {"taught_by": {}}}]
)
def test_a_teacher_of_a_kind_that_is_not_refreshed_is_refused(part: dict[str, Any], tmp_path: Path) -> None:
    new = pl.DataFrame({"user": ["new"], "item": ["i00001"], "time": [1.8e9]})
    source = {"_target_": "recdistill.data.sources.synthetic.Synthetic", "n_users": 20, "n_items": 20}
    settings = {"epochs": None, "newest": 0.1}
    cfg = {"data": {"source": source}, "teacher": {}, "student": {}}
    file = events_in(tmp_path, new, "e.jsonl")
    found, n_new = config_of(cfg, file, settings, "cache")
    assert (found["teacher"], n_new) == ({}, 1)
    with pytest.raises(InputError, match="is not refreshed yet"):
        config_of({**cfg, **part}, file, settings, "cache")
