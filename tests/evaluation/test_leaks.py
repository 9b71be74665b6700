"""Rows E9 to E11 of the acceptance sheet: nothing of the test part reaches a model, and no model meets foreign data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ranking_kit import given_split
from stage_kit import models, weights

from recdistill.data.sources.synthetic import Synthetic
from recdistill.export.bundle import INFO, WEIGHTS
from recdistill.stages.tune import TRIALS

Cli = Callable[..., int]
MODELS = (WEIGHTS, INFO)
SIGNALS = ("signals.safetensors", "signals.json")


def hashes(cache: str) -> dict[str, list[str]]:
    """Of all teachers, signals and students of a cache, the oldest first."""
    found = {stage: [weights(folder) for folder in models(Path(cache), stage)] for stage in ("teacher", "student")}
    files = [folder / "signals.json" for folder in models(Path(cache), "signals")]
    return found | {"signals": [json.loads(file.read_text())["hash"] for file in files]}


def manifest(cache: str) -> dict[str, dict[str, str]]:
    (folder,) = models(Path(cache), "data")
    content: dict[str, dict[str, str]] = json.loads((folder / "dataset.json").read_text())["manifest"]
    return content


def same_but_for_the_test(one: str, two: str, signals: int) -> None:
    """Asserts equal teachers, signals and students (alone, distilled) of two caches, whose test parts differ."""
    parts = [manifest(cache)["parts"] for cache in (one, two)]
    assert [name for name in parts[0] if parts[0][name] != parts[1][name]] == ["test"]
    assert hashes(one) == hashes(two)
    assert {stage: len(found) for stage, found in hashes(one).items()} == {
        "teacher": 1, "student": 2, "signals": signals,
    }  # fmt: skip
    assert len(set(hashes(one)["student"])) == 2


@pytest.mark.parametrize("signals", ["stored", "live"])
def test_e09_e10_random_rows_in_a_test_file_change_nothing_else(signals: str, cli: Cli, tmp_path: Path) -> None:
    words = [*given_split(tmp_path / "in"), f"signals={signals}"]
    assert cli("distill", *words, "cache=a") == 0
    rows = ["user,item", *(f"u{(7 * i) % 70:05},i{(11 * i) % 90:05}" for i in range(200)), "stranger,unknown"]
    (tmp_path / "in" / "test.csv").write_text("\n".join(rows) + "\n")
    assert cli("distill", *words, "cache=b") == 0
    same_but_for_the_test("a", "b", int(signals == "stored"))


def random_test_rows(events: pl.DataFrame, cut: int, known_pairs: bool) -> pl.DataFrame:
    """The log with other users and items in its rows from ``cut`` on.

    Args:
        known_pairs: pairs of the training part among them, and one pair twice; else each pair is new and there once.
    """
    before, after, rng = (
        events.filter(pl.col("time") < cut),
        events.filter(pl.col("time") >= cut),
        np.random.default_rng(0),
    )
    taken = set(before.select("user", "item").iter_rows())
    new = [(f"u{u:05}", f"i{i:05}") for u in range(90) for i in range(80)]
    new = [pair for pair in new if pair not in taken]
    pairs = [new[at] for at in rng.choice(len(new), after.height, replace=False)]
    if known_pairs:
        pairs = [*sorted(taken)[: after.height // 2], *pairs[after.height // 2 :]]
        pairs[-1] = pairs[-2]
    users, items = zip(*pairs, strict=True)
    assert set(users) - set(before["user"]), "no user that is new"
    return pl.concat([before, after.with_columns(user=pl.Series(users), item=pl.Series(items))])


@pytest.mark.parametrize(("repeats", "known_pairs"), [("first", False), ("all", True)])
def test_e09_e10_random_rows_after_the_cut_change_nothing_before_it(
    repeats: str, known_pairs: bool, cli: Cli, tmp_path: Path
) -> None:
    """One log, cut in time; without a k-core, which counts the rows of all parts."""
    events = Synthetic(n_users=70, n_items=50, niches=6).read().events.select("user", "item", "time")
    log = tmp_path / "log.csv"
    words = [
        "data=csv", f"data.path={log}", "data.time=time", "data/split=global_temporal",
        f"data.filters.repeats={repeats}", "data.filters.k_core=0",
    ]  # fmt: skip
    events.write_csv(log)
    assert cli("distill", *words, "cache=a") == 0
    random_test_rows(events, int(manifest("a")["cut_times"]["test"]), known_pairs).write_csv(log)
    assert cli("distill", *words, "cache=b") == 0
    assert manifest("a")["cut_times"] == manifest("b")["cut_times"]
    same_but_for_the_test("a", "b", 1)


def two_data_sets(tmp_path: Path) -> tuple[list[str], list[str]]:
    """Words of two given splits of equal shapes: in the second, two training rows have swapped their items."""
    one, two = given_split(tmp_path / "one"), ["data=files", f"data.path={tmp_path / 'two'}"]
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    rows = pl.read_csv(tmp_path / "two" / "train.csv")
    pairs = set(rows.iter_rows())
    swaps = ((a, b) for a in range(20) for b in range(a) if rows["user"][a] != rows["user"][b])
    a, b = next(
        (a, b) for a, b in swaps if not {(rows["user"][a], rows["item"][b]), (rows["user"][b], rows["item"][a])} & pairs
    )
    items = rows["item"].to_list()
    items[a], items[b] = items[b], items[a]
    rows.with_columns(item=pl.Series(items)).write_csv(tmp_path / "two" / "train.csv")
    return one, two


def fingerprints(cache: str) -> list[str]:
    return [json.loads((f / "dataset.json").read_text())["fingerprint"] for f in models(Path(cache), "data")]


def put(source: Path, target: Path, names: tuple[str, ...]) -> None:
    """Overwrites files of one cache folder by those of another."""
    for name in names:
        shutil.copyfile(source / name, target / name)


@pytest.mark.parametrize("signals", ["stored", "live"])
def test_e10_a_teacher_of_another_data_set_is_refused(
    signals: str, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And B36: of equal shapes; both fingerprints are named, and nothing is learned from it."""
    one, two = two_data_sets(tmp_path)
    for words in (one, two):
        assert cli("train", *words, "cache=c") == 0
    mine, other = models(Path("c"), "teacher")
    schemas = [json.loads((folder / INFO).read_text())["schema"] for folder in (mine, other)]
    assert schemas[0] == schemas[1], "else the shapes would tell"
    put(mine, other, MODELS)
    capsys.readouterr()
    assert cli("distill", *two, "cache=c", f"signals={signals}") == 2
    said = capsys.readouterr().err
    assert "the model was made for another data set" in said
    assert all(fingerprint in said for fingerprint in fingerprints("c"))
    assert not models(Path("c"), "signals")
    assert len(models(Path("c"), "student")) <= 1  # the one alone, which has no teacher


def test_e10_signals_of_another_split_are_refused(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = two_data_sets(tmp_path)
    for words in (one, two):
        assert cli("distill", *words, "cache=c") == 0
    signals = models(Path("c"), "signals")
    carried = [json.loads((folder / "signals.json").read_text())["data"] for folder in signals]
    assert carried == fingerprints("c")
    put(*signals, SIGNALS)
    student = models(Path("c"), "student")[-1]
    shutil.rmtree(student)
    capsys.readouterr()
    assert cli("distill", *two, "cache=c") == 2
    said = capsys.readouterr().err
    assert "signals are stale: their data is another" in said
    assert all(fingerprint in said for fingerprint in carried)
    assert not student.exists()


def test_e11_all_but_evaluating_works_without_the_test_part(
    cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training, the search for a baseline's settings, distilling and compressing never open its file."""
    words = [*given_split(tmp_path / "in"), "compression=[quantize]", "baselines=[ease]"]
    assert cli("data", *words) == 0
    cache = Path("outputs/cache")
    (models(cache, "data")[0] / "test.safetensors").unlink()
    for verb in ("train", "distill", "compress", "recommend"):
        assert cli(verb, *words) == 0, verb
    assert len(models(cache, "student")) == 2
    assert models(cache, "compress")
    (searched,) = models(cache, "tune")
    found = json.loads((searched / TRIALS).read_text())
    assert found["part"] == "valid"
    assert len(found["tried"]) == len(found["values"]) == 5
    for verb in ("evaluate", "run"):
        capsys.readouterr()
        assert cli(verb, *words, "run.name=refused") == 2
        assert "test.safetensors" in capsys.readouterr().err
        assert not any(Path("outputs/refused", name).exists() for name in ("metrics.json", "summary.json"))


@pytest.mark.parametrize("verb", ["evaluate", "run"])
def test_e11_a_source_without_a_test_part_is_trained_on_and_not_evaluated(
    verb: str, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*given_split(tmp_path / "in"), "data.test=null"]
    (tmp_path / "in" / "test.csv").unlink()
    assert cli("distill", *words) == 0
    assert cli(verb, *words) == 2
    assert "no test part" in capsys.readouterr().err
