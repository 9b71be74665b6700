"""Users that training need not know: histories are read in parts, and answered as those of training would be."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from stage_kit import finish, start

from recdistill.errors import InputError
from recdistill.models.biased_mf import BiasedMF
from recdistill.models.given import GivenLists
from recdistill.models.linear import EASE
from recdistill.models.mf import MF
from recdistill.models.sasrec import SASRec
from recdistill.stages import strangers
from recdistill.stages.strangers import Strangers, read_strangers, reads_histories

ITEMS = np.array([f"i{n}" for n in range(10)], dtype=object)


def written(tmp_path: Path, rows: list[tuple[Any, ...]], name: str = "h.csv", columns: str = "user,item,time") -> str:
    names = columns.split(",")
    frame = pl.DataFrame([list(map(str, row)) for row in rows], schema=dict.fromkeys(names, pl.String), orient="row")
    file = tmp_path / name
    if name.endswith(".csv"):
        frame.write_csv(file)
    else:
        frame.write_parquet(file) if name.endswith(".parquet") else frame.write_ndjson(file)
    return str(file)


def histories(parts: list[Strangers]) -> dict[str, list[int]]:
    return {name: part.item[part.row == at].tolist() for part in parts for at, name in enumerate(part.names)}


@pytest.mark.parametrize("name", ["h.csv", "h.parquet", "h.jsonl"])
@pytest.mark.parametrize("rows_at_once", [1, 3, 1000])
def test_in_the_order_of_time(
    name: str, rows_at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(strangers, "ROWS", rows_at_once)
    rows = [("b", "i3", 10), ("b", "i1", 9), ("b", "i2", 100), ("a", "nothing", 1), ("c", "i7", 5), ("c", "i7", 6),
            ("c", "what", 7), ("d", "i0", 1)]  # fmt: skip
    found = list(read_strangers(written(tmp_path, rows, name), ITEMS))
    assert histories(found) == {"b": [1, 3, 2], "c": [7, 7], "d": [0]}
    assert "lacks: 2;" in caplog.text
    assert "no list: 1" in caplog.text


def test_times_as_text_and_no_times(tmp_path: Path) -> None:
    rows = [("a", "i3", "2026-11-21"), ("a", "i1", "2025-01-01")]
    assert histories(list(read_strangers(written(tmp_path, rows), ITEMS))) == {"a": [1, 3]}
    without = written(tmp_path, [row[:2] for row in rows], columns="user,item")
    assert histories(list(read_strangers(without, ITEMS))) == {"a": [3, 1]}


@pytest.mark.parametrize("rows_at_once", [1, 2, 100])
def test_a_user_who_comes_back_is_refused(rows_at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "ROWS", rows_at_once)
    rows = [("a", "i1", 1), ("b", "i1", 1), ("c", "i1", 1), ("a", "i2", 2)]
    with pytest.raises(InputError, match="'a' do not stand together"):
        list(read_strangers(written(tmp_path, rows), ITEMS))


def test_what_can_not_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="item"):
        list(read_strangers(written(tmp_path, [("a", "i1")], columns="user,thing"), ITEMS))
    (tmp_path / "h.xlsx").write_text("")
    with pytest.raises(InputError, match="xlsx"):
        list(read_strangers(str(tmp_path / "h.xlsx"), ITEMS))
    (tmp_path / "h.parquet").write_bytes(b"PAR1 this is none")
    with pytest.raises(InputError, match="can't be read"):
        list(read_strangers(str(tmp_path / "h.parquet"), ITEMS))
    (tmp_path / "gap.csv").write_text("user,item\na,i1\na,\n")
    with pytest.raises(InputError, match="ids are missing"):
        list(read_strangers(str(tmp_path / "gap.csv"), ITEMS))
    with pytest.raises(InputError):
        list(read_strangers(str(tmp_path / "nowhere.csv"), ITEMS))


def test_the_last_items_of_each() -> None:
    users = Strangers(np.array(["a", "b", "c"]), torch.tensor([0, 0, 0, 1, 2, 2]), torch.tensor([5, 3, 4, 9, 1, 1]))
    assert users.last(2, 10).tolist() == [[3, 4], [9, 10], [1, 1]]
    assert users.last(9, 10).tolist() == [[5, 3, 4], [9, 10, 10], [1, 1, 10]]
    first, second = users.split(2)
    assert histories([first, second]) == {"a": [5, 3, 4], "b": [9], "c": [1, 1]}
    assert second.sets.indices.tolist() == [1]


def test_who_reads_histories() -> None:
    assert all(reads_histories(model) for model in (MF, EASE, SASRec))
    assert not any(reads_histories(model) for model in (GivenLists, BiasedMF))


def lists_of(file: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    rows = csv.DictReader(file.read_text().splitlines())
    for row in rows:
        found.setdefault(row["user"], []).append(row["item"])
    return found


def own_histories(folder: Path, tmp_path: Path) -> tuple[str, dict[str, list[str]]]:
    """The histories of a data set's own users by the end of validation, as a file of strangers."""
    from recdistill.data.store import load
    from recdistill.tasks.sequence import histories as of

    data = load(next((folder / "outputs" / "cache" / "data").iterdir()), ("train", "valid"))
    had = of(data, "test")
    own = {f"new {data.users[u]}": [str(data.items[i]) for i in had.item[had.indptr[u] : had.indptr[u + 1]]]
           for u in range(data.train.n_users)}  # fmt: skip
    rows = [(user, item, at) for user, items in own.items() for at, item in enumerate(items)]
    return written(tmp_path, rows, "own.parquet"), own


@pytest.mark.parametrize(
    ("words", "exact"),
    [(("student=mf",), False), (("student=mf", "recommend.output=o.parquet"), False),
     (("task=sequence", "teacher=sasrec", "student=sasrec", "teacher.fit.epochs=1", "student.fit.epochs=1",
       "teacher.net.dim=8", "student.net.dim=8"), True)],
    ids=["mf", "parquet", "sasrec"],
)  # fmt: skip
def test_recommend(words: tuple[str, ...], exact: bool, tmp_path: Path) -> None:
    base = ("recommend.model=alone", "distiller=none", "recommend.k=6", *words)
    code, output = finish(start(tmp_path, "recommend", *(w for w in base if "output" not in w), "run.name=known"))
    assert code == 0, output
    file, own = own_histories(tmp_path, tmp_path)
    code, output = finish(start(tmp_path, "recommend", *base, f"recommend.histories={file}", "run.name=new"))
    assert code == 0, output
    if "recommend.output=o.parquet" in words:
        frame = pl.read_parquet(tmp_path / "o.parquet")
        assert frame.schema["score"] == pl.Float32
        assert frame["rank"].max() == 6
        frame.write_csv(tmp_path / "outputs" / "new" / "recommendations.csv")
    found = lists_of(tmp_path / "outputs" / "new" / "recommendations.csv")
    assert list(found) == list(own)
    for user, items in found.items():
        assert len(items) == 6
        assert not set(items) & set(own[user])
    if exact:  # the same history, read by the same model
        known = lists_of(tmp_path / "outputs" / "known" / "recommendations.csv")
        assert {f"new {user}": items for user, items in known.items()} == found


def test_refused_before_anything_is_trained(tmp_path: Path) -> None:
    file = written(tmp_path, [("a", "i00001", 1)])
    cases = {"not by both": (f"recommend.histories={file}", "recommend.users=[u00001]"),
             "nofile.csv": ("recommend.histories=nofile.csv",)}  # fmt: skip
    for said, words in cases.items():
        code, output = finish(start(tmp_path, "recommend", *words))
        assert code == 2, output
        assert said in output
    assert not (tmp_path / "outputs" / "cache").exists()
