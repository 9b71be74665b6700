"""Every task but ranking, which the other files are about, through the whole line from the command line."""

from __future__ import annotations

import itertools
import json
import math
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from stage_kit import history, models, weights
from task_kit import LINES, METRIC, UNIT, command, words_of, write_digits

from command_kit import forked_training
from recdistill.compression.base import tables
from recdistill.data.interactions import Dataset
from recdistill.distillers.stored import StoredTeacher
from recdistill.distillers.teacher import LiveTeacher
from recdistill.export.bundle import load_model
from recdistill.models.base import Model
from recdistill.modules import checkpoints
from recdistill.stages.line import Line
from recdistill.stages.remake import remade_config

TASKS = tuple(LINES)
PASSES = ("compression=[prune,quantize]",)
FINETUNE = "compression.prune.finetune={_target_: recdistill.models.fit.Fit, epochs: 1, batch_size: 64, lr: 0.01}"


def summary_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For each task, a finished run with compression in ``outputs/TASK``; shared, so only read."""
    home = tmp_path_factory.mktemp("lines")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        write_digits(home / "digits")
        for task in TASKS:
            assert command("run", words_of(task, *PASSES, f"run.name={task}")) == 0
    return home


@pytest.fixture
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


@pytest.mark.parametrize("task", TASKS)
def test_a_run_has_all_rows_and_files(task: str, there: Path) -> None:
    run = there / "outputs" / task
    summary = summary_of(run)
    assert (summary["task"], summary["metric"]) == (task, METRIC[task])
    rows = {row["name"]: row for row in summary["rows"]}
    assert list(rows) == [
        "teacher", "teacher int8", "teacher int4", "student alone", "student distilled", "prune", "prune + quantize",
    ]  # fmt: skip
    for file in ("table.md", "table.tex", "summary.csv", "report.html", "config.yaml"):
        assert (run / file).is_file()
    n = summary[f"n_{UNIT[task]}s"]
    for row in rows.values():
        values = pl.read_parquet(run / row["folder"] / f"per_{UNIT[task]}.parquet")
        assert values.height == n
        assert values[METRIC[task]].mean() == pytest.approx(row["metrics"][METRIC[task]], abs=1e-12)
        assert math.isfinite(row["ci"][METRIC[task]][0])
    assert rows["prune + quantize"]["bytes"] < rows["student distilled"]["bytes"]
    assert weights(run / rows["student alone"]["folder"]) != weights(run / rows["student distilled"]["folder"])


@pytest.mark.parametrize("task", TASKS)
def test_verify_agrees(task: str, there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(there / "outputs" / task, tmp_path / "run")
    assert command("verify", [str(tmp_path / "run")]) == 0
    assert "checks agree" in capsys.readouterr().out

    file = tmp_path / "run/models/student_alone" / f"per_{UNIT[task]}.parquet"
    frame = pl.read_parquet(file)
    first = frame[0, UNIT[task]]
    forged = frame.with_columns(
        pl.when(pl.col(UNIT[task]) == first).then(pl.col(METRIC[task]) + 0.001).otherwise(pl.col(METRIC[task]))
        .alias(METRIC[task])
    )  # fmt: skip
    forged.write_parquet(file)
    assert command("verify", [str(tmp_path / "run")]) == 2
    assert f"{METRIC[task]} of {UNIT[task]} {first}" in "".join(capsys.readouterr())


@pytest.mark.parametrize("task", TASKS)
def test_two_runs_are_compared(task: str, there: Path, tmp_path: Path) -> None:
    assert command("run", words_of(task, "distiller=none", "run.name=rival", f"run.root={tmp_path}")) == 0
    ours, theirs = str(there / "outputs" / task), str(tmp_path / "rival")
    output = f"compare.output={tmp_path / 'out'}"
    assert command("compare", [ours, theirs, "compare.models=[student alone,student distilled]", output]) == 0
    found = json.loads((tmp_path / "out/compare.json").read_text())
    alone, distilled = found["lines"]
    rows = {row["name"]: row for row in summary_of(Path(ours))["rows"]}
    assert alone["value"] == pytest.approx(rows["student alone"]["metrics"][METRIC[task]])
    assert distilled["value"] == pytest.approx(rows["student distilled"]["metrics"][METRIC[task]])
    assert distilled["p_users"] == pytest.approx(rows["student distilled"]["p_alone"])
    assert any("has the same weights" in note for note in found["notes"])
    assert any(f"other {UNIT[task]}s would" in note for note in found["notes"])


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("task", TASKS)
def test_a_grid_over_seeds_has_mean_and_sd(task: str, tmp_path: Path) -> None:
    words = words_of(task, "distiller=none", "seed=1,2", "run.name=grid", f"run.root={tmp_path}")
    assert command("run", ["-m", *words]) == 0
    grid = json.loads((tmp_path / "grid/grid.json").read_text())
    (line,) = (row for row in grid["rows"] if row["name"] == "student alone")
    each = [
        next(row for row in summary_of(tmp_path / "grid" / job)["rows"] if row["name"] == "student alone")
        for job in ("0", "1")
    ]
    found = [row["metrics"][METRIC[task]] for row in each]
    assert found[0] != found[1]
    assert line["metrics"][METRIC[task]]["mean"] == pytest.approx(statistics.mean(found))
    assert line["metrics"][METRIC[task]]["sd"] == pytest.approx(statistics.stdev(found))
    assert (tmp_path / "grid/table.md").is_file()


def stops_at(call: int) -> Callable[[], bool]:
    """As if a signal had come before the ``call``-th time that it is looked for."""
    calls = itertools.count(1)
    return lambda: next(calls) == call


@pytest.mark.parametrize("task", TASKS)
def test_stopped_and_gone_on_gives_the_same_weights(
    task: str, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First within the student alone, then within the distilled one."""
    whole = {weights(there / "outputs" / task / "models" / name) for name in ("student_alone", "student_distilled")}
    for stage in ("data", "teacher", "signals"):
        shutil.copytree(there / "outputs/cache" / stage, tmp_path / "cache" / stage)
    words = words_of(
        task, f"cache={tmp_path / 'cache'}", f"run.root={tmp_path}", "run.name=cut", "checkpoint.every_seconds=0"
    )
    for call in (4, 6):
        monkeypatch.setattr(checkpoints, "stop_requested", stops_at(call))
        assert command("distill", words) in (130, 143)
    monkeypatch.undo()
    monkeypatch.chdir(there)
    assert command("distill", words) == 0
    assert {weights(model) for model in models(tmp_path / "cache", "student")} == whole


@pytest.mark.parametrize(
    "task", ["ctr", *(pytest.param(task, marks=pytest.mark.slow) for task in TASKS if task != "ctr")]
)
def test_two_processes_are_one(task: str, there: Path, tmp_path: Path) -> None:
    """Weights, losses and the metrics of validation, whose rows are counted once, an odd number of them too."""
    words = ("trainer=ddp_cpu", "trainer.devices=2", f"cache={tmp_path}/cache", f"run.root={tmp_path}", "run.name=two")
    with forked_training():
        assert command("train", words_of(task, *words)) == 0
    (two,) = models(tmp_path / "cache", "teacher")
    one = there / "outputs" / task / "models/teacher"
    for ours, theirs in zip(history(one), history(two), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    for name, tensor in load_file(one / "model.safetensors").items():
        # A key's bias cancels in the softmax of attention: its gradient is rounding, which Adam makes steps of.
        tolerance = 1e-2 if name.endswith("qkv.bias") else 1e-4
        assert torch.allclose(tensor, load_file(two / "model.safetensors")[name], atol=tolerance), name
    found = json.loads((tmp_path / "two/metrics.json").read_text())["models"]["teacher"]["metrics"][METRIC[task]]
    by_epoch = [row[f"valid/{METRIC[task]}"] for row in history(two)]
    assert min(abs(found - value) for value in by_epoch) < 1e-5


@pytest.mark.parametrize("task", TASKS)
def test_compressed_models_are_fine_tuned(task: str, there: Path, tmp_path: Path) -> None:
    """Under the teacher; zeros stay zero."""
    words = ("run.name=tuned", f"run.root={tmp_path}", *PASSES, FINETUNE)
    assert command("compress", words_of(task, *words)) == 0
    found = json.loads((tmp_path / "tuned/metrics.json").read_text())["models"]
    tuned, plain = Path(found["prune"]["folder"]), there / "outputs" / task / "models/prune"
    assert weights(tuned) != weights(plain)
    assert history(tuned)[0]["train/soft_label"] > 0
    zeros = [{name: int((tensor == 0).sum()) for name, tensor in tables(load_of(folder, there, task)).items()}
             for folder in (tuned, plain)]  # fmt: skip
    assert zeros[0] == zeros[1]


def load_of(folder: Path, there: Path, task: str) -> Model:
    return load_model(folder, Line(remade_config(there / "outputs" / task), there).data.train)


@pytest.mark.parametrize("task", TASKS)
def test_stored_answers_are_the_live_ones(task: str, there: Path) -> None:
    """Query by query, for all rows of the training part or all windows of histories, in any order."""
    line = Line(remade_config(there / "outputs" / task), there)
    train = line.task.prepare(line.data.train, torch.device("cpu"))
    n = line.task.queries(train)
    assert n == (len(line.data.train) if task != "sequence" else len(train))
    assert line.signals is not None
    live = LiveTeacher(load_model(line.teacher, line.data.train), train, line.task.view)
    stored = StoredTeacher(line.signals)
    for query in torch.randperm(n).split(37):
        ours, theirs = stored.view(query).scores(), live.view(query).scores()
        assert ours.shape == theirs.shape
        assert torch.allclose(ours, theirs, atol=1e-5)
        if task == "sequence":
            assert torch.allclose(stored.view(query).user_vectors(), live.view(query).user_vectors(), atol=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_live_signals_teach_the_same(task: str, there: Path, tmp_path: Path) -> None:
    for stage in ("data", "teacher"):
        shutil.copytree(there / "outputs/cache" / stage, tmp_path / "cache" / stage)
    words = (f"cache={tmp_path / 'cache'}", f"run.root={tmp_path}", "run.name=live", "signals=live")
    assert command("distill", words_of(task, *words)) == 0
    assert not (tmp_path / "cache/signals").exists()
    live = models(tmp_path / "cache", "student")[-1]
    stored = load_file(there / "outputs" / task / "models/student_distilled/model.safetensors")
    for name, tensor in load_file(live / "model.safetensors").items():
        assert torch.allclose(tensor, stored[name], atol=1e-5), name


def test_recommending_by_histories_writes_the_users_own_ids(there: Path, tmp_path: Path) -> None:
    words = words_of("sequence", "recommend.k=3", "recommend.model=student", "run.name=r", f"run.root={tmp_path}")
    assert command("recommend", words) == 0
    lists = pl.read_csv(tmp_path / "r/recommendations.csv")
    data = Line(remade_config(there / "outputs/sequence"), there).data
    assert isinstance(data, Dataset)
    assert set(lists["item"]) <= set(data.items)
    had = {
        (data.users[u], data.items[i])
        for part in (data.train, data.valid)
        for u, i in zip(part.user, part.item, strict=True)
    }
    assert not had & set(lists.select("user", "item").rows())
    new = {user: 40 - sum(pair[0] == user for pair in had) for user in data.users}  # one user has all 40 items
    expected = [(user, rank) for user in data.users for rank in range(1, min(3, new[user]) + 1)]
    assert lists.select("user", "rank").rows() == expected


def test_ratings_are_weighted_by_the_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log says how much the weights differ: not at all where there are none."""
    monkeypatch.chdir(tmp_path)
    assert command("distill", words_of("rating", "weighting=gap", "run.name=gap")) == 0
    found = json.loads(Path("outputs/gap/metrics.json").read_text())["models"]["student distilled"]
    rows = history(Path(found["folder"]))
    assert rows[0]["train/weighting.sd"] > 0
