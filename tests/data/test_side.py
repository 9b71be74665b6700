"""Features of users, items and events: kinds, files, vectors, and what is said of what does not fit."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from recdistill.cli import main
from recdistill.config.types import value_problem
from recdistill.data.filters import Filters
from recdistill.data.prepare import prepare
from recdistill.data.sources.base import RawLog
from recdistill.data.sources.given import Given
from recdistill.data.sources.recbole import RecBole
from recdistill.data.sources.side import as_kind, read_side
from recdistill.data.sources.spec import FeatureSpec
from recdistill.data.sources.table import Table
from recdistill.data.splits import RandomSplit
from recdistill.errors import InputError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
LOG = "user,item,device,hour\n" + "".join(f"u{n % 4},i{n % 3},{'web' if n % 2 else ''},{n % 24}\n" for n in range(12))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "log.csv").write_text(LOG)
    return tmp_path


def read(folder: Path, **features: Any) -> RawLog:
    return Table(str(folder / "log.csv"), features=features).read()  # type: ignore[arg-type]


def refused(folder: Path, **features: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        read(folder, **features)
    assert caught.value.where
    assert caught.value.fix
    return caught.value


def side(folder: Path, text: str, name: str, kind: Any, **arguments: Any) -> list[Any]:
    (folder / "side.csv").write_text(text)
    return read_side(folder / "side.csv", "item", "item", {name: kind}, **arguments)[name].to_list()


class TestKinds:
    def test_dtypes(self, tmp_path: Path) -> None:
        text = 'item,c,n,m,t,v\n01, a ,1.5, x|y||x ,"two words","[1, 2.5]"\n1,,,,,\n'
        (tmp_path / "side.csv").write_text(text)
        kinds: Any = {"c": "categorical", "n": "numeric", "m": "multi", "t": "text", "v": "vector"}
        frame = read_side(tmp_path / "side.csv", "item", "item", kinds)
        expected = [pl.String, pl.String, pl.Float64, pl.List(pl.String), pl.String, pl.Array(pl.Float32, 2)]
        assert frame.dtypes == expected
        assert frame.rows() == [("01", "a", 1.5, ["x", "y", "x"], "two words", [1.0, 2.5]), ("1", *[None] * 5)]

    def test_parquet_types(self, tmp_path: Path) -> None:
        array = pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int16, 2))
        frame = pl.DataFrame({"item": [7, 8], "m": [[1, 2], None], "v": array, "n": [True, False], "c": [1, None]})
        frame.write_parquet(tmp_path / "side.parquet")
        kinds: Any = {"m": "multi", "v": "vector", "n": "numeric", "c": "categorical"}
        got = read_side(tmp_path / "side.parquet", "item", "item", kinds)
        assert got.rows() == [("7", ["1", "2"], [1.0, 2.0], 1.0, "1"), ("8", None, [3.0, 4.0], 0.0, None)]

    def test_json_types(self, tmp_path: Path) -> None:
        lines = [{"item": 1, "m": ["a", "b"], "v": [0.5, 1], "n": 2}, {"item": "x", "m": [], "v": None}]
        (tmp_path / "side.jsonl").write_text("\n".join(map(json.dumps, lines)))
        kinds: Any = {"m": "multi", "v": "vector", "n": "numeric"}
        got = read_side(tmp_path / "side.jsonl", "item", "item", kinds)
        assert got.rows() == [("1", ["a", "b"], [0.5, 1.0], 2.0), ("x", [], None, None)]

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
    def test_numbers_are_those_written(self, numbers: list[float | None]) -> None:
        text = pl.Series("n", [None if n is None else f" {n!r}" for n in numbers], dtype=pl.String)
        assert as_kind(text, "numeric", "f", "n").to_list() == numbers

    WORDS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="|"), min_size=1, max_size=4)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.lists(WORDS.map(str.strip).filter(bool), max_size=3), min_size=1, max_size=6))
    def test_sets_are_those_written(self, sets: list[list[str]]) -> None:
        text = pl.Series("m", [" | ".join(words) for words in sets], dtype=pl.String)
        assert as_kind(text, "multi", "f", "m").to_list() == [words or None for words in sets]
        assert as_kind(pl.Series("m", sets, dtype=pl.List(pl.String)), "multi", "f", "m").to_list() == sets

    @pytest.mark.parametrize("cell", ["[0.5, 1, -2]", "0.5 1 -2", "0.5,1,-2", " [ 0.5  1.0  -2e0 ] "])
    def test_vectors_in_text(self, cell: str) -> None:
        got = as_kind(pl.Series("v", [None, cell, "[]", ""]), "vector", "f", "v")
        assert got.to_list() == [None, [0.5, 1.0, -2.0], None, None]

    def test_nan_is_missing_in_tables_of_numbers(self) -> None:
        got = as_kind(pl.Series("n", [1.0, math.nan, None]), "numeric", "f", "n")
        assert got.to_list() == [1.0, None, None]
        with pytest.raises(InputError, match="inf"):
            as_kind(pl.Series("n", [1.0, math.inf]), "numeric", "f", "n")

    @pytest.mark.parametrize(
        ("kind", "cells", "row"),
        [
            ("numeric", ["1", "two", "3"], 3),
            ("numeric", ["1", "2", "nan"], 4),
            ("vector", ["1 2", "3 4", "5"], 4),
            ("vector", ["1 2", "3 x", "5 6"], 3),
            ("vector", ["1 2", "inf 1", "5 6"], 3),
        ],
    )
    def test_the_place_of_what_does_not_fit(self, tmp_path: Path, kind: Any, cells: list[str], row: int) -> None:
        text = "item,f\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells))
        with pytest.raises(InputError) as caught:
            side(tmp_path, text, "f", kind)
        assert caught.value.where == f"{tmp_path / 'side.csv'}:{row}:f"
        # Rows that are left out before do not move it.
        head, first, *rest = text.splitlines()
        with pytest.raises(InputError) as caught:
            side(tmp_path, "\n".join([head, "", ",0 0", first, *rest]), "f", kind)
        assert caught.value.where == f"{tmp_path / 'side.csv'}:{row + 2}:f"

    @pytest.mark.parametrize("kind", ["categorical", "numeric", "text"])
    def test_lists_are_multi_or_vectors(self, kind: Any) -> None:
        with pytest.raises(InputError, match="can't be") as caught:
            as_kind(pl.Series("f", [["a"]]), kind, "file", "f")
        assert "multi and vector" in str(caught.value.fix)

    def test_ids_are_labels_and_the_first_row_counts(self, tmp_path: Path) -> None:
        (tmp_path / "side.csv").write_text("item,n\n01,1\n1,2\n01,3\n,4\n")
        warnings: list[str] = []
        frame = read_side(tmp_path / "side.csv", "item", "item", {"n": "numeric"}, warnings=warnings)
        assert frame.rows() == [("01", 1.0), ("1", 2.0)]
        assert warnings == [
            "side.csv: rows without an id are left out: 1",
            "side.csv: rows that repeat an id are left out: 1; the first of each stays",
        ]


class TestSpec:
    def problem(self, **spec: Any) -> tuple[str, str, str | None]:
        found = value_problem("data.source.features", spec, FeatureSpec | None)
        assert found
        return found

    def test_a_wrong_kind_gets_the_nearest(self) -> None:
        for column in ("numerc", {"kind": "numerc"}):
            key, message, fix = self.problem(user={"file": "u.csv", "columns": {"age": column}})
            assert key.startswith("data.source.features.user.columns.age")
            assert "'vector'" in message
            assert fix == "did you mean numeric?"

    @pytest.mark.parametrize(
        ("spec", "says"),
        [
            ({"usr": {}}, "did you mean 'user'?"),
            ({"user": {"fil": "u.csv", "columns": {}}}, "did you mean 'file'?"),
            ({"user": {"file": "u.csv"}}, "the key 'columns' is missing"),
            ({"user": {"columns": {"age": "numeric"}}}, "'file' is missing, which holds age"),
            ({"item": {"columns": {"v": {"kind": "text", "file": "v.npy"}}}}, "is a vector, not text"),
            ({"item": {"file": "x", "columns": {"v": {"kind": "vector", "ids": "ids"}}}}, "ids go with a file"),
            ({"context": {"columns": {"time": "numeric"}}}, "OTHER_NAME: {kind: numeric, column: time}"),
            ({"user": {"file": 3, "columns": {}}}, "must be a string"),
        ],
    )
    def test_what_is_wrong_is_said(self, spec: dict[str, Any], says: str) -> None:
        _, message, fix = self.problem(**spec)
        assert says in f"{message} {fix}"

    def test_the_command_line_checks_it_first(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(folder)
        monkeypatch.setattr("sys.argv", ["recdistill"])
        words = ["data", "data=csv", "data.path=log.csv", "data/split=random"]
        assert main([*words, "data.features.context={columns: {device: categoric}}"]) == 2
        assert "did you mean categorical?" in capsys.readouterr().err
        assert main([*words, "data.features.context={columns: {devices: categorical}}"]) == 2
        assert "'device' in place of 'devices' in data.features.context.columns" in capsys.readouterr().err
        (folder / "users.csv").write_text("user,age\nu0,1\nu9,2\n")
        assert main([*words, "data.features.user={file: users.csv, columns: {age: numeric}}"]) == 0
        out = capsys.readouterr().out
        assert "2 users, 1 of them not in the log" in out
        assert "warning: users.csv: features of 3 of 4 users are missing" in out


class TestFiles:
    def test_all_three_sides(self, folder: Path) -> None:
        (folder / "users.tsv").write_text("uid\tage\nu0\t30\nu1\t\nu2\t41\nu3\t7\nextra\t1\n")
        (folder / "items.csv").write_text("item;genres\ni0;a, b\ni2;c\n")
        log = read(
            folder,
            user={"file": "users.tsv", "id": "uid", "columns": {"years": {"kind": "numeric", "column": "age"}}},
            item={"file": "items.csv", "columns": {"genres": {"kind": "multi", "separator": ","}}},
            context={"columns": {"device": "categorical", "when": {"kind": "numeric", "column": "hour"}}},
        )
        assert log.kinds == {
            "user": {"years": "numeric"},
            "item": {"genres": "multi"},
            "context": {"device": "categorical", "when": "numeric"},
        }
        assert log.users is not None
        assert log.users.rows()[:2] == [("u0", 30.0), ("u1", None)]
        assert log.items is not None
        assert log.items.rows() == [("i0", ["a", "b"]), ("i2", ["c"])]
        assert log.events["device"].to_list()[:2] == [None, "web"]
        assert log.events["when"].to_list() == [float(n) for n in range(12)]
        assert log.facts == {
            "features in users.tsv": "5 users, 1 of them not in the log",
            "features in items.csv": "2 items",
        }
        assert log.warnings == ["items.csv: features of 1 of 3 items are missing"]

    def test_they_reach_the_data_set(self, folder: Path) -> None:
        (folder / "items.csv").write_text("item,price\ni0,1\ni1,2\ni2,3\n")
        spec: Any = {
            "item": {"file": "items.csv", "columns": {"price": "numeric"}},
            "context": {"columns": {"device": "categorical"}},
        }
        dataset: Any = prepare(Table(str(folder / "log.csv"), features=spec), Filters(), RandomSplit(0.1, 0.1))
        prices = dict(zip(dataset.items, dataset.item_features.numeric["price"].tolist(), strict=True))
        assert prices == {"i0": 1.0, "i1": 2.0, "i2": 3.0}
        assert dataset.train.context.vocabularies["device"].tolist() == ["", "web"]

    def test_fingerprint_follows_files_and_spec(self, folder: Path) -> None:
        (folder / "users.csv").write_text("user,age,sex\nu0,1,f\n")
        np.save(folder / "v.npy", np.ones((4, 2)))

        def print_of(column: str, **more: Any) -> str:
            spec: Any = {"user": {"file": "users.csv", "columns": {column: "categorical", **more}}}
            return Table(str(folder / "log.csv"), features=spec).fingerprint()

        first = print_of("age")
        assert print_of("sex") != first
        with_vector = print_of("age", v={"kind": "vector", "file": "v.npy"})
        np.save(folder / "v.npy", np.zeros((4, 2)))
        assert print_of("age", v={"kind": "vector", "file": "v.npy"}) != with_vector
        (folder / "users.csv").write_text("user,age,sex\nu0,2,f\n")
        assert print_of("age") != first

    def test_beside_the_log_or_from_here(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        spec = {"file": "users.csv", "columns": {"age": "numeric"}}
        (folder / "here").mkdir()
        monkeypatch.chdir(folder / "here")
        (folder / "here" / "users.csv").write_text("user,age\nu0,1\n")
        assert read(folder, user=spec).users is not None
        (folder / "users.csv").write_text("user,age\nu0,2\n")
        users = read(folder, user=spec).users
        assert users is not None
        assert users["age"].to_list() == [2.0]

    def test_what_is_missing_is_named(self, folder: Path) -> None:
        (folder / "users.csv").write_text("uid,age\nu0,1\n")
        error = refused(folder, user={"file": "user.csv", "columns": {"age": "numeric"}})
        assert error.where == "data.features.user.file"
        assert "users.csv" in str(error.fix)
        error = refused(folder, user={"file": "users.csv", "columns": {"age": "numeric"}})
        assert error.fix == "data.features.user.id=uid"
        error = refused(folder, user={"file": "users.csv", "id": "uid", "columns": {"ages": "numeric"}})
        assert error.fix == "'age' in place of 'ages' in data.features.user.columns"

    def test_titles_and_features_meet(self, folder: Path) -> None:
        (folder / "names.csv").write_text("item,title\ni0,Zero\ni9,Nine\n")
        (folder / "items.csv").write_text("item,price\ni0,1\ni1,2\n")
        spec: Any = {"item": {"file": "items.csv", "columns": {"price": "numeric"}}}
        log = Table(str(folder / "log.csv"), titles=str(folder / "names.csv"), features=spec).read()
        assert log.items is not None
        expected = [("i0", "Zero", 1.0), ("i1", None, 2.0), ("i9", "Nine", None)]
        assert sorted(log.items.rows()) == expected

    def test_a_given_split_has_features_too(self, tmp_path: Path) -> None:
        for name in ("train", "valid", "test"):
            (tmp_path / f"{name}.csv").write_text("user,item,device\n1,a,web\n")
        (tmp_path / "users.csv").write_text("user,age\n1,3\n")
        spec: Any = {
            "user": {"file": "users.csv", "columns": {"age": "numeric"}},
            "context": {"columns": {"device": "categorical"}},
        }
        log = Given(str(tmp_path), features=spec).read()
        assert log.users is not None
        assert log.users.rows() == [("1", 3.0)]
        assert log.events["device"].to_list() == ["web"] * 3

    def test_files_without_a_header_and_in_latin1(self, folder: Path) -> None:
        (folder / "u.user").write_bytes("u0|24|é\nu1|53|f\n".encode("latin-1"))
        spec = {
            "file": "u.user", "id": 0, "header": False, "encoding": "latin-1",
            "columns": {"age": {"kind": "numeric", "column": 1}, "sex": {"kind": "categorical", "column": 2}},
        }  # fmt: skip
        users = read(folder, user=spec).users
        assert users is not None
        assert users.rows() == [("u0", 24.0, "é"), ("u1", 53.0, "f")]


class TestVectors:
    def read(self, folder: Path, **column: Any) -> pl.DataFrame:
        items = read(folder, item={"columns": {"image": {"kind": "vector", **column}}}).items
        assert items is not None
        return items

    def refused(self, folder: Path, **column: Any) -> InputError:
        return refused(folder, item={"columns": {"image": {"kind": "vector", **column}}})

    @pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64"])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_npy_with_ids(self, folder: Path, dtype: str, order: Any) -> None:
        matrix = np.asarray(np.arange(6).reshape(3, 2), dtype=dtype, order=order)
        np.save(folder / "image.npy", matrix)
        (folder / "ids.txt").write_text("\ufeffi2\r\ni0\r\n01\r\n")
        items = self.read(folder, file="image.npy", ids="ids.txt")
        assert items.dtypes == [pl.String, pl.Array(pl.Float32, 2)]
        assert items.rows() == [("i2", [0.0, 1.0]), ("i0", [2.0, 3.0]), ("01", [4.0, 5.0])]

    def test_rows_are_integer_ids_without_ids(self, folder: Path) -> None:
        np.save(folder / "image.npy", np.arange(4.0).reshape(2, 2))
        assert self.read(folder, file="image.npy")["item"].to_list() == ["0", "1"]

    def test_a_row_of_nan_is_missing(self, folder: Path) -> None:
        np.save(folder / "image.npy", np.array([[1, 2], [np.nan, np.nan]], dtype=np.float32))
        assert self.read(folder, file="image.npy")["item"].to_list() == ["0"]
        np.save(folder / "image.npy", np.array([[1, 2], [np.nan, 3]], dtype=np.float32))
        assert "row 1 of" in self.refused(folder, file="image.npy").what

    def test_safetensors(self, folder: Path) -> None:
        tensors = {"image": np.ones((2, 3), np.float32), "audio": np.zeros((2, 3), np.float32)}
        save_file(tensors, folder / "v.safetensors")
        assert self.read(folder, file="v.safetensors")["image"].to_list() == [[1.0] * 3] * 2
        assert self.read(folder, file="v.safetensors", column="audio")["image"].to_list() == [[0.0] * 3] * 2
        error = self.refused(folder, file="v.safetensors", column="audios")
        assert error.fix == "data.features.item.columns.image.column=audio"
        (folder / "v.safetensors").write_bytes(b"\xff" * 100)
        assert "damaged" in self.refused(folder, file="v.safetensors").what

    def test_two_files_and_a_table(self, folder: Path) -> None:
        for name in ("a", "b"):
            (folder / name).mkdir()
            np.save(folder / name / "v.npy", np.ones((2, 1 if name == "a" else 2), np.float32))
        (folder / "items.csv").write_text("item,price\n0,5\n7,6\n")
        columns = {name: {"kind": "vector", "file": f"{name}/v.npy"} for name in ("a", "b")}
        items = read(folder, item={"file": "items.csv", "columns": {"price": "numeric", **columns}}).items
        assert items is not None
        expected = [("0", 5.0, [1.0], [1.0, 1.0]), ("1", None, [1.0], [1.0, 1.0]), ("7", 6.0, None, None)]
        assert items.sort("item").rows() == expected

    def test_nothing_is_unpickled(self, folder: Path) -> None:
        canary = folder / "canary"

        class Bomb:
            def __reduce__(self) -> Any:
                return Path.touch, (canary,)

        np.save(folder / "image.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
        assert "no .npy" in self.refused(folder, file="image.npy").what
        (folder / "image.npy").write_bytes(pickle.dumps(Bomb()))
        assert "no .npy" in self.refused(folder, file="image.npy").what
        assert not canary.exists()

    def test_a_header_that_promises_too_much_allocates_nothing(self, folder: Path) -> None:
        np.save(folder / "image.npy", np.zeros((2, 2), np.float32))
        content = (folder / "image.npy").read_bytes()
        for shape in (b"(99999999999, 2), }", b"(99999999999, 2),  ", b"(99999999999, -2),}", b"'9999999999999999'}"):
            lying = content.replace(b"(2, 2), }" + b" " * 10, shape)
            assert len(lying) == len(content)
            (folder / "image.npy").write_bytes(lying)
            assert "or is damaged" in self.refused(folder, file="image.npy").what

    @pytest.mark.parametrize("array", [np.zeros(3), np.zeros((2, 0)), np.zeros((2, 2, 2)), np.array([["a"]])])
    def test_other_shapes_and_types(self, folder: Path, array: np.ndarray[Any, Any]) -> None:
        np.save(folder / "image.npy", array)
        error = self.refused(folder, file="image.npy")
        assert "does not hold vectors" in error.what
        assert str(list(array.shape)) in str(error.why)

    @pytest.mark.parametrize(
        ("ids", "says"), [("a\n", "has 1 ids for the 2 rows"), ("a\n\n", "missing"), ("a\na\n", "occurs twice: 'a'")]
    )
    def test_ids_must_fit(self, folder: Path, ids: str, says: str) -> None:
        np.save(folder / "image.npy", np.zeros((2, 2)))
        (folder / "ids.txt").write_text(ids)
        assert says in self.refused(folder, file="image.npy", ids="ids.txt").what


def test_recbole_side_files(tmp_path: Path) -> None:
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\n1\ta\n2\tb\n")
    (tmp_path / "x.user").write_text("user_id:token\tage:float\tjob:token\n1\t20\tart\n2\t\t\n")
    (tmp_path / "x.item").write_text(
        "item_id:token\tmovie_title:token_seq\tclass:token_seq\tv:float_seq\na\tA b\tx y\t1 2\n"
    )
    log = RecBole(str(tmp_path)).read()
    assert log.kinds == {
        "user": {"age": "numeric", "job": "categorical"}, "item": {"class": "multi", "v": "vector"},
    }  # fmt: skip
    assert log.users is not None
    assert log.users.rows() == [("1", 20.0, "art"), ("2", None, None)]
    assert log.items is not None
    assert log.items.select("item", "title", "class", "v").rows() == [("a", "A b", ["x", "y"], [1.0, 2.0])]


@pytest.mark.skipif(not (SHARED / "tiktok-mm").is_dir(), reason="the shared data are not there")
def test_tiktok_vectors() -> None:
    folder = SHARED / "tiktok-mm"
    image = np.load(folder / "image_feat.npy")
    first = pl.read_csv(folder / "train.csv", n_rows=1, infer_schema=False).columns
    spec: Any = {"item": {"columns": {"image": {"kind": "vector", "file": "image_feat.npy"}}}}
    log = Table(str(folder / "train.csv"), user=first[0], item=first[1], features=spec).read()
    assert log.items is not None
    assert log.items.height == len(image)
    np.testing.assert_array_equal(log.items["image"].to_numpy(), image.astype(np.float32))
