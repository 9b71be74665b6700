"""Table B, rows 1 to 29: what the command line says of input that is not right, and that it leaves no trace.

A refusal is exit code 2, one screen that says what, where, why and what to type, no cache entry, no finished-looking
file, and earlier results as they were.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from recdistill.cli import main
from recdistill.data.interactions import Interactions
from recdistill.data.store import load
from recdistill.tasks.batches import ranking_epoch

HEADER = "user,item,rating,ts\n"
ROWS = [f"u{n % 7},i{n * 5 % 11},{n % 5 + 1},{1_000_000_000 + 977 * n}" for n in range(60)]
GOOD = HEADER + "\n".join(ROWS) + "\n"
WORDS = ("data=csv", "data.value=rating", "data.time=ts")
TINY = (
    "teacher=mf", "teacher.net.dim=4", "teacher.fit.epochs=2", "teacher.fit.batch_size=64", "student=mf",
    "student.net.dim=2", "student.fit.epochs=2", "student.fit.batch_size=64", "compression=none", "logger=none",
    "trainer=cpu",
)  # fmt: skip


@dataclass
class Said:
    """What a command left on the screen and on the disk."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def report(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(Path("outputs/now/data.json").read_text(encoding="utf-8"))
        return content


Cli = Callable[..., Said]
Refuse = Callable[..., str]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """``recdistill VERB data=csv data.path=log.csv ...`` in this process and an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recdistill"])
    monkeypatch.setenv("COLUMNS", "100")

    def run(*words: str, content: str | bytes | None = None, verb: str = "data", name: str = "now") -> Said:
        if content is not None:
            Path("log.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        keys = {word.partition("=")[0] for word in words}
        usual = [word for word in (*WORDS, "data.path=log.csv") if word.partition("=")[0] not in keys]
        capsys.readouterr()
        start = time.monotonic()
        code = main([verb, *usual, *words, f"run.name={name}"])
        return Said(code, *capsys.readouterr(), time.monotonic() - start)

    return run


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder and cache of a command that was done before."""
    folder = tmp_path_factory.mktemp("earlier")
    (folder / "log.csv").write_text(GOOD)
    words = [f"data.path={folder}/log.csv", "run.name=earlier", f"run.root={folder}/outputs"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["recdistill"])
        assert main(["data", *WORDS, *words, f"cache={folder}/outputs/cache"]) == 0
    return folder / "outputs"


@pytest.fixture
def assert_refused(cli: Cli, earlier: Path) -> Refuse:
    """As ``cli``, for what has to be refused; gives the message. There is an earlier run, which has to stay."""
    shutil.copytree(earlier, "outputs")
    before = traces(Path("outputs"))
    assert any("stamp.json" in name for name in before)

    def run(*words: str, says: tuple[str, ...], content: str | bytes | None = None) -> str:
        said = cli(*words, content=content)
        assert said.code == 2, said.err
        check_message(said.err, says)
        assert traces(Path("outputs")) == before
        left = {path.name for path in Path("outputs/now").glob("*")}
        assert left <= {"config.yaml", "run.log", "status.json", "command.json"}
        assert said.seconds < 20
        return said.err

    return run


def traces(folder: Path) -> dict[str, str]:
    """Hashes of all that could pass for a result: everything but locks and the folder of the refused run."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock" and folder / "now" not in path.parents
    }


def check_message(text: str, says: tuple[str, ...]) -> None:
    """What, where and what to type, on one screen, without a traceback and without anything that moves the cursor."""
    assert "  where: " in text
    assert "  fix: " in text
    assert sum(1 + len(line) // 100 for line in text.splitlines()) <= 24
    assert "Traceback" not in text
    assert all(char.isprintable() or char == "\n" for char in text)
    for part in says:
        assert part in text


def test_b01_file_missing(assert_refused: Refuse) -> None:
    Path("ratings.csv").write_text(GOOD)
    assert_refused("data.path=rating.csv", says=("no file 'rating.csv'", "where: data.path", "data.path=ratings.csv"))
    assert_refused("data.path=nowhere/log.csv", says=("'nowhere/log.csv'", "the last folder of that path that exists"))


def test_b01_file_missing_in_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text(GOOD)
    words = [sys.executable, "-m", "recdistill", "data", "data=csv", "data.path=rating.csv"]
    found = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert found.returncode == 2
    check_message(found.stderr, ("data.path=ratings.csv",))
    assert not list(tmp_path.glob("outputs/cache/*/*/stamp.json"))


def test_b02_empty_file(assert_refused: Refuse) -> None:
    assert_refused(content="", says=("'log.csv' is empty", "0 bytes"))
    assert_refused(content="\n\n", says=("'log.csv' is empty", "log.csv:1"))


@pytest.mark.parametrize("content", [HEADER, HEADER.rstrip(), HEADER + "\n\n"])
def test_b03_header_only(assert_refused: Refuse, content: str) -> None:
    assert_refused(content=content, says=("'log.csv' has a header and no rows", "where: log.csv"))


def test_b04_one_column(assert_refused: Refuse) -> None:
    says = ("no column 'item'", "1 column found: ['user']", "needed: ['user', 'item', 'rating', 'ts']", "log.csv:1")
    assert_refused(content="user\n1\n2\n", says=says)


def test_b05_wrong_delimiter(assert_refused: Refuse) -> None:
    says = ("'log.csv' is not separated by comma", "semicolon", "fix: data.separator=semicolon", "log.csv:1")
    assert_refused("data.separator=comma", content=GOOD.replace(",", ";"), says=says)


@pytest.mark.parametrize("separator", [";", "::"])
def test_b05_delimiter_is_guessed(cli: Cli, separator: str) -> None:
    said = cli(content=GOOD.replace(",", separator))
    assert said.code == 0, said.err
    assert said.report["log"]["rows"] == 60


@pytest.mark.parametrize(("row", "cells"), [("u1,i1,3", 3), ("u1,i1,3,1000,extra", 5)])
def test_b06_ragged_row(assert_refused: Refuse, cli: Cli, row: str, cells: int) -> None:
    content = HEADER + "\n".join([*ROWS[:4], row, *ROWS[4:]]) + "\n"
    assert_refused(content=content, says=("log.csv:6", f"expected 4, got {cells}", "data.on_bad_rows=drop"))
    said = cli("data.on_bad_rows=drop", "run.root=other")
    assert said.code == 0
    assert "1 × ragged row" in said.out


def test_b07_missing_id(assert_refused: Refuse, cli: Cli) -> None:
    content = GOOD + "u9,,3,1000000000\n,i1,3,1000000000\n"
    says = ("missing user id in column 'user'", "log.csv:63:user", "data.on_bad_rows=drop")
    assert_refused(content=content, says=says)
    said = cli("data.on_bad_rows=drop", "run.root=other")
    assert said.code == 0
    assert "1 × missing user id, 1 × missing item id" in said.out


@pytest.mark.parametrize("value", ["NaN", ""])
def test_b08_value_that_is_no_number(assert_refused: Refuse, cli: Cli, value: str) -> None:
    content = GOOD + f"u1,i1,{value},1000000000\n"
    assert_refused(content=content, says=("no finite number", "log.csv:62:rating", "data.on_bad_rows=drop"))
    said = cli("data.on_bad_rows=drop", "run.root=other")
    assert said.code == 0
    assert "1 × a value that is no finite number" in said.out


def prepared(cache: str = "outputs/cache") -> Any:
    """The data set of this command."""
    return load(next(path.parent for path in Path(cache).glob("data/*/dataset.json")))


def catalogue(cache: str = "outputs/cache") -> tuple[set[str], set[str]]:
    """The users and items that the data set of this command has."""
    data = prepared(cache)
    return set(data.users), set(data.items)


LABELS = {
    "b09_negative_ids": ["-1", "-7", "0", "3"],
    "b10_string_ids": ["01", "1", "NA", "null", "nan", "😀", "ünï"],
    "b11_large_ids": [str(2**63), str(2**63 - 1), str(2**64), str(2**64 + 1), str(-(2**63))],
    "b12_float_ids": ["1.0", "1.5", "1", "1.50", "1e3"],
}
ALL = [label for labels in LABELS.values() for label in labels if label != "1"] + ["1"]
# Every user has one event in the test and one in validation, and all others in training.
LEAVE_ONE_OUT = ("data.value=null", "data.time=null", "data/split=leave_one_out")


@pytest.mark.parametrize(
    ("ids", "form"),
    [*(pytest.param(ids, "csv", id=name) for name, ids in LABELS.items()), (ALL, "jsonl"), (ALL, "parquet")],
)
def test_ids_are_labels(cli: Cli, ids: list[str], form: str) -> None:
    log = pl.DataFrame([(a, b) for a in ids for b in ids], schema=["user", "item"], orient="row")
    path = f"log.{form}"
    if form == "parquet":
        log.write_parquet(path)
    elif form == "jsonl":
        log.write_ndjson(path)
    else:
        log.write_csv(path)
    said = cli(f"data={form}", f"data.path={path}", *LEAVE_ONE_OUT)
    assert said.code == 0, said.err
    assert catalogue() == (set(ids), set(ids))


def test_b11_large_ids_that_are_numbers(cli: Cli) -> None:
    ids = [2**63 - 1, 2**63, 2**64 - 1]
    rows = [{"user": a, "item": b} for a in ids for b in ids]
    pl.DataFrame(rows, schema={"user": pl.UInt64, "item": pl.UInt64}).write_parquet("log.parquet")
    rows += [{"user": 2**64, "item": b} for b in ids]
    Path("log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli("data=parquet", "data.path=log.parquet", *LEAVE_ONE_OUT).code == 0
    assert catalogue() == ({str(label) for label in ids}, {str(label) for label in ids})
    assert cli("data=jsonl", "data.path=log.jsonl", *LEAVE_ONE_OUT, "cache=other").code == 0
    assert catalogue("other") == ({str(label) for label in [*ids, 2**64]}, {str(label) for label in ids})


def test_b12_float_ids(assert_refused: Refuse) -> None:
    frame = pl.DataFrame({"user": [1.0, 2.5], "item": [1, 2], "rating": [1, 2], "ts": [1, 2]})
    frame.write_parquet("log.parquet")
    says = ("ids in column 'user' are floats that are no exact integers: 2.5", "log.parquet:2:user")
    assert_refused("data=parquet", "data.path=log.parquet", says=says)


def test_b13_duplicate_rows(assert_refused: Refuse, cli: Cli) -> None:
    content = GOOD + ROWS[0] + "\n" + ROWS[0] + "\n"
    assert_refused(
        "data.filters.duplicates=error", content=content, says=("2 of 62 rows repeat an earlier one", "duplicates=drop")
    )
    said = cli("run.root=other", content=content)
    assert "62 → 60" in said.out
    once = cli("run.root=other", "cache=other", content=GOOD)
    assert "60 → 60" in once.out


@pytest.mark.parametrize(
    ("split", "repeats"),
    [("global_temporal", "first"), ("global_temporal", "all"), ("leave_one_out", "last"), ("random", "all")],
)
def test_b14_a_pair_at_two_times(cli: Cli, split: str, repeats: str) -> None:
    early = [f"u{n % 7},i{n % 11},1,{1_000_000_000 + n}" for n in range(77)]
    late = [f"u{n % 7},i{n % 11},1,{1_000_001_000 + n}" for n in range(40)]
    new = [f"u{n % 7},new{n % 5},1,{1_000_000_900 + 5 * n}" for n in range(30)]
    content = HEADER + "\n".join([*early, *late, *new])
    said = cli(f"data/split={split}", f"data.filters.repeats={repeats}", content=content)
    assert said.code == 0, said.err
    data = prepared()
    pairs = [
        set(zip(part.user.tolist(), part.item.tolist(), strict=True)) for part in (data.train, data.valid, data.test)
    ]
    assert pairs[0]
    assert pairs[2]
    assert not pairs[0] & pairs[2]
    assert not pairs[0] & pairs[1]
    assert not pairs[1] & pairs[2]


@pytest.mark.parametrize("split", ["global_temporal", "leave_one_out"])
def test_b15_unsorted_time(cli: Cli, split: str) -> None:
    hashes = []
    for name, rows in (("a", ROWS), ("b", ROWS[1::2] + ROWS[-2::-2])):
        said = cli(f"data/split={split}", f"cache={name}", content=HEADER + "\n".join(rows) + "\n")
        assert said.code == 0, said.err
        hashes.append((said.report["fingerprint"], said.report["manifest"]["parts"]))
    assert hashes[0] == hashes[1]


def test_b16_time_in_mixed_units(assert_refused: Refuse) -> None:
    content = GOOD + "u1,i1,3,1000000000123\n"
    says = ("times in column 'ts' are in mixed units", "log.csv:2:ts and log.csv:62:ts", "looks like s", "like ms")
    assert_refused(content=content, says=says)


@pytest.mark.parametrize("text", ["yesterday", "31/12/2024"])
def test_b16_time_as_text(assert_refused: Refuse, text: str) -> None:
    assert_refused(content=GOOD + f"u1,i1,3,{text}\n", says=("a time that is not", repr(text), "log.csv:62:ts"))


def test_b16_iso_dates_are_said_to_be_seconds(cli: Cli) -> None:
    rows = [f"u{n % 7},i{n * 5 % 11},1,2024-01-{n % 28 + 1:02d}" for n in range(60)]
    said = cli(content=HEADER + "\n".join(rows) + "\n")
    assert said.code == 0, said.err
    assert "dates turned into unix seconds" in said.out
    assert "2024-01-01 00:00:00 UTC to 2024-01-28" in said.out


@pytest.mark.parametrize("split", ["global_temporal", "user_temporal"])
def test_b17_all_times_equal(assert_refused: Refuse, split: str) -> None:
    rows = [",".join([*row.split(",")[:3], "1000000000"]) for row in ROWS]
    content = HEADER + "\n".join(rows) + "\n"
    says = ("a split by time needs times that differ", "are 1000000000", "data/split=random")
    assert_refused(f"data/split={split}", content=content, says=says)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: b"\xef\xbb\xbf" + text, id="b18_bom"),
        pytest.param(lambda text: text.replace(b"\n", b"\r\n"), id="b20_crlf"),
        pytest.param(lambda text: text.replace(b"\n", b"\r\n").rstrip(b"\r\n"), id="b20_crlf_no_final_newline"),
    ],
)
def test_line_ends_and_bom_change_nothing(cli: Cli, earlier: Path, change: Callable[[bytes], bytes]) -> None:
    changed = cli(content=change(GOOD.encode())).report
    plain = json.loads((earlier / "earlier" / "data.json").read_text(encoding="utf-8"))
    assert plain["fingerprint"] == changed["fingerprint"]
    assert plain["manifest"]["parts"] == changed["manifest"]["parts"]
    assert plain["log"] == changed["log"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "latin-1"])
def test_b19_other_encodings(assert_refused: Refuse, cli: Cli, encoding: str) -> None:
    content = GOOD.replace("u3", "ü3").encode(encoding)
    name, row = ("latin-1", "log.csv:5") if encoding == "latin-1" else ("UTF-16", "log.csv")
    says = (f"{name}", f"where: {row}", f"data.encoding={name.lower()}", "iconv")
    assert_refused(content=content, says=says)
    if encoding in ("utf-16", "latin-1"):  # what the message says to type
        assert cli(f"data.encoding={encoding}", "run.root=other", "cache=other").code == 0
        assert "ü3" in catalogue("other")[0]


def test_b21_truncated_gzip(assert_refused: Refuse) -> None:
    rows = "".join(f"u{n},i{n * 7919 % 10007},1,{1_000_000_000 + n}\n" for n in range(20_000))
    whole = gzip.compress((HEADER + rows).encode())
    for cut in (len(whole) - 4, len(whole) // 2, 12):
        Path("log.csv.gz").write_bytes(whole[:cut])
        assert_refused("data.path=log.csv.gz", says=("'log.csv.gz' can't be decompressed", "truncated or damaged"))


def test_b21_truncated_zstandard(assert_refused: Refuse) -> None:
    frame = pl.read_csv(GOOD.encode(), infer_schema=False)
    frame.lazy().sink_csv("whole.csv.zst", compression="zstd")
    whole = Path("whole.csv.zst").read_bytes()
    for cut in (len(whole) - 5, len(whole) // 2):
        Path("log.csv.zst").write_bytes(whole[:cut])
        assert_refused("data.path=log.csv.zst", says=("'log.csv.zst' can't be decompressed",))


def test_b22_parquet_with_a_wrong_schema(assert_refused: Refuse) -> None:
    pl.DataFrame({"customer": ["a"], "sku": ["b"], "rating": [1], "when": [1]}).write_parquet("log.parquet")
    says = (
        "no column 'user', 'item', 'ts'",
        "4 columns found: ['customer', 'sku', 'rating', 'when']",
        "data.user=customer",
    )
    assert_refused("data=parquet", "data.path=log.parquet", says=says)
    pl.DataFrame({"user": [["a"]], "item": ["b"], "rating": [1], "ts": [1]}).write_parquet("log.parquet")
    assert_refused("data=parquet", "data.path=log.parquet", says=("column 'user' can't hold ids: it is List(String)",))
    assert_refused("data=parquet", content=GOOD, says=("'log.csv' is no Parquet file, or is damaged", "data=csv"))
    Path("log.parquet").rename("renamed.csv")
    assert_refused("data.path=renamed.csv", says=("'renamed.csv' is a Parquet file, not text", "data=parquet"))


def archive(kind: str) -> Path:
    """An archive whose member would land outside of the folder."""
    path, member = Path(f"log.{kind}"), "../escaped.csv"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(member, GOOD)
    else:
        with tarfile.open(path, {"tar": "w", "tar.gz": "w:gz", "tgz": "w:gz", "tar.bz2": "w:bz2"}[kind]) as tar:
            about = tarfile.TarInfo(member)
            about.size = len(GOOD)
            tar.addfile(about, io.BytesIO(GOOD.encode()))
    return path


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2"])
def test_b23_unsafe_archive(assert_refused: Refuse, tmp_path: Path, kind: str) -> None:
    path = archive(kind)
    says = ("is an archive, and the file in it is needed", "where: data.path", "data.path=FILE")
    assert_refused(f"data.path={path}", says=says)
    renamed = path.rename("innocent.csv")
    if kind in ("zip", "tar.gz"):
        assert_refused(f"data.path={renamed}", says=says)
    assert not (tmp_path.parent / "escaped.csv").exists()
    assert not list(Path().rglob("escaped*"))


def test_b24_user_with_one_interaction(cli: Cli) -> None:
    once = [f"once{n},i{n},1,{1_000_000_000 + n}" for n in range(5)]
    said = cli("data/split=leave_one_out", content=HEADER + "\n".join([*ROWS, *once]) + "\n")
    assert said.code == 0, said.err
    data = prepared()
    names = set(data.users[data.test.user.numpy()]) | set(data.users[data.valid.user.numpy()])
    assert {f"once{n}" for n in range(5)} <= set(data.users)
    assert not any(name.startswith("once") for name in names)
    parts = said.report["parts"]
    assert parts["train"]["users"] - parts["test"]["users"] == 5
    assert said.report["n_train_only"] == 5
    assert "5 users: too few events for the split" in said.out


def test_b25_item_only_in_the_test(cli: Cli) -> None:
    late = [f"u{n},new{n % 2},1,{1_000_900_000 + n}" for n in range(6)]
    said = cli(content=HEADER + "\n".join([*ROWS, *late]) + "\n")
    assert said.code == 0, said.err
    assert said.report["n_cold_items"] == 2
    assert said.report["parts"]["test"]["cold_items"] == 2
    assert said.report["parts"]["test"]["cold_rows"] == 6
    assert "2 outside train: relevant, and recommended only by models" in said.out
    data = prepared()
    cold = set(data.items[data.train.n_items :])
    assert cold == {"new0", "new1"}


def test_b26_everything_filtered_away(assert_refused: Refuse) -> None:
    """Each filter with the rows before and after it, by hand: 24 of 60 ratings are 4 or 5, of pairs that differ."""
    high = [row.split(",")[:2] for row in ROWS if int(row.split(",")[2]) >= 4]
    assert len(high) == len({tuple(pair) for pair in high}) == 24
    says = ("min_value=4: 60 rows -> 24\n", "repeats=first: 24 rows -> 24\n", "k_core=50: 24 rows -> 0\n")
    assert_refused("data.filters.min_value=4", "data.filters.k_core=50", content=GOOD, says=says)
    assert_refused("data.filters.min_value=6", content=GOOD, says=("min_value=6: 60 rows -> 0\n",))


def one_for_all(fixed: str) -> str:
    """40 events of one user, or of one item."""
    pairs = [("u", f"i{n}") if fixed == "user" else (f"u{n}", "i") for n in range(40)]
    return training([f"{user},{item},1,{1_000_000_000 + n}" for n, (user, item) in enumerate(pairs)])


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} in a result")


def check_numbers(folder: Path) -> None:
    """Every result in the folder is strict JSON: without NaN and infinities."""
    files = list(folder.rglob("*.json"))
    assert files
    for file in files:
        json.loads(file.read_text(encoding="utf-8"), parse_constant=no_constant)


@pytest.mark.parametrize(
    ("fixed", "split", "test_rows"),
    [("user", "global_temporal", 4), ("user", "leave_one_out", 1), ("item", "global_temporal", 0)],
)
def test_b27_one_user_or_one_item_is_prepared(cli: Cli, fixed: str, split: str, test_rows: int) -> None:
    said = cli(f"data/split={split}", content=one_for_all(fixed))
    assert said.code == 0, said.err
    check_numbers(Path("outputs/now"))
    assert said.report["parts"]["test"]["rows"] == test_rows  # of new users nothing is known
    assert all(word not in said.out.lower() for word in ("nan", "inf "))


def test_b27_one_item_leaves_nothing_out_of_each_user(assert_refused: Refuse) -> None:
    says = ("the split leaves no test rows", "40 rows", "data/split=random")
    assert_refused("data/split=leave_one_out", content=one_for_all("item"), says=says)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["global_temporal", "leave_one_out"])
def test_b27_one_user_is_trained_on(cli: Cli, split: str) -> None:
    words = ("evaluation.ks=[1]", "evaluation.metric=ndcg@1", "alpha=0.5", f"data/split={split}")
    said = cli(*TINY, *words, content=one_for_all("user"), verb="run")
    assert said.code == 0, said.err
    check_numbers(Path("outputs"))
    rows = json.loads(Path("outputs/now/summary.json").read_text(encoding="utf-8"))["rows"]
    assert [row["metrics"]["recall@1"] for row in rows] == [0] * len(rows)  # what is left out is new: no hit
    assert "nan" not in said.out.lower()


@pytest.mark.slow
@pytest.mark.parametrize("split", ["global_temporal", "leave_one_out"])
def test_b27_one_item_can_not_be_evaluated(cli: Cli, split: str) -> None:
    words = ("evaluation.ks=[1]", "evaluation.metric=ndcg@1", "alpha=0.5", f"data/split={split}")
    said = cli(*TINY, *words, content=one_for_all("item"), verb="run")
    assert said.code == 2
    check_message(said.err, ("no test part" if split == "global_temporal" else "no test rows",))
    assert not list(Path("outputs/now").glob("summary.*"))


def training(rows: list[str]) -> str:
    return HEADER + "\n".join(rows) + "\n"


@pytest.mark.parametrize("everybody", [False, True])
def test_b28_the_sampler_ends_where_a_user_has_seen_all_items(everybody: bool) -> None:
    """An epoch's draw for 300 users and 1,000 items in a second at most; others get what they have not seen."""
    n_users, n_items = 300, 1000
    seen = torch.zeros(n_users, n_items, dtype=torch.bool)
    seen[torch.arange(n_users), torch.arange(n_users) * 7 % n_items] = True
    seen[: n_users if everybody else 1] = True
    seen[-1] = True
    seen[-1, 5] = everybody  # all but one: drawing again and again would take long
    train = Interactions(*seen.nonzero().unbind(1), n_users, n_items)
    assert len(train) > (299_000 if everybody else 2000)
    assert train.csr.indptr[-1] == len(train)
    start = time.monotonic()
    epoch = ranking_epoch(train, seed=0, epoch=0, batch_size=1024, negatives=4, queries=0)
    assert time.monotonic() - start <= 1
    assert epoch.negative.shape == (len(train), 4)
    assert ((epoch.negative >= 0) & (epoch.negative < n_items)).all()
    full = seen.all(1)
    fresh = ~seen[epoch.user.unsqueeze(1), epoch.negative]
    assert (fresh | full[epoch.user].unsqueeze(1)).all()
    assert everybody or (epoch.negative[epoch.user == n_users - 1] == 5).all()


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["bpr", "bpr_shared", "softmax"])
def test_b28_user_has_seen_all_items(cli: Cli, objective: str) -> None:
    rows = [f"all,i{n},1,{1_000_000_000 + n}" for n in range(30)] + [
        f"u{n % 9},i{n * 7 % 30},1,{1_000_000_100 + n}" for n in range(90)
    ]
    words = (f"objective@teacher.objective={objective}", "evaluation.ks=[5,10]")
    said = cli(*TINY, *words, content=training(rows), verb="train")
    assert said.code == 0, said.err
    data = prepared()
    assert int(data.train.csr.counts().max()) == data.train.n_items == 30
    assert said.seconds < 20  # of which the sampler takes at most one: see the test before


@pytest.mark.slow
def test_b29_one_item_with_nearly_all_rows(cli: Cli) -> None:
    rows = [f"u{n},hit,1,{1_000_000_000 + n}" for n in range(3000)]
    rows += [f"u{n},i{n % 15},1,{1_000_000_000 + 90 * n}" for n in range(30)]
    said = cli(*TINY, "evaluation.ks=[5,10]", content=training(rows), verb="train")
    assert said.code == 0, said.err
    assert said.seconds < 20
    data = prepared()
    assert int((data.items[data.train.item.numpy()] == "hit").sum()) > 0.9 * len(data.train)
    check_numbers(Path("outputs"))


def test_ids_and_names_are_printed_escaped(assert_refused: Refuse) -> None:
    evil = "\x1b[2J\x1b[31mu"
    assert_refused(content=GOOD + f"{evil},i1,{evil},1000000000\n", says=("\\x1b[2J", "log.csv:62:rating"))
    assert_refused(content=GOOD.replace("user", evil), says=("\\x1b[2J",))
    name = f"{evil}.csv"
    Path("logs").mkdir()
    Path("logs", name).write_text(GOOD)
    Path("logs", "b.txt").write_text(GOOD)
    assert_refused("data.path=logs", says=("\\x1b[2J",))


def test_messages_are_the_same_in_plain_ascii(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(GOOD + "ü,,1,1\n", encoding="utf-8")
    words = [sys.executable, "-m", "recdistill", "data", *WORDS, "data.path=log.csv"]
    environment = {**os.environ, "LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    found = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False, timeout=60, env=environment)
    assert found.returncode == 2
    assert b"log.csv:62:item" in found.stderr
