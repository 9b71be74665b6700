"""Whatever the format, the separator, the parts and the compression: the same interactions come back, exactly."""

from __future__ import annotations

import csv
import gzip
import io
import json
import string
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recdistill.data.sources.base import RawLog
from recdistill.data.sources.given import Given
from recdistill.data.sources.table import Table
from recdistill.errors import InputError

Row = tuple[str, str, float, int]
NAMES = ("user", "item", "value", "time")

# Any text but control characters: a cell of blanks alone is a missing id, and all other blanks belong to the id.
# fmt: off
ODD = ("01", "1", "1.0", "NA", "null", "NaN", "None", "true", "-1", str(2**64), "é", "😀", "a,b", "a;b", "a|b",
       "a::b", ":", "say \"x\"", "'", '"', '""', "\\", " x ", "x ", "#", "=1+1", "[1]", "{}", "\u2028", "1e3", "0x1")
# fmt: on
LABEL = st.sampled_from(ODD) | st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=6)
IDS = LABEL.filter(lambda text: bool(text.strip()))
ROW = st.tuples(IDS, IDS, st.floats(allow_nan=False, allow_infinity=False), st.integers(10**9, 2 * 10**9))
QUOTED = IDS | st.sampled_from(["two\nlines", "\ta\tb", "a\r\nb", "\nx", '\n"\n'])
QUOTED_ROW = st.tuples(QUOTED, QUOTED, st.floats(allow_nan=False, allow_infinity=False), st.integers(10**9, 2 * 10**9))


def as_csv(rows: list[Row], **form: Any) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, **{"lineterminator": "\n", **form})
    writer.writerow(NAMES)
    writer.writerows([user, item, repr(value), time] for user, item, value, time in rows)
    return text.getvalue().encode()


def as_tsv(rows: list[Row]) -> bytes:
    lines = ["\t".join(NAMES), *("\t".join([user, item, repr(value), str(time)]) for user, item, value, time in rows)]
    return "\n".join(lines).encode()


def as_json_lines(rows: list[Row], **form: Any) -> bytes:
    return "".join(json.dumps(dict(zip(NAMES, row, strict=True)), **form) + "\n" for row in rows).encode()


def as_parquet(rows: list[Row]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(dict(zip(NAMES, zip(*rows, strict=True), strict=True))), out)
    return out.getvalue()


def zstd(content: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as stream:
        stream.write(content)
    return bytes(out.getvalue().to_pybytes())


COMPRESS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstd}
FORMS: dict[str, tuple[str, Callable[[list[Row]], bytes], dict[str, Any]]] = {
    "csv": (".csv", as_csv, {}),
    "csv, all quoted, CRLF": (".csv", lambda rows: as_csv(rows, quoting=csv.QUOTE_ALL, lineterminator="\r\n"), {}),
    "semicolons": (".txt", lambda rows: as_csv(rows, delimiter=";"), {"separator": "semicolon"}),
    "another character": (".csv", lambda rows: as_csv(rows, delimiter="¦"), {"separator": "¦"}),
    "single quotes": (".csv", lambda rows: as_csv(rows, quotechar="'"), {"quote": "'"}),
    "json lines": (".jsonl", as_json_lines, {}),
    "json lines, UTF-8": (".ndjson", lambda rows: as_json_lines(rows, ensure_ascii=False, separators=(",", ":")), {}),
    "parquet": (".parquet", as_parquet, {}),
    "tsv": (".tsv", as_tsv, {"separator": "tab", "quote": None}),
}


def read(folder: str | Path, name: str = "", **arguments: Any) -> RawLog:
    return Table(str(Path(folder) / name), **{"value": "value", "time": "time", **arguments}).read()


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_what_is_written_is_read(form: str, data: st.DataObject) -> None:
    ending, write, arguments = FORMS[form]
    row = ROW if form == "tsv" else QUOTED_ROW
    rows = data.draw(st.lists(row, min_size=1, max_size=12))
    packed = data.draw(st.sampled_from([""] if form == "parquet" else list(COMPRESS)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=2)))
    with tempfile.TemporaryDirectory() as folder:
        if not cuts:
            name = f"log{ending}{packed}"
            Path(folder, name).write_bytes(COMPRESS[packed](write(rows)))
            assert read(folder, name, **arguments).events.rows() == rows
            return
        ends = [0, *cuts, len(rows)]
        for number, (start, end) in enumerate(pairwise(ends)):
            if start < end or form != "parquet":
                Path(folder, f"part-{number}{ending}{packed}").write_bytes(COMPRESS[packed](write(rows[start:end])))
        Path(folder, "_SUCCESS").touch()
        log = read(folder, **arguments)
        assert log.events.rows() == rows
        assert read(folder, f"part-*{packed or ending}", **arguments).events.rows() == rows


LINE = st.text(string.printable.translate({ord(c): None for c in "\n\r\x0b\x0c\x1f"}) + "é😀", min_size=1, max_size=8)
CELL = LINE.filter(lambda text: bool(text.strip()) and "::" not in text and text[0] != ":" and text[-1] != ":")


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(CELL, CELL, st.integers(1, 5), st.integers(10**9, 2 * 10**9)), min_size=1, max_size=8),
    packed=st.sampled_from(list(COMPRESS)),
)
def test_movielens_dat_files(rows: list[tuple[str, str, int, int]], packed: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"ratings.dat{packed}")
        path.write_bytes(COMPRESS[packed]("".join("::".join(map(str, row)) + "\n" for row in rows).encode()))
        places: dict[str, Any] = {"user": 0, "item": 1, "value": 2, "time": 3, "separator": "::", "quote": None}
        assert Table(str(path), header=False, **places).read().events.rows() == rows


@settings(max_examples=30, deadline=None)
@given(labels=st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=6), ascii_only=st.booleans())
def test_integer_ids_in_json_are_exact(labels: list[int], ascii_only: bool) -> None:
    rows = [{"user": label, "note": "ü", "item": -label} for label in labels]
    with tempfile.TemporaryDirectory() as folder:
        text = "\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows)
        Path(folder, "log.jsonl").write_text(text, encoding="utf-8")
        events = Table(f"{folder}/log.jsonl").read().events
    assert events.rows() == [(str(label), str(-label)) for label in labels]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**64 - 1)), min_size=1, max_size=6))
def test_integer_ids_in_parquet_are_exact(labels: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        user, item = zip(*labels, strict=True)
        table = pa.table({"user": pa.array(user, pa.int64()), "item": pa.array(item, pa.uint64())})
        pq.write_table(table, f"{folder}/log.parquet")
        assert Table(f"{folder}/log.parquet").read().events.rows() == [(str(a), str(b)) for a, b in labels]


@pytest.mark.parametrize("encoding", ["latin-1", "windows-1252", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".jsonl"])
def test_other_encodings(tmp_path: Path, encoding: str, ending: str) -> None:
    rows: list[Row] = [("é", "ü", 1.0, 10**9), ("ß", 'a "b"', 2.5, 10**9 + 1)]
    plain = as_json_lines(rows, ensure_ascii=False) if ending == ".jsonl" else as_csv(rows)
    content = plain.decode().encode(encoding)
    (tmp_path / f"log{ending}").write_bytes(gzip.compress(content) if ending.endswith(".gz") else content)
    option = encoding.removesuffix("-le").removesuffix("-be")
    assert read(tmp_path, f"log{ending}", encoding=option).events.rows() == rows
    with pytest.raises(InputError, match="not UTF-8"):
        read(tmp_path, f"log{ending}")


def test_bytes_that_are_not_of_the_encoding(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(b"user,item\n\x81,1\n")
    with pytest.raises(InputError, match="is not windows-1252"):
        read(tmp_path, "log.csv", encoding="windows-1252")
    (tmp_path / "log.csv").write_bytes(b"\xff\xfeu\x00s\x00\x00")
    with pytest.raises(InputError, match="is not utf-16"):
        read(tmp_path, "log.csv", encoding="utf-16")
    (tmp_path / "log.csv").write_bytes(gzip.compress(b"user,item\n1,2\n")[:-4])
    with pytest.raises(InputError, match="truncated or damaged"):
        read(tmp_path, "log.csv", encoding="latin-1")


def test_a_text_larger_than_a_block(tmp_path: Path) -> None:
    rows = [(f"ü{n}", n % 5, 10**9 + n, f"i{n % 97}" + ":" * (n % 2)) for n in range(100_000)]
    text = "".join("::".join(map(str, row)) + "\n" for row in rows)
    for encoding in ("utf-8", "latin-1"):
        (tmp_path / "log.dat").write_bytes(text.encode(encoding))
        places: dict[str, Any] = {"user": 0, "value": 1, "time": 2, "item": 3, "separator": "double_colon"}
        got = Table(str(tmp_path / "log.dat"), header=False, quote=None, encoding=encoding, **places).read().events
        assert got.select("user", "value", "time", "item").rows() == rows


class TestParts:
    def write(self, folder: Path, **parts: str) -> Path:
        for name, text in parts.items():
            (folder / f"{name}.csv").write_text(text)
        return folder

    def test_order_is_that_of_the_names(self, tmp_path: Path) -> None:
        self.write(tmp_path, b="user,item\n2,2\n", a="user,item\n1,1\n", c="item,user,more\n3,x,0\n")
        (tmp_path / ".hidden.csv").write_text("no table")
        assert Table(str(tmp_path)).read().events.rows() == [("1", "1"), ("2", "2"), ("x", "3")]

    def test_places_name_the_part(self, tmp_path: Path) -> None:
        self.write(
            tmp_path, a="user,item,v\n1,1,1\n2,2,2\n", b="user,item,v\n3,3,3\n4,,4\n", c="user,item,v\n5,5,five\n"
        )
        with pytest.raises(InputError) as caught:
            Table(str(tmp_path)).read()
        assert caught.value.where == f"{tmp_path / 'b.csv'}:3:item"
        log = Table(str(tmp_path), on_bad_rows="drop", value="v").read()
        assert log.events["user"].to_list() == ["1", "2", "3"]
        assert log.dropped == {"missing item id": 1, "a value that is no finite number": 1}

    def test_units_of_times_may_not_differ(self, tmp_path: Path) -> None:
        self.write(tmp_path, a="user,item,t\n1,1,1000000000\n", b="user,item,t\n2,2,1000000000000\n")
        with pytest.raises(InputError, match="mixed units") as caught:
            Table(str(tmp_path), time="t").read()
        assert caught.value.where == f"{tmp_path / 'a.csv'}:2:t and {tmp_path / 'b.csv'}:2:t"

    def test_a_part_without_a_column_is_named(self, tmp_path: Path) -> None:
        self.write(tmp_path, a="user,item\n1,1\n", b="user,items\n2,2\n")
        with pytest.raises(InputError, match="no column 'item'") as caught:
            Table(str(tmp_path)).read()
        assert caught.value.where == f"{tmp_path / 'b.csv'}:1"
        assert caught.value.fix == "data.item=items"

    def test_types_of_parquet_parts(self, tmp_path: Path) -> None:
        frame = pl.DataFrame({"user": [1], "item": ["a"], "v": [1], "t": [10**18]})
        frame.write_parquet(tmp_path / "a.parquet")
        frame.with_columns(pl.col("user").cast(pl.String), pl.col("v").cast(pl.Float32)).write_parquet(
            tmp_path / "b.parquet"
        )
        assert Table(str(tmp_path), value="v", time="t").read().events.height == 2
        frame.with_columns(pl.col("t").cast(pl.Float64)).write_parquet(tmp_path / "c.parquet")
        with pytest.raises(InputError, match=r"column 't' is Float64 in 'c.parquet' and Int64 in 'a.parquet'"):
            Table(str(tmp_path), value="v", time="t").read()

    def test_kinds_may_not_be_mixed(self, tmp_path: Path) -> None:
        self.write(tmp_path, a="user,item\n1,1\n", b="user,item\n1,1\n")
        (tmp_path / "readme.txt").write_text("about")
        with pytest.raises(InputError, match="files of 2 kinds") as caught:
            Table(str(tmp_path)).read()
        assert f"{tmp_path}/*.csv" in str(caught.value.fix)
        assert Table(str(tmp_path / "*.csv")).read().events.height == 2
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match="holds no files"):
            Table(str(tmp_path / "empty")).read()

    def test_fingerprint_follows_every_part(self, tmp_path: Path) -> None:
        self.write(tmp_path, a="user,item\n1,1\n", b="user,item\n2,2\n")
        before = Table(str(tmp_path)).fingerprint()
        self.write(tmp_path, b="user,item\n2,3\n")
        assert Table(str(tmp_path)).fingerprint() != before

    def test_parts_of_a_given_split(self, tmp_path: Path) -> None:
        for name in ("train", "test"):
            (tmp_path / name).mkdir()
        self.write(tmp_path / "train", a="user,item\n1,1\n", b="user,item\n2,2\n")
        self.write(tmp_path / "test", a="user,item\n1,2\n")
        log = Given(str(tmp_path), train="train", valid=None, test="test").read()
        assert log.events.rows() == [("1", "1", 0), ("2", "2", 0), ("1", "2", 2)]


class TestHeaders:
    def test_columns_by_place_and_by_name(self, tmp_path: Path) -> None:
        (tmp_path / "log.csv").write_text("01,a,5\n02,b,4\n")
        by_place = Table(str(tmp_path / "log.csv"), user=0, item="1", value=2, header=False).read()
        by_name = Table(
            str(tmp_path / "log.csv"), user="u", item="i", value="v", header=False, columns=["u", "i", "v"]
        ).read()
        assert by_place.events.rows() == by_name.events.rows() == [("01", "a", 5.0), ("02", "b", 4.0)]

    def test_row_numbers_begin_at_the_first_line(self, tmp_path: Path) -> None:
        (tmp_path / "log.csv").write_text("1,a\n2,\n")
        with pytest.raises(InputError) as caught:
            Table(str(tmp_path / "log.csv"), user=0, item=1, header=False).read()
        assert caught.value.where == f"{tmp_path / 'log.csv'}:2:1"
        (tmp_path / "log.csv").write_text("1,a\n2\n")
        with pytest.raises(InputError, match="where the first row has 2") as caught:
            Table(str(tmp_path / "log.csv"), user=0, item=1, header=False).read()
        assert caught.value.where == f"{tmp_path / 'log.csv'}:2"

    def test_what_is_wrong_with_columns(self, tmp_path: Path) -> None:
        (tmp_path / "log.csv").write_text("1,a,x\n")
        with pytest.raises(InputError, match=r"names 2 columns, and .* has 3"):
            Table(str(tmp_path / "log.csv"), header=False, columns=["user", "item"]).read()
        with pytest.raises(InputError, match="said to have one"):
            Table(str(tmp_path / "log.csv"), columns=["user", "item", "v"]).read()
        with pytest.raises(InputError, match="'u' occurs twice"):
            Table(str(tmp_path / "log.csv"), header=False, columns=["u", "item", "u"]).read()
        with pytest.raises(InputError, match="no column 'user', 'item'") as caught:
            Table(str(tmp_path / "log.csv"), header=False).read()
        assert "['0', '1', '2']" in str(caught.value.why)
        assert str(caught.value.fix).startswith("data.user=0 data.item=1 (")
        with pytest.raises(InputError, match="has no column 'x'") as caught:
            Table(str(tmp_path / "log.csv"), header=False, user="x", item="u", columns=["u", "i", "v"]).read()
        assert caught.value.fix == "data.user=COLUMN"

    def test_a_file_without_a_header_says_what_to_type(self, tmp_path: Path) -> None:
        (tmp_path / "ratings.dat").write_text("1::1193::5::978300760\n1::661::3::978302109\n")
        with pytest.raises(InputError, match="no column") as caught:
            Table(str(tmp_path / "ratings.dat"), value="rating", time="ts").read()
        assert str(caught.value.fix).startswith("data.header=false data.user=0 data.item=1 data.value=2 data.time=3")
        places: dict[str, Any] = {"user": 0, "item": 1, "value": 2, "time": 3}
        log = Table(str(tmp_path / "ratings.dat"), header=False, **places).read()
        assert log.events.rows() == [("1", "1193", 5.0, 978300760), ("1", "661", 3.0, 978302109)]


class TestJsonLines:
    def read(self, folder: Path, text: str, **arguments: Any) -> pl.DataFrame:
        (folder / "log.jsonl").write_text(text, encoding="utf-8")
        return Table(str(folder / "log.jsonl"), **arguments).read().events

    def test_missing_keys_and_null(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="missing item id") as caught:
            self.read(tmp_path, '{"user": 1, "item": 2}\n{"user": 3}\n')
        assert caught.value.where == f"{tmp_path / 'log.jsonl'}:2:item"
        with pytest.raises(InputError, match="nothing there") as caught:
            self.read(tmp_path, '{"user": 1, "item": 2}\n{"item": 3, "user": null}\n')
        assert caught.value.where == f"{tmp_path / 'log.jsonl'}:2:user"

    def test_another_extension(self, tmp_path: Path) -> None:
        path = tmp_path / "log.json"
        path.write_text('{"user": 1, "item": 2}\n')
        assert Table(str(path), format="jsonl").read().events.rows() == [("1", "2")]
        with pytest.raises(InputError, match="looks like JSON") as caught:
            Table(str(path)).read()
        assert str(caught.value.fix).startswith("data=jsonl")

    def test_no_such_key(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no column 'user'") as caught:
            self.read(tmp_path, '{"user_id": 1, "item": 2}\n')
        assert caught.value.fix == "data.user=user_id"

    @pytest.mark.parametrize("line", ["{", "[1, 2]", '"x"', "{'user': 1}", '{"user": 1 "item": 2}', "user,item"])
    def test_a_bad_line_is_named(self, tmp_path: Path, line: str) -> None:
        with pytest.raises(InputError) as caught:
            self.read(tmp_path, f'{{"user": 1, "item": 2}}\n{line}\n')
        assert caught.value.where == f"{tmp_path / 'log.jsonl'}:2"

    def test_ids_that_are_no_labels(self, tmp_path: Path) -> None:
        for value in ("[1]", "true"):
            with pytest.raises(InputError, match="can't hold ids"):
                self.read(tmp_path, f'{{"user": {value}, "item": 2}}\n')

    def test_byte_order_mark_and_blank_lines(self, tmp_path: Path) -> None:
        events = self.read(tmp_path, '\ufeff{"user": 1, "item": 2}\r\n\r\n{"user": 3, "item": 4}')
        assert events.rows() == [("1", "2"), ("3", "4")]

    def test_names_that_look_like_patterns(self, tmp_path: Path) -> None:
        for ending, content in ((".jsonl", '{"user": 1, "item": 2}\n'), (".csv", "user,item\n1,2\n")):
            path = tmp_path / f"log[1]*?{ending}"
            path.write_text(content)
            assert Table(str(path)).read().events.rows() == [("1", "2")]
        path = tmp_path / "log[1]*?.parquet"
        pl.DataFrame({"user": ["1"], "item": ["2"]}).write_parquet(path)
        assert Table(str(path)).read().events.rows() == [("1", "2")]

    def test_dates_and_numbers_as_text(self, tmp_path: Path) -> None:
        line = '{{"user": 1, "item": 2, "v": {}, "t": {}}}\n'
        text = line.format("4.5", '"2024-01-01"') + line.format('"3"', '"1970-01-02"')
        assert self.read(tmp_path, text, value="v", time="t").rows() == [
            ("1", "2", 4.5, 1704067200),
            ("1", "2", 3.0, 86400),
        ]
