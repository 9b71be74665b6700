"""The prepared data set: vocabulary, cold items, counts, hashes, storage and report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from recdistill.data import report, store
from recdistill.data.filters import Filters
from recdistill.data.interactions import Dataset, Interactions
from recdistill.data.prepare import prepare
from recdistill.data.sources.base import RawLog, Source
from recdistill.data.sources.given import Given
from recdistill.data.sources.recbole import RecBole
from recdistill.data.sources.synthetic import Synthetic
from recdistill.data.splits import GivenSplit, GlobalTemporal, LeaveOneOut, PerUserTemporal, RandomSplit
from recdistill.data.statistics import gini
from recdistill.errors import InputError

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data")


class Frame(Source):
    """A log from memory."""

    def __init__(self, titles: pl.DataFrame | None = None, **columns: object):
        self.events, self.titles = pl.DataFrame(columns), titles

    def read(self) -> RawLog:
        return RawLog(self.events, self.titles, {"blank line": 2})

    def fingerprint(self) -> str:
        return "frame"

    def where(self) -> str:
        return "memory"


def pairs(dataset: Dataset, part: Interactions) -> list[tuple[str, str]]:
    return list(zip(dataset.users[part.user.numpy()], dataset.items[part.item.numpy()], strict=True))


def small() -> Dataset:
    """Train a: x y, b: x; valid a: z (cold); test b: y, a: w (cold) and z (seen in valid); c is unknown."""
    rows = [
        ("b", "x", 0), ("a", "y", 0), ("a", "x", 0), ("a", "z", 1), ("a", "x", 1), ("c", "x", 1),
        ("b", "y", 2), ("a", "w", 2), ("a", "z", 2), ("c", "q", 2),
    ]  # fmt: skip
    user, item, part = zip(*rows, strict=True)
    titles = pl.DataFrame({"item": ["x", "w"], "title": ["Ex", "Double U"]})
    return prepare(Frame(titles, user=user, item=item, part=part), Filters(), GivenSplit())


def test_vocabulary_is_that_of_train() -> None:
    dataset = small()
    assert dataset.users.tolist() == ["a", "b"]
    assert dataset.items.tolist() == ["x", "y", "z", "w"]
    assert dataset.schema.n_users == 2
    assert dataset.schema.n_items == 2
    assert dataset.titles is not None
    assert dataset.titles.tolist() == ["Ex", "y", "z", "Double U"]
    assert pairs(dataset, dataset.train) == [("a", "x"), ("a", "y"), ("b", "x")]
    assert pairs(dataset, dataset.valid) == [("a", "z")]
    assert sorted(pairs(dataset, dataset.test)) == [("a", "w"), ("b", "y")]
    assert dataset.test.user.dtype == dataset.test.item.dtype == torch.int64


def test_what_was_left_out_is_counted() -> None:
    found = small().report
    assert found["lost"] == {
        "valid": {"user without training history": 1, "pair of an earlier part": 1},
        "test": {"user without training history": 1, "pair of an earlier part": 1},
    }
    assert found["n_cold_items"] == 2
    assert found["parts"]["test"] == {"rows": 2, "users": 2, "cold_rows": 1, "cold_items": 1}
    assert found["facts"] == {"rows by part": "3 train + 3 valid + 4 test; train and valid 6"}
    assert found["dropped"] == {"blank line": 2}
    assert found["rows_read"] == 10
    assert found["density"] == pytest.approx(3 / 4)
    assert any("only 2 test users have training history" in text for text in found["warnings"])
    assert any("50% of the test rows are on items that train lacks" in text for text in found["warnings"])


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([0, 1, 2, 3]))
def test_the_order_of_rows_has_no_say(rng: object, which: int) -> None:
    draw = np.random.default_rng(5)
    columns = {
        "user": draw.integers(0, 30, 400),
        "item": draw.integers(0, 40, 400),
        "time": draw.integers(0, 60, 400),
    }
    split = [GlobalTemporal(), PerUserTemporal(), LeaveOneOut(), RandomSplit()][which]
    order = list(range(400))
    rng.shuffle(order)  # type: ignore[attr-defined]
    found = []
    for rows in (list(range(400)), order):
        ids = {name: columns[name][rows].astype(str) for name in ("user", "item")}
        found.append(prepare(Frame(**ids, time=columns["time"][rows]), Filters(k_core=3), split))
    assert found[0].fingerprint == found[1].fingerprint
    assert found[0].manifest == found[1].manifest
    assert torch.equal(found[0].train.item, found[1].train.item)


def test_no_pair_is_in_two_parts_and_time_does_not_leak() -> None:
    source = Synthetic(n_users=200, n_items=150, niches=8)
    dataset = prepare(source, Filters(), GlobalTemporal())
    seen = [set(pairs(dataset, part)) for part in (dataset.train, dataset.valid, dataset.test)]
    assert not seen[0] & seen[1]
    assert not (seen[0] | seen[1]) & seen[2]
    times = [part.time for part in (dataset.train, dataset.valid, dataset.test)]
    assert times[0].max() < times[1].min() <= times[1].max() < times[2].min()  # type: ignore[union-attr]
    assert times[1].min() >= dataset.manifest["cut_times"]["valid"]  # type: ignore[union-attr]
    assert dataset.manifest["leaks_time"] is False


def test_duplicates_change_nothing_and_are_counted() -> None:
    base = Synthetic(n_users=100, n_items=80, niches=8).read().events
    once = prepare(Frame(**base.to_dict()), Filters(), GlobalTemporal())
    twice = prepare(Frame(**pl.concat([base, base]).to_dict()), Filters(), GlobalTemporal())
    assert once.fingerprint == twice.fingerprint
    assert twice.report["filters"][0]["rows"] == [2 * base.height, base.height]


def test_keeping_the_last_repeat_leaks_time_and_says_so() -> None:
    rows = [("a", "x", 1), ("a", "y", 2), ("b", "x", 3), ("b", "y", 4), ("a", "x", 9), ("b", "z", 10)]
    user, item, time = zip(*rows, strict=True)
    source = Frame(user=user, item=item, time=time)
    honest = prepare(source, Filters(), GlobalTemporal(valid=0, test=0.3))
    assert honest.report["leaks_time"] is False
    assert ("a", "x") in pairs(honest, honest.train)
    leaking = prepare(source, Filters(repeats="last"), GlobalTemporal(valid=0, test=0.3))
    assert ("a", "x") not in pairs(leaking, leaking.train)
    assert leaking.report["leaks_time"] is leaking.manifest["leaks_time"] is True
    assert any("repeats=last leaks time" in text for text in leaking.report["warnings"])


def test_values_that_look_alike_are_counted_apart() -> None:
    values = [1.0, 1.0000001, 1.0000002, 2.0] * 3
    source = Frame(user=list("abcdefghijkl"), item=["x"] * 12, value=values, time=list(range(12)))
    report = prepare(source, Filters(), GlobalTemporal()).report
    assert report["log"]["values"] == {"1": 3, "1.0000001": 3, "1.0000002": 3, "2": 3}


def test_config_is_part_of_the_fingerprint() -> None:
    source = Synthetic(n_users=100, n_items=80, niches=8)
    prints = {
        prepare(source, filters, split).fingerprint
        for filters in (Filters(), Filters(repeats="last"))
        for split in (GlobalTemporal(), GlobalTemporal(0.1, 0.2))
    }
    assert len(prints) == 4


def test_a_given_split_may_be_replaced() -> None:
    source = Frame(user=list("aabbcc"), item=list("xyxyxz"), part=[0, 0, 0, 1, 2, 2])
    dataset = prepare(source, Filters(), RandomSplit(0, 0.3))
    assert len(dataset.test) <= 2
    assert any("which RandomSplit replaces" in text for text in dataset.report["warnings"])


def test_too_few_rows_for_a_test_part() -> None:
    source = Frame(user=list("aabb"), item=list("xyxy"), time=[1, 2, 3, 4])
    with pytest.raises(InputError, match="no test rows") as caught:
        prepare(source, Filters(), RandomSplit())
    assert caught.value.why == "there are 4 rows: data.split.test=0.1 of 4 rows rounds to 0"
    for split in (LeaveOneOut(), PerUserTemporal()):
        with pytest.raises(InputError, match="there are 4 rows: no user has 3 rows"):
            prepare(source, Filters(), split)
    repeated = Frame(user=list("aabb"), item=list("xxyy"))
    with pytest.raises(InputError, match="there are 2 rows, which the filters left of 4: ") as caught:
        prepare(repeated, Filters(), RandomSplit())
    assert "data.filters" in str(caught.value.fix)


@pytest.mark.parametrize("column", ["user", "item"])
def test_one_user_or_one_item(column: str) -> None:
    ids = {"user": [f"u{n}" for n in range(20)], "item": [f"i{n}" for n in range(20)], column: ["only"] * 20}
    dataset = prepare(Frame(**ids), Filters(), RandomSplit())
    assert all(np.isfinite(dataset.report[name]) for name in ("density", "gini", "head_share", "median_history"))
    Console(width=100, file=None, quiet=True).print(report.render(dataset))


def test_gini() -> None:
    assert gini(torch.tensor([3, 3, 3])) == pytest.approx(0)
    assert gini(torch.tensor([0, 0, 0, 8])) == pytest.approx(0.75)


class TestStore:
    def test_round_trip(self, tmp_path: Path) -> None:
        dataset = small()
        store.save(dataset, tmp_path / "d")
        loaded = store.load(tmp_path / "d")
        store.verify(loaded)
        assert loaded.fingerprint == dataset.fingerprint
        assert loaded.manifest == dataset.manifest
        assert loaded.report == dataset.report
        assert loaded.items.tolist() == dataset.items.tolist()
        assert loaded.users.tolist() == dataset.users.tolist()
        assert loaded.titles is not None
        assert loaded.titles.tolist() == dataset.titles.tolist()  # type: ignore[union-attr]
        for name in ("train", "valid", "test"):
            assert torch.equal(getattr(loaded, name).item, getattr(dataset, name).item)

    def test_the_test_part_may_be_away(self, tmp_path: Path) -> None:
        store.save(small(), tmp_path)
        (tmp_path / "test.safetensors").unlink()
        assert len(store.load(tmp_path, parts=("train", "valid")).test) == 0
        with pytest.raises(InputError, match="no prepared data set"):
            store.load(tmp_path)

    @pytest.mark.parametrize("name", ["dataset.json", "users.parquet", "items.parquet", "train.safetensors"])
    def test_damage_is_named(self, tmp_path: Path, name: str) -> None:
        store.save(small(), tmp_path)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError) as caught:
            store.load(tmp_path)
        assert caught.value.where == str(tmp_path)

    def test_a_changed_part_is_found(self, tmp_path: Path) -> None:
        store.save(small(), tmp_path)
        path = tmp_path / "train.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(bytes(content))
        with pytest.raises(InputError, match="the train part is not the one"):
            store.verify(store.load(tmp_path))


def test_report_fits_100_columns_and_escapes() -> None:
    dataset = small()
    dataset.report["source"] = "[red]/data/\x1b[31mx" + "y" * 120
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(report.render(dataset))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 100
    assert "[red]/data/\\x1b[31mx" in text
    assert "a: pair" not in text
    assert json.loads(json.dumps(report.as_dict(dataset)))["fingerprint"] == dataset.fingerprint


@needs_shared
def test_movielens_100k() -> None:
    source = RecBole(str(SHARED / "ml-100k"))
    dataset = prepare(source, Filters(), PerUserTemporal())
    assert (dataset.report["rows"], dataset.report["users"]) == (100_000, 943)
    assert dataset.report["filters"][0]["items"] == [1682, 1682]
    assert dataset.titles is not None
    assert "Toy Story" in dataset.titles.tolist()
    few = prepare(source, Filters(), GlobalTemporal()).report
    assert any("only 69 test users have training history" in text for text in few["warnings"])


@needs_shared
def test_citeulike_given_split() -> None:
    dataset = prepare(Given(str(SHARED / "citeulike-loo" / "topology")), Filters(), GivenSplit())
    assert [len(part) for part in (dataset.train, dataset.valid, dataset.test)] == [115_142, 5_219, 5_219]
    assert dataset.train.n_users == 5_219
    assert dataset.items.size == 25_181
