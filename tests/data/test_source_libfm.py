"""libFM files: fields by place, sets otherwise, labels, and what is said of bad rows."""

from __future__ import annotations

import gzip
import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.filters import Filters
from recdistill.data.prepare import prepare
from recdistill.data.sources.base import RawLog
from recdistill.data.sources.libfm import LibFM
from recdistill.data.splits import GivenSplit
from recdistill.errors import InputError

SAMPLE = "-1 0:1 10:1\n1 1:1 11:1\n"


def read(folder: Path, text: str, **arguments: object) -> RawLog:
    path = folder / "rows.libfm"
    path.write_bytes(text.encode())
    return LibFM(str(path), **arguments).read()  # type: ignore[arg-type]


def refused(folder: Path, text: str, **arguments: object) -> InputError:
    with pytest.raises(InputError) as caught:
        read(folder, text, **arguments)
    assert caught.value.fix
    return caught.value


def parts_of(folder: Path) -> LibFM:
    for name, text in (("train", SAMPLE * 3), ("valid", SAMPLE), ("test", "1 0:1 12:1\n")):
        (folder / f"{name}.libfm").write_text(text)
    return LibFM(str(folder))


def test_a_place_is_a_field(tmp_path: Path) -> None:
    log = read(tmp_path, SAMPLE, fields=["app", "hour"])
    assert log.events.to_dict(as_series=False) == {"value": [0, 1], "app": ["0", "1"], "hour": ["10", "11"]}
    assert log.kinds == {"context": {"app": "categorical", "hour": "categorical"}}
    assert log.facts["positive"] == "1 of 2 rows (50.0%)"
    assert log.facts["feature indices"] == "4 of 12 (0 to 11)"
    assert not log.has_pairs


@pytest.mark.parametrize("labels", [("-1", "1"), ("0", "1"), ("0", "+1"), ("-1.0", "1.0")])
def test_labels_become_0_and_1(tmp_path: Path, labels: tuple[str, str]) -> None:
    log = read(tmp_path, f"{labels[0]} 0:1\n{labels[1]} 1:1\n")
    assert log.events["value"].to_list() == [0.0, 1.0]


def test_rows_of_several_lengths_are_sets(tmp_path: Path) -> None:
    log = read(tmp_path, "1 7:1 3:1\n-1 007:1\n")
    assert log.events["features"].to_list() == [["7", "3"], ["007"]]
    assert log.kinds == {"context": {"features": "multi"}}


def test_an_index_at_two_places_makes_sets(tmp_path: Path) -> None:
    assert read(tmp_path, "1 7:1 3:1\n-1 3:1 7:1\n").kinds == {"context": {"features": "multi"}}


def test_one_index_with_values_is_a_number(tmp_path: Path) -> None:
    log = read(tmp_path, "1 4:1 9:0.5\n0 5:1 9:-2e1\n")
    assert log.kinds["context"] == {"field_0": "categorical", "field_1": "numeric"}
    assert log.events["field_1"].to_list() == [0.5, -20.0]


ENTRIES = st.lists(st.integers(0, 30).map(str), min_size=1, max_size=5, unique=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["-1", "1"]), ENTRIES), min_size=1, max_size=8))
def test_every_entry_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, list[str]]]) -> None:
    text = "".join(f"{label} {' '.join(f'{index}:1' for index in entries)}\n" for label, entries in rows)
    log = read(tmp_path_factory.mktemp("libfm"), text)
    if "features" in log.events.columns:
        found = log.events["features"].to_list()
    else:
        found = [list(row) for row in log.events.drop("value").iter_rows()]
    assert found == [entries for _, entries in rows]
    assert log.events["value"].to_list() == [float(label == "1") for label, _ in rows]


def test_blanks_crlf_and_gzip_change_nothing(tmp_path: Path) -> None:
    plain = read(tmp_path, SAMPLE)
    odd = read(tmp_path, "\n" + SAMPLE.replace(" ", "\t ").replace("\n", " \r\n") + "\n")
    assert odd.events.equals(plain.events)
    assert odd.dropped == {"blank line": 2}
    (tmp_path / "rows.libfm.gz").write_bytes(gzip.compress(SAMPLE.encode()))
    assert LibFM(str(tmp_path / "rows.libfm.gz")).read().events.equals(plain.events)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (SAMPLE + "2 0:1 10:1\n", ":3:label"),
        (SAMPLE + "x 0:1 10:1\n", ":3:label"),
        (SAMPLE + "1 a:1 10:1\n", ":3"),
        (SAMPLE + "\n1 0:1 10:x\n", ":4"),
        (SAMPLE + "1 0:1 10:nan\n", ":3"),
        (SAMPLE + "1 0 10:1\n", ":3"),
        (SAMPLE + "1\n", ":3"),
        ("-1 0:1\n0 1:1\n1 0:1\n", ":1:label"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, text: str, where: str) -> None:
    assert str(refused(tmp_path, text).where).endswith("rows.libfm" + where)


def test_what_has_no_place_is_refused(tmp_path: Path) -> None:
    assert "other than 1" in str(refused(tmp_path, "1 0:2 1:1\n0 1:1\n"))
    assert "several indices" in str(refused(tmp_path, "1 0:2\n0 1:1\n"))
    assert "data.fields" in str(refused(tmp_path, SAMPLE, fields=["one"]).where)
    assert "can't be called 'user'" in str(refused(tmp_path, SAMPLE, fields=["user", "app"]))
    assert "holds no rows" in str(refused(tmp_path, "\n\n"))


def test_parts_and_their_files(tmp_path: Path) -> None:
    log = parts_of(tmp_path).read()
    assert log.events["part"].to_list() == [0] * 6 + [1, 1, 2]
    assert log.warnings == []
    (tmp_path / "train.libfm").unlink()
    with pytest.raises(InputError, match="no file"):
        LibFM(str(tmp_path)).read()
    with pytest.raises(InputError, match=r"no file .*train\.libfm"):
        LibFM(str(tmp_path), valid="nothing.libfm", valid_as_train=True).read()
    stand_in = LibFM(str(tmp_path), valid_as_train=True).read()
    assert stand_in.events["part"].to_list() == [0, 0, 2]
    assert stand_in.warnings == ["train.libfm is not there: valid.libfm is trained on, and there is no validation part"]


def test_the_order_of_lines_has_no_say(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    prints = [prepare(parts_of(tmp_path / "a"), Filters(), GivenSplit()).fingerprint]
    source = parts_of(tmp_path / "b")
    for file in (tmp_path / "b").iterdir():
        lines = file.read_text().splitlines()
        random.Random(0).shuffle(lines)
        file.write_text("\n".join(lines) + "\n")
    prints.append(prepare(source, Filters(), GivenSplit()).fingerprint)
    assert prints[0] == prints[1]


def test_the_fingerprint_is_of_content_and_arguments(tmp_path: Path) -> None:
    source = parts_of(tmp_path)
    first = source.fingerprint()
    assert LibFM(str(tmp_path), fields=["a", "b"]).fingerprint() != first
    assert LibFM(str(tmp_path), valid=None).fingerprint() != first
    (tmp_path / "test.libfm").write_text("1 0:1 13:1\n")
    assert source.fingerprint() != first


def test_a_hundred_thousand_rows_take_seconds_at_most(tmp_path: Path) -> None:
    draw = random.Random(0)
    rows = [" ".join(f"{100 * at + draw.randrange(100)}:1" for at in range(10)) for _ in range(1000)]
    (tmp_path / "rows.libfm").write_text("".join(f"{at % 2} {row}\n" for at, row in enumerate(rows)) * 100)
    start = time.perf_counter()
    log = LibFM(str(tmp_path / "rows.libfm")).read()
    assert time.perf_counter() - start < 10  # a fraction of a second on an idle machine
    assert log.events.height == 100_000


def test_the_only_folder_below_with_the_files_is_read(tmp_path: Path) -> None:
    inner = tmp_path / "nfm"
    inner.mkdir()
    (tmp_path / "README.txt").write_text("about the data")
    for name in ("train", "valid", "test"):
        (inner / f"{name}.libfm").write_text("1 0:1 5:1\n-1 1:1 6:1\n")
    own, above = LibFM(str(inner)), LibFM(str(tmp_path))
    assert above.fingerprint() == own.fingerprint()
    assert above.read().events.equals(own.read().events)
