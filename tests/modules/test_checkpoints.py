"""Checkpoints are whole, plain and small."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from recdistill.errors import InputError, ResourceError
from recdistill.modules.checkpoints import LAST, AtomicCheckpointIO, KeepBest, load_plain
from recdistill.runs.atomic import sweep_temporaries


def save_for_ever(path: Path, ready: int) -> None:
    content = {"weights": torch.arange(10_000_000, dtype=torch.float32), "round": 0}
    io = AtomicCheckpointIO()
    while True:
        io.save_checkpoint(content, path)
        content["round"] += 1
        os.write(ready, b"x")


def test_kill_never_damages_a_checkpoint(tmp_path: Path) -> None:
    """R3: 20 of the 200 kills during saves of 40 MB; RECDISTILL_KILLS sets another number."""
    path = tmp_path / LAST
    interrupted = 0
    for turn in range(int(os.environ.get("RECDISTILL_KILLS", "20"))):
        read, write = os.pipe()
        child = os.fork()
        if not child:
            save_for_ever(path, write)
        os.read(read, 1)
        time.sleep(0.011 * (turn % 10))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)
        content = load_plain(path)
        assert content["weights"][-1] == 9_999_999
        interrupted += bool(list(tmp_path.glob(".*.tmp")))
        sweep_temporaries(tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == [LAST]
    assert interrupted  # some kills did hit a save


def test_it_loads_in_a_bare_process(student: Any, train: Any, tmp_path: Path) -> None:
    train(student(0.5), tmp_path, every_seconds=0.0)
    code = (
        "import sys, torch; c = torch.load(sys.argv[1], weights_only=True); "
        "assert not [m for m in sys.modules if m.startswith(('recdistill', 'pytorch_lightning'))]; "
        "print(sorted(c['state_dict']), c['recdistill']['position'])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / LAST)], check=True, capture_output=True, text=True
    )
    assert "model.user.weight" in shown.stdout
    assert "[3, 0]" in shown.stdout


class Canary:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("place", ["state_dict", "hyper_parameters", "callbacks", "optimizer_states"])
def test_what_must_be_unpickled_is_refused(place: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    torch.save({"state_dict": {}, place: {"x": Canary(canary)}}, tmp_path / LAST)
    with pytest.raises(InputError) as caught:
        load_plain(tmp_path / LAST)
    assert caught.value.exit_code == 2
    assert LAST in caught.value.what
    assert not canary.exists()


def test_damaged_and_foreign_files(student: Any, train: Any, tmp_path: Path) -> None:
    module = student()
    train(module, tmp_path, every_seconds=0.0)
    whole = (tmp_path / LAST).read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"a,b\n1,2\n", pickle.dumps(Canary(tmp_path / "canary"))):
        (tmp_path / LAST).write_bytes(content)
        with pytest.raises(InputError):
            train(student(), tmp_path)
    assert not (tmp_path / "canary").exists()
    torch.save({"state_dict": {}}, tmp_path / LAST)  # readable, and not of ours
    with pytest.raises(InputError, match="not a checkpoint of this training"):
        train(student(), tmp_path)
    (tmp_path / LAST).write_bytes(whole)
    with pytest.raises(InputError, match="not a checkpoint of this training"):
        train(student(0.5), tmp_path)  # its projection is not in there


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x.ckpt", "https://e.org/x.ckpt", "s3://b/x.ckpt"])
def test_no_remote_path(url: str) -> None:
    """S2. A URL is a path like any other here: it is not there."""
    with pytest.raises(InputError):
        AtomicCheckpointIO().load_checkpoint(url)


def test_a_full_disk(tmp_path: Path) -> None:
    io, path = AtomicCheckpointIO(), tmp_path / LAST
    io.save_checkpoint({"a": torch.ones(10)}, path)
    before = path.read_bytes()
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    try:
        with pytest.raises(ResourceError) as caught:
            io.save_checkpoint({"a": torch.ones(1_000_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    assert caught.value.exit_code == 4
    assert str(path) in str(caught.value)
    assert "MiB free" in str(caught.value)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [LAST]


def test_a_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io, path = AtomicCheckpointIO(), tmp_path / LAST
    io.save_checkpoint({"a": 1}, path)

    def refused(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("tempfile.mkstemp", refused)  # also for root, who may write everywhere
    with pytest.raises(ResourceError, match="Permission denied"):
        io.save_checkpoint({"a": 2}, path)
    assert load_plain(path) == {"a": 1}


@pytest.mark.parametrize(("found", "said"), [([1.3, 1.02], True), ([0.9, 1.3], False), ([1.3, 0.9], False)])
def test_probabilities_that_are_worse_than_the_mean_rate_are_told(
    found: list[float], said: bool, student: Any, caplog: pytest.LogCaptureFixture
) -> None:
    module, best = student(), KeepBest("logloss", patience=0)
    for epoch, entropy in enumerate(found):
        values = {"valid/logloss": torch.tensor(entropy / 2), "valid/ne": torch.tensor(entropy)}
        best.on_validation_end(SimpleNamespace(callback_metrics=values, current_epoch=epoch), module)  # type: ignore[arg-type]
    again = KeepBest("logloss", patience=0)
    again.load_state_dict(best.state_dict())
    again.on_train_end(SimpleNamespace(is_global_zero=True), module)  # type: ignore[arg-type]
    assert [f"normalised entropy {min(found):.3f}" in record.message for record in caplog.records] == [True] * said
    assert all("student.fit.batch_size" in record.message for record in caplog.records)
