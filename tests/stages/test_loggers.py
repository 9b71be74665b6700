"""Loggers record, and never stop a run."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from stage_kit import finish, models, start, start_python, weights

Cli = Callable[..., int]
KEY = "0123456789abcdef0123456789abcdef01234567"


def test_csv_is_the_default(cli: Cli) -> None:
    assert cli("distill", "logger=csv", "run.name=x") == 0
    for title, epochs in (("teacher", 3), ("student_alone", 4), ("student", 4)):
        rows = list(csv.DictReader(Path(f"outputs/x/logs/{title}/version_0/metrics.csv").read_text().splitlines()))
        assert sorted({int(row["epoch"]) for row in rows}) == list(range(epochs))
        assert all(float(row["train/loss"]) > 0 for row in rows if row["train/loss"])
        assert any(row.get("valid/ndcg@10") for row in rows)


def test_several_loggers(cli: Cli) -> None:
    pytest.importorskip("tensorboard")
    assert cli("train", "logger=[csv,tensorboard]", "run.name=x") == 0
    assert list(Path("outputs/x/logs/teacher").rglob("events.out.tfevents.*"))
    assert Path("outputs/x/logs/teacher/version_0/metrics.csv").is_file()


def test_wandb_offline(tmp_path: Path) -> None:
    """One run per training, each closed before the next starts."""
    code, output = finish(start(tmp_path, "distill", "logger=wandb", "run.name=x", WANDB_MODE="offline"))
    assert code == 0, output
    runs = list((tmp_path / "outputs/x/logs/wandb").glob("offline-run-*"))
    assert len(runs) == 3
    for run in runs:
        assert list(run.glob("run-*.wandb"))
    assert "W&B can't be reached" not in output


def test_wandb_unreachable(tmp_path: Path) -> None:
    """R17, B46, S6: one warning, soon, and the key is in no file."""
    plain = start(tmp_path, "train", "cache=plain")
    assert finish(plain)[0] == 0
    started = time.monotonic()
    environment = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": KEY, "WANDB_MODE": ""}
    code, output = finish(start_python(tmp_path, "train", "logger=wandb", "run.name=x", "cache=c", **environment))
    assert code == 0, output
    assert output.count("can't be reached") == 1, output
    assert time.monotonic() - started < 40
    assert KEY not in output
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert KEY.encode() not in file.read_bytes(), file
    found = [weights(models(tmp_path / cache, "teacher")[0]) for cache in ("plain", "c")]
    assert found[0] == found[1]


def test_the_delay_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where something takes a connection and says nothing."""
    import socket

    from recdistill.modules import wandb as ours

    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        started = time.monotonic()
        assert not ours._reachable()
        assert time.monotonic() - started < 5
