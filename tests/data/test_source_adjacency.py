"""LightGCN's folders and sequences: one line a user."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import polars as pl
import pytest

from recdistill.cli import main
from recdistill.data.filters import Filters
from recdistill.data.prepare import prepare
from recdistill.data.sources.adjacency import Adjacency
from recdistill.data.sources.base import POSITION
from recdistill.data.sources.sequences import Sequences
from recdistill.data.splits import GivenSplit, GlobalTemporal, LeaveOneOut
from recdistill.errors import InputError

FILES = {"train.txt": "0 5 6\n1 7\n2\n", "valid.txt": "0 8\n1\n", "test.txt": "0 9 7\n1 5\n2 5"}


def folder(where: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (where / name).write_text(text)
    return str(where)


def refused(source: Adjacency | Sequences) -> InputError:
    with pytest.raises(InputError) as caught:
        source.read()
    assert caught.value.where
    assert caught.value.fix
    return caught.value


class TestAdjacency:
    def test_parts_and_counts(self, tmp_path: Path) -> None:
        log = Adjacency(folder(tmp_path, FILES), valid="valid.txt").read()
        assert log.events.rows() == [
            ("0", "5", 0), ("0", "6", 0), ("1", "7", 0),
            ("0", "8", 1),
            ("0", "9", 2), ("0", "7", 2), ("1", "5", 2), ("2", "5", 2),
        ]  # fmt: skip
        assert log.dropped == {
            "user without items in train.txt": 1,
            "user without items in valid.txt": 1,
            "user without items in test.txt": 0,
        }
        assert log.facts == {"absent from train": "1 users, 2 items"}

    def test_without_valid(self, tmp_path: Path) -> None:
        dataset = prepare(Adjacency(folder(tmp_path, FILES)), Filters(), GivenSplit())
        assert [len(part) for part in (dataset.train, dataset.valid, dataset.test)] == [3, 0, 3]
        assert dataset.report["lost"]["test"]["user without training history"] == 1
        assert dataset.report["n_cold_items"] == 1

    def test_original_ids(self, tmp_path: Path) -> None:
        lists = {
            "user_list.txt": "org_id remap_id\nann 0\nbob 1\n01 2\n",
            "item_list.txt": "org_id remap_id entity\n" + "".join(f"i{n} {n} m.{n}\n" for n in (9, 8, 7, 6, 5)),
        }
        log = Adjacency(folder(tmp_path, FILES | lists), users="user_list.txt", items="item_list.txt").read()
        assert log.events["user"].to_list() == ["ann", "ann", "bob", "ann", "ann", "bob", "01"]
        assert log.events["item"].to_list() == ["i5", "i6", "i7", "i9", "i7", "i5", "i5"]

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("org_id remap_id\na 0\nb 1\n", "does not list user 2"),
            ("org_id remap_id\na 0\nb 0\nc 2\n", "an id is listed twice: '0'"),
            ("org_id remap_id\na 0\na 1\nc 2\n", "an id is listed twice: 'a'"),
            ("id number\na 0\nb 1\n", "another header"),
            ("org_id org_id\na 0\nb 1\n", "another header"),
        ],
    )
    def test_a_list_that_does_not_fit(self, tmp_path: Path, text: str, what: str) -> None:
        path = folder(tmp_path, FILES | {"user_list.txt": text})
        assert what in refused(Adjacency(path, users="user_list.txt")).what

    def test_bad_lines_and_missing_files(self, tmp_path: Path) -> None:
        path = folder(tmp_path, FILES)
        error = refused(Adjacency(path, valid="val.txt"))
        assert error.where == "data.valid"
        assert "data.valid=null" in str(error.fix)
        assert refused(Adjacency(path, train="trian.txt")).where == "data.train"
        (tmp_path / "test.txt").write_text("0 1\n1,2\n")
        assert refused(Adjacency(path)).where == f"{path}/test.txt:2"
        assert refused(Adjacency(f"{path}/test.txt")).where

    def test_the_order_of_lines_and_items_has_no_say(self, tmp_path: Path) -> None:
        draw = random.Random(3)
        prints = []
        for turn in range(2):
            lines = {name: text.strip().split("\n") for name, text in FILES.items()}
            texts = {}
            for name, rows in lines.items():
                cells = [row.split() for row in rows]
                if turn:
                    draw.shuffle(cells)
                    cells = [[head, *draw.sample(rest, len(rest))] for head, *rest in cells]
                texts[name] = "\n".join(" ".join(row) for row in cells)
            where = tmp_path / str(turn)
            where.mkdir()
            prints.append(prepare(Adjacency(folder(where, texts)), Filters(), GivenSplit()).fingerprint)
        assert prints[0] == prints[1]

    def test_the_command_line_names_the_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = folder(tmp_path, FILES | {"test.txt": "0 9\n1 5 x\n"})
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["recdistill"])
        monkeypatch.setenv("COLUMNS", "300")
        assert main(["data", "data=lightgcn", f"data.path={path}"]) == 2
        said = capsys.readouterr().err
        assert "'x' is no integer id" in said
        assert f"{path}/test.txt:2" in said

    def test_fingerprint_follows_the_files(self, tmp_path: Path) -> None:
        path = folder(tmp_path, FILES)
        first = Adjacency(path).fingerprint()
        assert Adjacency(path).fingerprint() == first
        assert Adjacency(path, valid="valid.txt").fingerprint() != first
        (tmp_path / "test.txt").write_text("0 9\n")
        assert Adjacency(path).fingerprint() != first


class TestSequences:
    def test_time_is_the_position(self, tmp_path: Path) -> None:
        files = {"s.txt": "7 3 1 2\n8 1\n9\n", "a.json": '{"1": [4, 5], "3": [], "50": [4]}'}
        log = Sequences(folder(tmp_path, files), "s.txt", "a.json").read()
        assert log.events.rows() == [("7", "3", 0), ("7", "1", 1), ("7", "2", 2), ("8", "1", 0)]
        assert log.events.schema["time"] == pl.Int64
        assert log.time_unit == POSITION
        assert log.dropped == {"user without items": 1}
        assert log.facts["sequence length"] == "0 to 3 items, 1.3 on average"
        assert log.facts["attributes"] == 2
        assert log.facts["items with attributes"] == 2
        assert log.items is not None
        assert log.items.rows() == [("1", ["4", "5"]), ("3", []), ("50", ["4"])]

    def test_the_last_item_is_the_test(self, tmp_path: Path) -> None:
        dataset = prepare(
            Sequences(folder(tmp_path, {"s.txt": "1 9 2 3 5\n2 5 9 2 3\n"}), "s.txt"), Filters(), LeaveOneOut()
        )
        assert sorted(dataset.items[dataset.test.item.numpy()]) == ["3", "5"]
        assert sorted(dataset.items[dataset.valid.item.numpy()]) == ["2", "3"]

    def test_positions_do_not_compare_between_users(self, tmp_path: Path) -> None:
        source = Sequences(folder(tmp_path, {"s.txt": "1 9 2 3 5\n2 5 9 2 3\n"}), "s.txt")
        with pytest.raises(InputError, match="compare between users") as caught:
            prepare(source, Filters(), GlobalTemporal())
        assert "leave_one_out" in str(caught.value.fix)

    def test_the_order_of_lines_has_no_say(self, tmp_path: Path) -> None:
        rows = [f"{user} " + " ".join(str((user * 7 + n) % 13) for n in range(5)) for user in range(1, 20)]
        found = []
        for name, lines in (("a.txt", rows), ("b.txt", rows[::-1])):
            folder(tmp_path, {name: "\n".join(lines)})
            found.append(prepare(Sequences(str(tmp_path), name), Filters(), LeaveOneOut()).fingerprint)
        assert found[0] == found[1]

    def test_attributes_may_be_words(self, tmp_path: Path) -> None:
        files = {"s.txt": "1 2 3 4\n", "a.json": '{"2": ["x y", "é"], "3": [1, "z"]}'}
        log = Sequences(folder(tmp_path, files), "s.txt", "a.json").read()
        assert log.items is not None
        assert log.items["attributes"].to_list() == [["x y", "é"], ["1", "z"]]

    @pytest.mark.parametrize(
        ("text", "where", "what"),
        [
            ('{"1": [4],\n "2": }', "a.json:2:7", "is no JSON"),
            ("[1]", "a.json", "holds no JSON object"),
            ('{"1": 4}', "a.json", "item '1' has no list"),
        ],
    )
    def test_bad_attributes(self, tmp_path: Path, text: str, where: str, what: str) -> None:
        path = folder(tmp_path, {"s.txt": "1 2 3 4\n", "a.json": text})
        error = refused(Sequences(path, "s.txt", "a.json"))
        assert error.where == f"{path}/{where}"
        assert what in error.what

    def test_a_user_has_one_line(self, tmp_path: Path) -> None:
        path = folder(tmp_path, {"s.txt": "1 2 3\n2 2 3\n1 4\n"})
        error = refused(Sequences(path, "s.txt"))
        assert error.where == f"{path}/s.txt:3"
