"""What is made once, what is made again, and what nothing may depend on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch
from stage_kit import finish, history, models, start, weights

from recdistill.data.sources.synthetic import Synthetic

Cli = Callable[..., int]


def given(folder: Path, seed: int = 0) -> list[str]:
    """A split as three files, and the words that choose it."""
    folder.mkdir(exist_ok=True)
    events = Synthetic(n_users=70, n_items=50, niches=6, seed=seed).read().events.select("user", "item")
    part = torch.rand(events.height, generator=torch.Generator().manual_seed(seed))
    for name, low, high in (("train", 0, 0.7), ("valid", 0.7, 0.85), ("test", 0.85, 1)):
        events.filter(pl.Series(((part >= low) & (part < high)).numpy())).write_csv(folder / f"{name}.csv")
    return ["data=files", f"data.path={folder}"]


def trained(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was trained since the last call."""
    lines = capsys.readouterr().out.splitlines()
    return [line.removesuffix(": training") for line in lines if line.endswith(": training")]


def test_what_is_made_again(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("distill") == 0
    assert trained(capsys) == ["teacher", "student alone", "student"]
    assert cli("distill", "run.name=again") == 0
    assert trained(capsys) == []
    assert cli("distill", "distiller=topk_kl", "distiller.topk_kl.k=10") == 0
    assert trained(capsys) == ["student"]
    assert cli("distill", "student.net.dim=3", "alpha=0.9") == 0
    assert trained(capsys) == ["student alone", "student"]
    assert cli("train", "seed=2") == 0
    assert trained(capsys) == ["teacher"]
    assert cli("train", "data.source.seed=9") == 0
    assert trained(capsys) == ["teacher"]
    assert cli("distill", "signals=live") == 0
    assert trained(capsys) == ["student"]


def test_a_changed_file_is_other_data(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = given(tmp_path / "one")
    assert cli("train", *words) == 0
    assert trained(capsys) == ["teacher"]
    shutil.copytree(tmp_path / "one", tmp_path / "two")  # the same content elsewhere
    assert cli("train", "data=files", f"data.path={tmp_path / 'two'}") == 0
    assert trained(capsys) == []
    file = tmp_path / "one" / "train.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    assert cli("train", *words) == 0
    assert trained(capsys) == ["teacher"]


def test_other_folders_share_a_cache(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("train", f"cache={tmp_path / 'shared'}") == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert trained(capsys) == ["teacher"]
    assert cli("train", f"cache={tmp_path / 'shared'}") == 0
    assert trained(capsys) == []


@pytest.mark.parametrize("signals", ["stored", "live"])
def test_the_test_part_decides_nothing(signals: str, cli: Cli, tmp_path: Path) -> None:
    """E9, E10: with random rows in the test file all weights, lists and histories are the same."""
    words = [*given(tmp_path / "in"), f"signals={signals}", "student.fit.patience=1"]
    assert cli("distill", *words, "cache=a") == 0
    rows = ["user,item", *(f"u{(7 * i) % 70:05},i{(11 * i) % 90:05}" for i in range(200)), "stranger,unknown"]
    (tmp_path / "in" / "test.csv").write_text("\n".join(rows) + "\n")
    assert cli("distill", *words, "cache=b") == 0
    for stage in ("teacher", "student"):
        one, two = models(Path("a"), stage), models(Path("b"), stage)
        assert len(one) == len(two) > 0
        assert [weights(folder) for folder in one] == [weights(folder) for folder in two]
        assert [history(folder) for folder in one] == [history(folder) for folder in two]
    if signals == "stored":
        hashes = [json.loads((models(Path(c), "signals")[0] / "signals.json").read_text())["hash"] for c in "ab"]
        assert hashes[0] == hashes[1]


def test_only_evaluate_needs_the_test_part(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """E11: it is not there, as a file or as a part of the prepared data."""
    words = given(tmp_path / "in")
    (tmp_path / "in" / "test.csv").unlink()
    for verb in ("data", "train", "distill", "recommend"):
        assert cli(verb, *words, "data.test=null") == 0
    assert cli("compress", *words, "data.test=null", "compression=[quantize]") == 0
    assert "valid part" in capsys.readouterr().out
    for verb in ("evaluate", "run"):
        assert cli(verb, *words, "data.test=null") == 2
        assert "no test part" in capsys.readouterr().err

    words = given(tmp_path / "in", seed=1)
    assert cli("data", *words) == 0
    (models(Path("outputs/cache"), "data")[-1] / "test.safetensors").unlink()
    assert cli("distill", *words) == 0
    assert cli("evaluate", *words) == 2


def test_without_a_validation_part(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to choose an epoch by: the last one is kept."""
    words = [*given(tmp_path / "in"), "data.valid=null"]
    assert cli("evaluate", *words) == 0
    assert cli("train", *words) == 2
    assert "no valid part" in capsys.readouterr().err


def test_two_processes_and_one_stage(tmp_path: Path) -> None:
    """One makes it, the other waits."""
    processes = [start(tmp_path, "train", f"run.name={name}", "teacher.fit.epochs=60") for name in "ab"]
    results = [finish(process) for process in processes]
    assert [code for code, _ in results] == [0, 0], results
    outputs = "".join(output for _, output in results)
    assert outputs.count("teacher: training") == 1
    assert outputs.count("from cache") + outputs.count("waiting") >= 1
    assert len(models(tmp_path / "outputs/cache", "teacher")) == 1
