"""Table B, rows 1 to 22: what is read, and what is said of what can't be."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from recdistill.data.filters import Filters
from recdistill.data.prepare import prepare
from recdistill.data.sources.base import RawLog
from recdistill.data.sources.files import existing_file
from recdistill.data.sources.given import Given
from recdistill.data.sources.recbole import RecBole
from recdistill.data.sources.table import Table
from recdistill.data.splits import GivenSplit, GlobalTemporal
from recdistill.errors import InputError

LOG = "user,item,rating,ts\n01,NA,5,100\n1,😀,4,200\n18446744073709551616,-7,3,300\n"


def read(folder: Path, content: str | bytes, name: str = "log.csv", **arguments: object) -> RawLog:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Table(str(path), **arguments).read()  # type: ignore[arg-type]


def refused(folder: Path, content: str | bytes, name: str = "log.csv", **arguments: object) -> InputError:
    with pytest.raises(InputError) as caught:
        read(folder, content, name, **arguments)
    assert caught.value.where
    assert caught.value.fix
    return caught.value


def test_ids_are_labels(tmp_path: Path) -> None:
    log = read(tmp_path, LOG, value="rating", time="ts")
    assert log.events["user"].to_list() == ["01", "1", "18446744073709551616"]
    assert log.events["item"].to_list() == ["NA", "😀", "-7"]
    assert log.events["value"].to_list() == [5.0, 4.0, 3.0]
    assert log.events["time"].to_list() == [100, 200, 300]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " "])
def test_separator_is_guessed(tmp_path: Path, separator: str) -> None:
    log = read(tmp_path, LOG.replace(",", separator), "log.txt")
    assert log.events["user"].to_list()[0] == "01"


def test_quoted_cells(tmp_path: Path) -> None:
    log = read(tmp_path, 'user,item\n"a,b","say ""x"""\n"two\nlines",c\n')
    assert log.events.rows() == [("a,b", 'say "x"'), ("two\nlines", "c")]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.rstrip(b"\n"),
        lambda text: text + b"\n\n",
    ],
    ids=["bom", "crlf", "no final newline", "blank lines"],
)
def test_bom_line_ends_and_blank_lines_change_nothing(tmp_path: Path, change: object) -> None:
    rows = "".join(f"u{n % 3},i{n},{n}\n" for n in range(40))
    text = f"user,item,ts\n{rows}".encode()
    prints = []
    for name, content in (("a.csv", text), ("b.csv", change(text))):  # type: ignore[operator]
        (tmp_path / name).write_bytes(content)
        prints.append(prepare(Table(str(tmp_path / name), time="ts"), Filters(), GlobalTemporal()).fingerprint)
    assert prints[0] == prints[1]


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text(LOG)
    with pytest.raises(InputError, match="no file") as caught:
        Table(str(tmp_path / "rating.csv")).read()
    assert caught.value.where == "data.path"
    assert f"data.path={tmp_path / 'ratings.csv'}" in str(caught.value)
    with pytest.raises(InputError, match=r"folder of that path that exists"):
        Table(str(tmp_path / "nowhere" / "x.csv")).read()
    with pytest.raises(InputError, match=r"is a folder[\s\S]*ratings.csv"):
        existing_file(tmp_path)


@pytest.mark.parametrize("content", ["", "\n", "user,item\n", "user,item", "user,item\n\n"])
def test_nothing_to_read(tmp_path: Path, content: str) -> None:
    assert "log.csv" in str(refused(tmp_path, content))


def test_a_blank_first_line(tmp_path: Path) -> None:
    assert "begins with a blank line" in refused(tmp_path, "\nuser,item\n1,2\n").what


def test_one_column(tmp_path: Path) -> None:
    error = str(refused(tmp_path, "user\n1\n"))
    assert "no column 'item'" in error
    assert "1 column found: ['user']; needed: ['user', 'item']" in error


def test_misspelt_column_gets_the_nearest(tmp_path: Path) -> None:
    error = refused(tmp_path, "customer_id,sku\n1,2\n", user="customer", item="sku")
    assert error.fix == "data.user=customer_id"
    assert error.where == f"{tmp_path / 'log.csv'}:1"


@pytest.mark.parametrize(
    ("header", "wanted", "fix"),
    [
        ("customer_id,sku,when", {}, "data.user=customer_id data.item=sku"),
        (
            "uid,parent_asin,unixReviewTime",
            {"time": "ts"},
            "data.user=uid data.item=parent_asin data.time=unixReviewTime",
        ),
        ("user,time", {"time": "time"}, "data.item=COLUMN"),
        ("user,product", {"value": "product"}, "data.item=COLUMN"),
        ("user,colour", {}, "data.item=COLUMN"),
        ("customer,quantity", {"item": "customer"}, "data.user=COLUMN"),
    ],
)
def test_only_a_likely_column_is_offered(tmp_path: Path, header: str, wanted: dict[str, str], fix: str) -> None:
    error = refused(tmp_path, f"{header}\n{header}\n", **wanted)
    assert error.fix == fix
    assert str(header.split(",")) in str(error.why)


def test_a_folder_is_offered_where_one_may_be_meant(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").mkdir()
    for source in (Table(str(tmp_path / "rating.csv")), Given(str(tmp_path / "rating.csv"))):
        with pytest.raises(InputError) as caught:
            source.read()
        assert "ratings.csv" in str(caught.value.fix)
    with pytest.raises(InputError) as caught:
        existing_file(tmp_path / "rating.csv", "data.titles")
    assert caught.value.fix == "data.titles=FILE"
    with pytest.raises(InputError) as caught:
        Table("/nope").read()
    assert caught.value.fix == "data.path=FILE"


def test_odd_names_come_quoted(tmp_path: Path) -> None:
    assert refused(tmp_path, "user, item\n1,2\n").fix == "'data.item=\" item\"'"
    (tmp_path / "my log.csv").write_text(LOG)
    with pytest.raises(InputError) as caught:
        Table(str(tmp_path / "mylog.csv")).read()
    assert f"'data.path=\"{tmp_path}/my log.csv\"'" in str(caught.value.fix)


def test_no_header(tmp_path: Path) -> None:
    assert "no header line" in str(refused(tmp_path, "196,242,3\n186,302,3\n"))
    error = refused(tmp_path, "1::1193::5\n2::661::3\n", value="rating")
    assert "3 columns found: ['1', '1193', '5']" in str(error)
    assert str(error.fix).startswith("data.header=false data.user=0 data.item=1 data.value=2")


def test_wrong_separator_says_what_to_type(tmp_path: Path) -> None:
    error = refused(tmp_path, "user;item\n1;2\n", separator="comma")
    assert error.fix == "data.separator=semicolon"


@pytest.mark.parametrize("bad", ["3,4,5", "3"])
def test_ragged_row(tmp_path: Path, bad: str) -> None:
    content = f"user,item\n1,2\n{bad}\n5,6\n"
    error = refused(tmp_path, content)
    assert error.where == f"{tmp_path / 'log.csv'}:3"
    assert error.why == f"expected 2, got {bad.count(',') + 1}"
    assert "data.on_bad_rows=drop" in str(error.fix)
    log = read(tmp_path, content, on_bad_rows="drop")
    assert log.events.rows() == [("1", "2"), ("5", "6")]
    assert log.dropped == {"ragged row": 1}


def test_a_row_that_is_empty_where_we_look_is_no_blank_line(tmp_path: Path) -> None:
    content = "user,item,note,last\n1,2,x,\n\n,,hello,\n"
    assert refused(tmp_path, content).where == f"{tmp_path / 'log.csv'}:4:user"
    log = read(tmp_path, content, on_bad_rows="drop")
    assert log.events.rows() == [("1", "2")]
    assert log.dropped == {"blank line": 1, "missing user id": 1}


def test_ragged_and_blank_rows_do_not_move_the_numbers_of_others(tmp_path: Path) -> None:
    content = "user,item,t\n1,2,1000000000\n\n3\n4,5,6,7\n5,6,1000000000000\n"
    error = refused(tmp_path, content, time="t", on_bad_rows="drop")
    assert error.where == f"{tmp_path / 'log.csv'}:2:t and {tmp_path / 'log.csv'}:6:t"


def test_quoted_rows_are_dropped_by_line(tmp_path: Path) -> None:
    content = 'user,item,note\n"1,1",2,"a,b"\n"3,4"\n5,6,\n'
    assert refused(tmp_path, content).where == f"{tmp_path / 'log.csv'}:3"
    assert read(tmp_path, content, on_bad_rows="drop").events.rows() == [("1,1", "2"), ("5", "6")]
    spanning = 'user,item,note\n1,2,"a\nb"\n3\n'
    assert refused(tmp_path, spanning, on_bad_rows="drop").where == f"{tmp_path / 'log.csv'}:3"


def test_any_character_but_the_separator_is_text(tmp_path: Path) -> None:
    log = read(tmp_path, "user,item\nx\x1fy\x1ez,\x00\n")
    assert log.events.rows() == [("x\x1fy\x1ez", "\x00")]
    assert refused(tmp_path, "user,item\nx\x1fy,\n").where == f"{tmp_path / 'log.csv'}:2:item"


def test_columns_that_look_like_patterns(tmp_path: Path) -> None:
    log = read(tmp_path, "^u$,*,(i\n1,x,2\n", user="^u$", item="(i")
    assert log.events.rows() == [("1", "2")]


def test_ragged_row_after_quoted_line_ends(tmp_path: Path) -> None:
    error = refused(tmp_path, 'user,item,note\n1,2,"a,b"\n3\n')
    assert error.where == f"{tmp_path / 'log.csv'}:3"
    # An empty last cell is a cell.
    assert read(tmp_path, 'user,item,note\n1,2,"a,b"\n3,4,\n').events.height == 2


@pytest.mark.parametrize("row", ["7,", "7,  ", '7,""'])
def test_missing_id(tmp_path: Path, row: str) -> None:
    error = refused(tmp_path, f"user,item\n1,2\n{row}\n")
    assert error.where == f"{tmp_path / 'log.csv'}:3:item"
    assert "missing item id" in error.what


@pytest.mark.parametrize("value", ["nan", "inf", "good", ""])
def test_bad_value(tmp_path: Path, value: str) -> None:
    content = f"user,item,rating\n1,2,5\n3,4,{value}\n5,6,{value}\n"
    error = refused(tmp_path, content, value="rating")
    assert error.where == f"{tmp_path / 'log.csv'}:3:rating"
    assert "and 1 more rows" in error.what
    log = read(tmp_path, content, value="rating", on_bad_rows="drop")
    assert log.events.rows() == [("1", "2", 5.0)]
    assert log.dropped == {"a value that is no finite number": 2}


def test_nothing_usable(tmp_path: Path) -> None:
    error = refused(tmp_path, "user,item\n,2\n,3\n", on_bad_rows="drop")
    assert "missing user id: 2" in str(error)


def test_encodings_are_named(tmp_path: Path) -> None:
    error = refused(tmp_path, "user,item\n1,2\né,3\n".encode("latin-1"))
    assert "latin-1" in error.what
    assert error.where == f"{tmp_path / 'log.csv'}:3"
    for encoding in ("utf-16", "utf-16-le"):
        error = refused(tmp_path, LOG.encode(encoding))
        assert "UTF-16" in error.what
        assert "iconv" in str(error.fix)


def test_compressed(tmp_path: Path) -> None:
    whole = gzip.compress(LOG.encode())
    assert read(tmp_path, whole, "log.csv.gz").events.height == 3
    rows = "".join(f"{n},{n * 7919 % 10007}\n" for n in range(20_000))
    cut = gzip.compress(f"user,item\n{rows}".encode())[:-2000]
    assert "truncated" in refused(tmp_path, cut, "cut.csv.gz").what
    assert refused(tmp_path, whole[:12], "short.csv.gz")
    assert refused(tmp_path, b"not gzip", "no.csv.gz")


def test_zstandard(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": [str(n) for n in range(5000)], "item": [str(n * 7) for n in range(5000)]})
    whole, cut = tmp_path / "log.csv.zst", tmp_path / "cut.csv.zst"
    try:
        frame.lazy().sink_csv(whole, compression="zstd")
    except TypeError:
        pytest.skip("this polars can't write zst")
    assert Table(str(whole)).read().events.height == 5000
    cut.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(InputError, match="truncated"):
        Table(str(cut)).read()


def test_open_quote(tmp_path: Path) -> None:
    assert "data.quote=null" in str(refused(tmp_path, 'user,item\n1,"2\n3,4\n'))
    assert read(tmp_path, 'user,item\n1,"2\n3,4\n', quote=None).events["item"].to_list() == ['"2', "4"]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["2024-01-01", "1970-01-02"], [1704067200, 86400]),
        (["2024-01-01 00:00:10", "2024-01-01T00:00:20"], [1704067210, 1704067220]),
        (["2024-01-01T00:00:10Z", "2024-01-01T02:00:20+02:00"], [1704067210, 1704067220]),
        (["881250949.0", "881250950"], [881250949, 881250950]),
        (["1.5", "2"], [1_500_000, 2_000_000]),
        (["9007199254740993", "9007199254740995"], [9007199254740993, 9007199254740995]),
    ],
)
def test_times(tmp_path: Path, texts: list[str], expected: list[int]) -> None:
    rows = "".join(f"u,i{n},{text}\n" for n, text in enumerate(texts))
    assert read(tmp_path, "user,item,ts\n" + rows, time="ts").events["time"].to_list() == expected


@pytest.mark.parametrize("bad", ["yesterday", "", "nan", "02/01/2024"])
def test_bad_time(tmp_path: Path, bad: str) -> None:
    error = refused(tmp_path, f"user,item,ts\n1,2,100\n1,3,200\n1,4,{bad}\n", time="ts")
    assert error.where == f"{tmp_path / 'log.csv'}:4:ts"
    error = refused(tmp_path, f"user,item,ts\n1,2,2024-01-01\n1,3,2024-01-02\n1,4,{bad}\n", time="ts")
    assert error.where == f"{tmp_path / 'log.csv'}:4:ts"


def test_mixed_units(tmp_path: Path) -> None:
    error = refused(tmp_path, "user,item,ts\n1,2,1700000000\n1,3,1700000000123\n", time="ts")
    assert "mixed units" in error.what
    assert f"{tmp_path / 'log.csv'}:2:ts and {tmp_path / 'log.csv'}:3:ts" == error.where
    assert "looks like s" in str(error.why)


class TestParquet:
    def write(self, folder: Path, **columns: object) -> str:
        path = folder / "log.parquet"
        pl.DataFrame(columns).write_parquet(path)
        return str(path)

    def test_ids(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, user=[1, 2**62], item=[1.0, 3.0])
        assert Table(path).read().events.rows() == [("1", "1"), (str(2**62), "3")]
        path = self.write(tmp_path, user=["01", "1"], item=pl.Series(["a", "b"], dtype=pl.Categorical))
        assert Table(path).read().events.rows() == [("01", "a"), ("1", "b")]

    @pytest.mark.parametrize("ids", [[1.5, 2.0], [2.0**60, 1.0]])
    def test_float_ids_must_be_exact(self, tmp_path: Path, ids: list[float]) -> None:
        path = self.write(tmp_path, user=ids, item=[1, 2])
        with pytest.raises(InputError, match="exact") as caught:
            Table(path).read()
        assert caught.value.where == f"{path}:1:user"

    def test_missing_ids_and_columns(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, user=[1.0, float("nan")], item=[1, 2])
        with pytest.raises(InputError, match="missing user id") as caught:
            Table(path).read()
        assert caught.value.where == f"{path}:2:user"
        path = self.write(tmp_path, users=["a"], item=["b"])
        with pytest.raises(InputError, match=r"\['users', 'item'\]") as caught:
            Table(path).read()
        assert caught.value.fix == "data.user=users"
        path = self.write(tmp_path, user=[True], item=["b"])
        with pytest.raises(InputError, match="Boolean"):
            Table(path).read()

    def test_dates(self, tmp_path: Path) -> None:
        days = pl.Series(["2024-01-01", "2024-01-02"]).str.to_date()
        path = self.write(tmp_path, user=["a", "b"], item=["c", "d"], day=days)
        assert Table(path, time="day").read().events["time"].to_list() == [1704067200, 1704153600]

    def test_damaged(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, user=["a"], item=["b"])
        Path(path).write_bytes(Path(path).read_bytes()[:-8])
        with pytest.raises(InputError, match="no Parquet file"):
            Table(path).read()


def test_titles(tmp_path: Path) -> None:
    (tmp_path / "names.tsv").write_text("item\ttitle\nNA\tNorth Africa\n-7\tMinus, seven\n")
    log = read(tmp_path, LOG, titles=str(tmp_path / "names.tsv"))
    assert log.items is not None
    assert log.items.rows() == [("NA", "North Africa"), ("-7", "Minus, seven")]


def test_titles_from_parquet_and_without_their_column(tmp_path: Path) -> None:
    pl.DataFrame({"id": [7, 8], "name": ["Seven", "Eight"]}).write_parquet(tmp_path / "names.parquet")
    names = {"titles": str(tmp_path / "names.parquet"), "title": "name"}
    log = read(tmp_path, LOG, **names, title_item="id")
    assert log.items is not None
    assert log.items.rows() == [("7", "Seven"), ("8", "Eight")]
    assert refused(tmp_path, LOG, **names, title_item="ids").fix == "data.title_item=id"


def test_fingerprint_follows_content_and_columns(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.csv", tmp_path / "b.csv"
    path.write_text(LOG)
    copy.write_text(LOG)
    assert Table(str(path)).fingerprint() == Table(str(copy)).fingerprint()
    assert Table(str(path)).fingerprint() != Table(str(path), value="rating").fingerprint()
    copy.write_text(LOG + "9,9,9,9\n")
    assert Table(str(path)).fingerprint() != Table(str(copy)).fingerprint()


class TestRecBole:
    INTER = 'user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t01\t3\t100\n2\t"x\t4\t200\n'

    def test_reads_types_and_titles(self, tmp_path: Path) -> None:
        (tmp_path / "x.inter").write_text(self.INTER)
        (tmp_path / "x.item").write_text("item_id:token\tmovie_title:token_seq\n01\tToy Story\n")
        log = RecBole(str(tmp_path)).read()
        assert log.events.rows() == [("1", "01", 3.0, 100), ("2", '"x', 4.0, 200)]
        assert log.items is not None
        assert log.items.rows() == [("01", "Toy Story")]
        assert RecBole(str(tmp_path / "x.inter"), value=None).read().events.columns == [
            "user",
            "item",
            "time",
        ]

    def test_messages(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"0 \.inter files"):
            RecBole(str(tmp_path)).read()
        (tmp_path / "x.inter").write_text(self.INTER)
        with pytest.raises(InputError, match="no field 'userid'") as caught:
            RecBole(str(tmp_path), user="userid").read()
        assert "data.user=user_id" in str(caught.value.fix)


class TestGiven:
    def write(self, folder: Path, **parts: str) -> Given:
        for name, rows in parts.items():
            (folder / f"{name}.csv").write_text("user,item\n" + rows)
        return Given(str(folder))

    def test_parts(self, tmp_path: Path) -> None:
        log = self.write(tmp_path, train="1,a\n1,b\n", valid="1,c\n", test="1,d\n").read()
        assert log.events["part"].to_list() == [0, 0, 1, 2]

    def test_missing_part_names_its_key(self, tmp_path: Path) -> None:
        source = self.write(tmp_path, train="1,a\n", valid="1,c\n")
        with pytest.raises(InputError) as caught:
            source.read()
        assert caught.value.where == "data.test"
        assert Given(str(tmp_path), test=None).read().events.height == 2
        with pytest.raises(InputError, match="a folder is needed"):
            Given(str(tmp_path / "train.csv")).read()

    def test_times_of_the_parts_are_in_one_unit(self, tmp_path: Path) -> None:
        (tmp_path / "valid.csv").write_text("user,item,t\n1,b,7\n")
        for train, valid in (("1.5", "step"), ("1000000000", "s")):
            (tmp_path / "train.csv").write_text(f"user,item,t\n1,a,{train}\n")
            with pytest.raises(InputError, match="different units") as caught:
                Given(str(tmp_path), test=None, time="t").read()
            assert f"train: {valid}" in str(caught.value.why)

    def test_train_hash_does_not_depend_on_the_test(self, tmp_path: Path) -> None:
        source = self.write(tmp_path, train="1,a\n1,b\n2,a\n", valid="1,z\n", test="1,d\n")
        before = prepare(source, Filters(), GivenSplit()).manifest
        self.write(tmp_path, test="2,b\n2,0\n7,a\n1,c\n")
        after = prepare(source, Filters(), GivenSplit()).manifest
        for part in ("train", "valid"):
            assert before["parts"][part] == after["parts"][part]
        assert before["catalogue"] == after["catalogue"]
        assert before["parts"]["test"] != after["parts"]["test"]
