"""Every verb from the command line."""

from __future__ import annotations

import csv
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from stage_kit import tree

Cli = Callable[..., int]


def test_the_whole_line(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("compression=[low_rank,quantize]", "compression.low_rank.rank=3", "baselines=[popularity]")
    assert cli("run", *words, "run.name=one") == 0
    summary = json.loads(Path("outputs/one/summary.json").read_text())
    assert [row["name"] for row in summary["rows"]] == [
        "teacher", "teacher int8", "teacher int4", "student alone", "student distilled",
        "low_rank", "low_rank + quantize", "popularity",
    ]  # fmt: skip
    assert Path("outputs/one/report.html").is_file()
    for row in summary["rows"]:
        assert (Path("outputs/one") / row["folder"] / "model.safetensors").is_file()
    capsys.readouterr()

    page = Path("outputs/one/report.html")
    page.unlink()
    assert cli("report", "outputs/one") == 0
    assert page.is_file()
    assert "of the teacher's NDCG@10" in capsys.readouterr().out
    assert cli("report", "report.run=outputs/none") == 2
    assert cli("report", "one") == 2
    assert "fix: recdistill report outputs/one" in capsys.readouterr().err

    assert cli("evaluate", *words, "run.name=two") == 0
    metrics = json.loads(Path("outputs/two/metrics.json").read_text())
    assert metrics["part"] == "test"
    for row in summary["rows"]:
        assert metrics["models"][row["name"]]["metrics"] == row["metrics"]


def test_data(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("data", "run.name=d") == 0
    assert "80" in capsys.readouterr().out
    assert json.loads(Path("outputs/d/data.json").read_text())["users"] == 80


def test_compress_needs_a_pass(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("compress") == 2
    assert "compression=[" in capsys.readouterr().err
    assert not list(Path("outputs/cache").glob("student/*"))  # said before anything is trained


@pytest.mark.parametrize("model", ["last", "teacher", "student", "alone"])
def test_recommend_writes_the_users_own_ids(model: str, cli: Cli) -> None:
    assert cli("recommend", f"recommend.model={model}", "recommend.k=4", "run.name=r") == 0
    rows = list(csv.DictReader(Path("outputs/r/recommendations.csv").read_text().splitlines()))
    assert len(rows) == 80 * 4
    assert {row["user"] for row in rows} == {f"u{i:05}" for i in range(80)}
    assert all(row["item"].startswith("i0") and row["title"] for row in rows)
    assert [row["rank"] for row in rows[:4]] == ["1", "2", "3", "4"]


def test_recommend_for_some_users(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    Path("who.txt").write_text("u00007\nu00003\n")
    assert cli("recommend", "recommend.model=alone", "recommend.users=who.txt", "recommend.output=out/top.parquet") == 0
    import polars as pl

    frame = pl.read_parquet("out/top.parquet")
    assert frame["user"].unique(maintain_order=True).to_list() == ["u00007", "u00003"]
    assert cli("recommend", "recommend.model=alone", "recommend.users=[u00001]") == 0
    assert cli("recommend", "recommend.model=alone", "recommend.users=[nobody]") == 2
    assert "'nobody'" in capsys.readouterr().err
    assert cli("recommend", "recommend.model=alone", "recommend.users=nofile.txt") == 2
    assert cli("recommend", "recommend.model=alone", "recommend.output=top.xls") == 2
    assert cli("recommend", "recommend.model=best") == 2


def test_check_tells_all_and_leaves_nothing(
    cli: Cli, tmp_path: Path, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """First the config, all of it at once; then one step through every stage."""
    assert cli("check", "alpha=2", "temperature=0", "student.net.dim=0", "seed=x") == 2
    said = capsys.readouterr().err
    for key in ("alpha", "temperature", "student.net.dim", "seed"):
        assert key in said
    started = time.monotonic()
    assert cli("check", "compression=[quantize]", "run.name=x") == 0
    assert time.monotonic() - started < 30
    said = capsys.readouterr().out
    for name in ("teacher", "teacher int8", "student alone", "student distilled", "quantize"):
        assert f"\n{name:24}" in f"\n{said}"
    assert said.count("is right") == 1
    assert "is right" in said.splitlines()[-1]
    assert cli("check", "evaluation.ks=[100]", "evaluation.metric=ndcg@100") == 2
    assert "is right" not in capsys.readouterr().out
    assert tree(tmp_path) == []
    assert Path(tempfile.gettempdir()) == temporary
    assert not list(temporary.glob("recdistill-*"))


def test_check_makes_one_step(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    """Epochs that would take hours are not trained."""
    assert cli("check", "student.fit.epochs=1000000", "teacher.fit.epochs=1000000") == 0
    assert "one step of every stage worked" in capsys.readouterr().out


def test_bad_values_are_named(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    """B34, B35, B45 and the like: exit 2, the key, the fix."""
    for words, text in (
        (["evaluation.ks=[100]", "evaluation.metric=ndcg@100"], "evaluation.ks"),
        (["student.fit.batch_size=0"], "batch_size"),
        (["trainer=ddp_cpu", "trainer.devices=99"], "trainer.devices=2"),
        (["trainer=ddp_cpu", "teacher.fit.queries=1"], "queries"),
        (["trainer=gpu"], "trainer=cpu"),
        (["+alone.net.dimension=3"], "dimension"),
    ):
        assert cli("train" if "alone" not in words[0] else "distill", *words) == 2, words
        assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trainer.devices=0"], "0 is no number of devices"),
        (["trainer.devices=two"], "'two' is no number of devices"),
        (["compression=[low_rank]", "compression.low_rank.rank=64"], "rank 64 does not shorten"),
        (["compression=[prune,low_rank]"], "low_rank must come before"),
        (["distiller=[hint]", "teacher=ease"], "the teacher EASE has no user and item vectors"),
    ],
)
def test_what_would_fail_late_fails_first(
    words: list[str], said: str, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("run", *words, "cache=fresh") == 2
    assert said in capsys.readouterr().err
    assert not Path("fresh").exists()


def test_the_command_is_the_one_that_was_typed(cli: Cli) -> None:
    assert cli("run", "alpha=0.3", "run.name=typed") == 0
    command = json.loads(Path("outputs/typed/summary.json").read_text())["command"]
    assert command.startswith("recdistill run ")
    assert command.endswith("alpha=0.3 run.name=typed")


def test_a_second_run_into_a_folder_is_the_same_or_refused(cli: Cli) -> None:
    assert cli("run", "compression=[quantize]", "run.name=again") == 0
    run = Path("outputs/again")
    before = (run / "summary.json").read_bytes()
    assert cli("run", "alpha=0", "run.name=again") == 2
    assert (run / "summary.json").read_bytes() == before
    (run / "models/left_over").mkdir()
    assert cli("run", "compression=[quantize]", "run.name=again") == 0
    rows = json.loads((run / "summary.json").read_text())["rows"]
    assert {path.name for path in (run / "models").iterdir()} == {Path(row["folder"]).name for row in rows}
    assert cli("run", "alpha=0", "run.name=other") == 0
    assert any("alpha=0" in note for note in json.loads(Path("outputs/other/summary.json").read_text())["notes"])


def test_a_cache_that_cannot_be_made_is_no_bug_of_ours(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert cli("data", "cache=file/below") == 4
    assert "cannot write" in capsys.readouterr().err
