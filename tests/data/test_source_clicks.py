"""Click tables: columns and their kinds, parts, times, files without a header, and bad cells."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch

from recdistill.data import store
from recdistill.data.filters import Filters
from recdistill.data.interactions import TableDataset
from recdistill.data.prepare import prepare
from recdistill.data.sources.base import RawLog
from recdistill.data.sources.clicks import ClickTable
from recdistill.data.splits import GivenSplit, GlobalTemporal, RandomSplit
from recdistill.errors import InputError

LOG = "id,user,click,price,site,hour\n1,01,1,1.5,NA,14102100\n2,1,0,,a,14102123\n3,01,-1,-3,,14102205\n"
LOG = LOG.replace("-1,-3", "0,-3")


def source(folder: Path, text: str = LOG, name: str = "log.csv", **arguments: object) -> ClickTable:
    (folder / name).write_text(text)
    return ClickTable(str(folder / name), **{"label": "click", **arguments})  # type: ignore[arg-type]


def read(folder: Path, text: str = LOG, name: str = "log.csv", **arguments: object) -> RawLog:
    return source(folder, text, name, **arguments).read()


def refused(folder: Path, text: str = LOG, **arguments: object) -> InputError:
    with pytest.raises(InputError) as caught:
        read(folder, text, **arguments)
    assert caught.value.where
    assert caught.value.fix
    return caught.value


def folder_of(folder: Path, **texts: str) -> dict[str, str]:
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text)
    return {name: f"{name}.csv" for name in texts}


def test_columns_are_features_by_kind(tmp_path: Path) -> None:
    log = read(tmp_path, numeric=["price"], ignore=["id"])
    assert log.kinds["context"] == {
        "user_id": "categorical",
        "price": "numeric",
        "site": "categorical",
        "hour": "categorical",
    }
    assert log.events["value"].to_list() == [1.0, 0.0, 0.0]
    assert log.events["user_id"].to_list() == ["01", "1", "01"]
    assert log.events["site"].to_list() == ["NA", "a", None]
    assert log.events["price"].to_list() == [1.5, None, -3.0]
    assert log.facts == {"positive": "1 of 3 rows (33.3%)", "empty cells": 2, "columns left out": "id"}
    assert log.note == "column 'user' is the feature 'user_id'"
    assert not log.has_pairs


def test_rows_are_grouped_by_user_even_where_training_has_not_seen_them(tmp_path: Path) -> None:
    users = ["a", "b", "b", "", "c", "c", "a"]
    text = "who,click,part\n" + "".join(
        f"{who},{n % 2},{part}\n" for n, (who, part) in enumerate(zip(users, ["train"] * 3 + ["test"] * 4, strict=True))
    )
    table = prepare(source(tmp_path, text, group="who", part="part"), Filters(), GivenSplit())
    assert isinstance(table, TableDataset)
    assert table.train.group is not None
    assert table.test.group is not None
    codes = table.test.features.categorical["who"]
    assert sorted(codes.tolist()) == [0, 0, 0, 1]  # only "a" is known to training
    assert table.test.group.unique().numel() == 3
    assert set(table.test.group.tolist()) & set(table.train.group.tolist()) == {int(table.test.group[codes == 1])}
    store.save(table, tmp_path / "prepared")
    loaded = store.load(tmp_path / "prepared")
    assert isinstance(loaded, TableDataset)
    assert torch.equal(loaded.test.group, table.test.group)  # type: ignore[arg-type]
    other = prepare(source(tmp_path, text, part="part"), Filters(), GivenSplit())
    assert other.fingerprint != table.fingerprint


def test_a_group_is_a_categorical_feature(tmp_path: Path) -> None:
    assert "data.group=site" in str(refused(tmp_path, group="sites"))
    assert "no categorical feature" in str(refused(tmp_path, numeric=["price"], group="price"))


def test_categorical_may_be_chosen(tmp_path: Path) -> None:
    assert list(read(tmp_path, categorical=["site"]).kinds["context"]) == ["site"]


def test_a_name_of_the_log_is_changed_without_a_clash(tmp_path: Path) -> None:
    log = read(tmp_path, "user,user_id,part,click\na,b,c,1\nd,e,f,0\n")
    assert log.kinds["context"].keys() == {"user_id_", "user_id", "part_"}
    assert log.events["user_id_"].to_list() == ["a", "d"]


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.csv.gz", "log.csv.zst", "log.parquet"])
def test_formats_say_the_same(tmp_path: Path, name: str) -> None:
    expected = read(tmp_path, numeric=["price"]).events
    frame = pl.read_csv(tmp_path / "log.csv", infer_schema=False).with_columns(
        pl.col("price").cast(pl.Float64), pl.col("click").cast(pl.Int64)
    )
    path = tmp_path / name
    if name.endswith("parquet"):
        frame.write_parquet(path)
    elif name.endswith("csv"):
        frame.write_csv(path)
    elif name.endswith("tsv"):
        frame.write_csv(path, separator="\t")
    else:
        frame.write_csv(path, compression="gzip" if name.endswith("gz") else "zstd")
    found = ClickTable(str(path), label="click", numeric=["price"]).read()
    assert found.events.equals(expected)


def test_files_without_a_header(tmp_path: Path) -> None:
    bare = "".join(LOG.splitlines(keepends=True)[1:])
    names = LOG.splitlines()[0].split(",")
    assert read(tmp_path, bare, "bare.csv", columns=names, separator="comma").events.equals(read(tmp_path).events)
    files = folder_of(tmp_path, train=LOG, valid=bare, test=bare)
    log = ClickTable(str(tmp_path), label="click", header="first", **files).read()  # type: ignore[arg-type]
    assert log.events["part"].to_list() == [0] * 3 + [1] * 3 + [2] * 3
    assert log.events["site"].to_list() == ["NA", "a", None] * 3
    every = ClickTable(str(tmp_path), label="click", **files)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no header line") as caught:
        every.read()
    assert "data.header=first" in str(caught.value)


def test_a_column_of_parts(tmp_path: Path) -> None:
    text = "click,site,fold\n1,a,train\n0,b,valid\n1,c,test\n"
    log = read(tmp_path, text, part="fold")
    assert log.events["part"].to_list() == [0, 1, 2]
    assert list(log.kinds["context"]) == ["site"]
    assert str(refused(tmp_path, text.replace("valid", "dev"), part="fold").where).endswith("log.csv:3:fold")


def test_a_format_of_times_gives_hour_and_weekday(tmp_path: Path) -> None:
    log = read(tmp_path, time="hour", time_format="%y%m%d%H", ignore=["id"])
    assert log.events["time"].to_list() == [1413849600, 1413932400, 1413954300 - 300]
    assert log.events["hour_of_day"].to_list() == ["00", "23", "05"]
    assert log.events["weekday"].to_list() == ["2", "2", "3"]  # 2014-10-21 was a Tuesday
    sunday = read(tmp_path, LOG.replace("14102100", "14102600"), time="hour", time_format="%y%m%d%H")
    assert sunday.events["weekday"].to_list() == ["7", "2", "3"]
    assert "hour" not in log.kinds["context"]
    assert log.time_unit == "s"
    found = refused(tmp_path, LOG.replace("14102123", "14102125"), time="hour", time_format="%y%m%d%H")
    assert str(found.where).endswith("log.csv:3:hour")


def test_dates_of_another_form(tmp_path: Path) -> None:
    text = "click,site,when\n1,a,31.12.2024\n0,b,01.01.2025\n"
    assert refused(tmp_path, text, time="when").fix == "data.time_format=%d.%m.%Y"
    log = read(tmp_path, text, time="when", time_format="%d.%m.%Y")
    assert log.events["time"].to_list() == [1735603200, 1735689600]


def test_a_column_that_numbers_the_rows_is_warned_of(tmp_path: Path) -> None:
    """By the words that leave it out; numbers may well differ, and so may the categories of a few rows."""
    rows = [f"{n % 2},r{n:02d},{n / 7:.4f},{n % 5},{n}" for n in range(60)]
    text = "\n".join(["click,id,price,site,extra", *rows, ""])
    (warning,) = read(tmp_path, text, numeric=["price"], ignore=["extra"]).warnings
    assert "another category in each row" in warning
    assert "'data.ignore=[extra,id]' leaves it out" in warning
    assert not read(tmp_path, text, numeric=["price"], ignore=["extra", "id"]).warnings
    (warning,) = read(tmp_path, text, categorical=["id", "site"]).warnings
    assert "learnt: id; data.categorical without id leaves it out" in warning
    assert not read(tmp_path, "\n".join(text.splitlines()[:50]) + "\n", numeric=["price"], ignore=["extra"]).warnings
    twice = text.replace("r07,", "r08,")
    assert not read(tmp_path, twice, numeric=["price"], ignore=["extra"]).warnings


def test_equal_times_and_values_are_warned_of(tmp_path: Path) -> None:
    log = read(tmp_path, LOG.replace("14102123", "14102100").replace("14102205", "14102100"), time="hour")
    assert log.warnings == ["all 3 times are equal: no split by time is possible"]
    assert read(tmp_path, "click,a,b\n1,x,y\n0,x,z\n").warnings == ["one value in all rows: a"]


@pytest.mark.parametrize(
    ("change", "arguments", "where"),
    [
        (("2,1,0,", "2,1,2,"), {}, "log.csv:3:click"),
        (("2,1,0,", "2,1,,"), {}, "log.csv:3:click"),
        (("1,1.5", "1,1.5x"), {"numeric": ["price"]}, "log.csv:2:price"),
        (("1,1.5", "1,inf"), {"numeric": ["price"]}, "log.csv:2:price"),
        (("", ""), {"label": "clicked"}, "data.label"),
        (("", ""), {"numeric": ["prise"]}, "data.numeric"),
        (("", ""), {"ignore": ["ID2"]}, "data.ignore"),
        (("", ""), {"numeric": ["price"], "ignore": ["price"]}, "data.numeric and data.ignore"),
        (("", ""), {"categorical": []}, "data.categorical"),
        (("", ""), {"time": "site"}, "log.csv"),
        (("2,1,0,", "2,1,"), {}, "log.csv:3"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, change: tuple[str, str], arguments: dict[str, object], where: str
) -> None:
    assert where in str(refused(tmp_path, LOG.replace(*change) if change[0] else LOG, **arguments).where)


def test_the_likely_column_is_offered(tmp_path: Path) -> None:
    assert refused(tmp_path, label="label").fix == "data.label=click"
    assert "price" in str(refused(tmp_path, numeric=["prices"]).fix)


def test_times_of_several_units_are_refused(tmp_path: Path) -> None:
    found = refused(tmp_path, "click,ts,a\n1,1500000000,x\n0,1500000000000,y\n", time="ts")
    assert "ms among times in s" in found.what
    assert str(found.where).endswith("log.csv:3:ts")


def test_parts_with_times_of_another_unit_are_refused(tmp_path: Path) -> None:
    rows = "click,site,ts\n1,a,{0}\n0,b,{0}\n"
    files = folder_of(tmp_path, train=rows.format(1500000000), test=rows.format(1500000000000))
    with pytest.raises(InputError, match="different units"):
        ClickTable(str(tmp_path), label="click", time="ts", **files).read()  # type: ignore[arg-type]


def test_a_folder_needs_names(tmp_path: Path) -> None:
    source(tmp_path)
    with pytest.raises(InputError, match="training file is not named") as caught:
        ClickTable(str(tmp_path), label="click").read()
    assert "log.csv" in str(caught.value)
    with pytest.raises(InputError, match="given twice"):
        ClickTable(str(tmp_path), train="log.csv", label="click", part="site").read()
    with pytest.raises(InputError, match="no file"):
        ClickTable(str(tmp_path), train="log.csv", test="tset.csv", label="click").read()


def test_labels_of_three_kinds_are_refused(tmp_path: Path) -> None:
    assert "must mean something else" in str(refused(tmp_path, "click,a\n1,x\n0,y\n-1,z\n"))


def test_prepared_by_time_and_at_random(tmp_path: Path) -> None:
    rows = "".join(f"{n % 2},{'ab'[n % 3 == 0]},{n},{n / 4}\n" for n in range(20))
    table = source(tmp_path, "click,site,ts,price\n" + rows, numeric=["price"], time="ts")
    by_time = prepare(table, Filters(), GlobalTemporal(0.2, 0.2))
    assert [counts["rows"] for counts in by_time.report["parts"].values()] == [12, 4, 4]
    assert by_time.report["numeric"]["price"] == pytest.approx([sum(range(12)) / 48, 0.8630132], abs=1e-6)
    at_random = prepare(table, Filters(), RandomSplit(0.2, 0.2))
    assert at_random.fingerprint != by_time.fingerprint
    with pytest.raises(InputError, match="brings no split"):
        prepare(table, Filters(), GivenSplit())


def test_the_fingerprint_is_of_content_and_arguments(tmp_path: Path) -> None:
    first = source(tmp_path).fingerprint()
    assert source(tmp_path, numeric=["price"]).fingerprint() != first
    assert source(tmp_path, LOG.replace("1.5", "1.6")).fingerprint() != first
    assert source(tmp_path, name="other.csv").fingerprint() == first


def test_names_of_columns_can_not_steer_the_terminal(tmp_path: Path) -> None:
    found = refused(tmp_path, "click,a\x1b[31m\n1,x\n", numeric=["a\x1b[31m"])
    assert "\x1b" not in str(found)


def test_nested_parquet_columns_are_refused(tmp_path: Path) -> None:
    pl.DataFrame({"click": [True, False], "tags": [["a"], ["b"]], "site": [1, 2]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="column 'tags' is List"):
        ClickTable(str(tmp_path / "a.parquet"), label="click").read()
    log = ClickTable(str(tmp_path / "a.parquet"), label="click", ignore=["tags"]).read()
    assert log.events.to_dict(as_series=False) == {"value": [1.0, 0.0], "site": ["1", "2"]}
