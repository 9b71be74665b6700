"""Several processes give what one gives, in one run folder, and end together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from stage_kit import finish, history, models, start, start_python

from recdistill.modules.checkpoints import LAST, load_plain

TWO = ("trainer=ddp_cpu", "trainer.devices=2")
PLUGIN = """
import os, time
from recdistill.models.mf import MF
from recdistill.tasks.objectives import BPR

class Odd(BPR):
    name = "odd"
    calls = 0
    def __call__(self, *args):
        Odd.calls += 1
        what, rank = os.environ["ODD"], os.environ.get("RANK")
        if Odd.calls == 20 and rank == "1":
            if what == "raise":
                raise ValueError("rank 1 has a bug")
            if what == "exit":
                os._exit(7)
            if what == "kill":
                os.kill(os.getpid(), 9)
        if what == "slow":
            time.sleep(0.02)
        factor = float("nan") if what == "nan" and Odd.calls == 20 and rank == "1" else 1.0
        return super().__call__(*args) * factor
"""


def test_two_processes_are_one_run(tmp_path: Path, temporary: Path) -> None:
    """R11, E17: the same models, metrics and tables; one folder, one log; nothing is left behind."""
    words = ("distiller=[soft_label,hint]", "student.fit.clip=0.5", "logger=csv", "run.name=x")
    one = start(tmp_path, "evaluate", *words, "cache=one", "run.root=r1")
    two = start_python(tmp_path, "evaluate", *words, *TWO, "cache=two", "run.root=r2")
    (code_1, out_1), (code_2, out_2) = finish(one, 200), finish(two, 200)
    assert (code_1, code_2) == (0, 0), out_2
    assert [line for line in out_1.splitlines() if "cache/" not in line and "│" not in line] == [
        line.replace("two/", "one/") for line in out_2.splitlines() if "cache/" not in line and "│" not in line
    ]
    files = [sorted(str(p.relative_to(tmp_path / r)) for p in (tmp_path / r).rglob("*")) for r in ("r1", "r2")]
    assert files[0] == files[1]
    metrics = [json.loads((tmp_path / r / "x/metrics.json").read_text())["models"] for r in ("r1", "r2")]
    for name in metrics[0]:
        assert metrics[0][name]["n_users"] == metrics[1][name]["n_users"]
        assert metrics[0][name]["metrics"] == pytest.approx(metrics[1][name]["metrics"], abs=1e-5), name
    for stage in ("teacher", "student"):
        for a, b in zip(models(tmp_path / "one", stage), models(tmp_path / "two", stage), strict=True):
            for name, tensor in load_file(a / "model.safetensors").items():
                other = load_file(b / "model.safetensors")[name]
                assert float((tensor - other).abs().max()) < 1e-4, (stage, name)
            for row, same in zip(history(a), history(b), strict=True):
                assert row == pytest.approx(same, abs=1e-5)
    left = {path.name for path in temporary.iterdir()}
    assert not [name for name in left if name.startswith(("torchelastic", "recdistill-"))]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    (tmp_path / "plug").mkdir()
    (tmp_path / "plug" / "odd_plugin.py").write_text(PLUGIN)
    (tmp_path / "conf/teacher").mkdir(parents=True)
    (tmp_path / "conf/teacher/odd.yaml").write_text(
        "net: {_target_: recdistill.models.mf.MF, dim: 4}\n"
        "objective: {_target_: odd_plugin.Odd, negatives: 2}\n"
        "fit: {_target_: recdistill.models.fit.Fit, epochs: 6, batch_size: 64, lr: 0.02, queries: 16}\n"
    )
    return tmp_path


def train_odd(folder: Path, what: str, begin: Callable[..., Any] = start) -> Any:
    own = ("--plugin", "plug", "--config-dir", "conf", "teacher=odd", "checkpoint.every_seconds=0")
    return begin(folder, "train", *own, *TWO, "run.name=x", ODD=what)


def no_process_of(group: int) -> bool:
    """Whether all of a group ended, within moments; those that nobody waits for stay as zombies."""
    for _ in range(50):
        found = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
        states = [line.split()[1] for line in found.splitlines() if line.split()[0] == str(group)]
        if all(state.startswith("Z") for state in states):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    ("what", "code", "text"),
    [
        pytest.param("raise", 1, "ValueError: rank 1 has a bug", marks=pytest.mark.slow),
        ("exit", 1, "training process 1 ended with exit code 7"),
        pytest.param("kill", 4, "training process 1 was killed", marks=pytest.mark.slow),
        ("nan", 3, "odd is not finite at epoch 1"),
    ],
)
def test_one_fails_all_end(what: str, code: int, text: str, odd: Path) -> None:
    """R7: soon, with the exit code of the error, without a wall of tracebacks."""
    started = time.monotonic()
    process = train_odd(odd, what, start_python if what == "kill" else start)
    found, output = finish(process, 90)
    assert found == code, output
    assert text in output
    assert "Traceback" not in output
    assert time.monotonic() - started < 60
    assert no_process_of(process.pid)
    if what == "raise":
        assert "rank 1 has a bug" in (odd / "outputs/x/error.log").read_text()
        assert "odd_plugin.py" in (odd / "outputs/x/error.log").read_text()


@pytest.mark.parametrize(
    ("number", "code", "to_all"),
    [
        (signal.SIGTERM, 143, True),
        pytest.param(signal.SIGINT, 130, False, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, False, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, True, marks=pytest.mark.slow),
    ],
)
def test_stopped(number: int, code: int, to_all: bool, odd: Path) -> None:
    """A signal for the first process, or, as from a terminal, for all: a checkpoint, and it goes on."""
    process = train_odd(odd, "slow", start_python if number == signal.SIGTERM and to_all else start)
    deadline = time.monotonic() + 60
    while not list((odd / "outputs/cache/teacher").rglob(LAST)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, number) if to_all else process.send_signal(number)
    found, output = finish(process, 60)
    assert found == code, output
    assert "Traceback" not in output
    assert no_process_of(process.pid)
    (last,) = (odd / "outputs/cache/teacher").rglob(LAST)
    assert load_plain(last)["recdistill"]["global_step"] > 0
    if to_all and number == signal.SIGTERM:
        found, output = finish(train_odd(odd, "none"), 90)
        assert found == 0, output
        assert "going on from" in output
