"""Signals, kills and broken trainings, in processes as a user starts them."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from stage_kit import finish, history, models, start, weights

from command_kit import Command
from recdistill.modules.checkpoints import LAST, load_plain

PLUGIN = '''
import time
import torch
from torch import nn
from recdistill.models.mf import MF
from recdistill.tasks.objectives import BPR

class DropMF(MF):
    """Draws random numbers in training, and takes its time."""
    def __init__(self, schema, dim: int = 4, pause: float = 0.0):
        super().__init__(schema, dim=dim)
        self.dropout, self.pause = nn.Dropout(0.3), pause
    def factors(self):
        if self.training:
            time.sleep(self.pause)
        return self.dropout(self.user.weight), self.item.weight

class Sick(BPR):
    """Is not a number from some step on."""
    name = "sick"
    calls = 0
    def __call__(self, *args):
        Sick.calls += 1
        return super().__call__(*args) * (float("nan") if Sick.calls > 30 else 1.0)
'''
STUDENT = """
net: {{_target_: drop_plugin.DropMF, dim: 4, pause: {pause}}}
objective: {{_target_: {objective}, negatives: 2}}
fit: {{_target_: recdistill.models.fit.Fit, epochs: 6, batch_size: 64, lr: 0.02, queries: 16}}
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "plug").mkdir()
    (tmp_path / "plug" / "drop_plugin.py").write_text(PLUGIN)
    return tmp_path


def distill(
    folder: Path, *words: str, pause: float = 0.02, objective: str = "recdistill.tasks.objectives.BPR"
) -> Command:
    """A student that draws random numbers and takes ``pause`` seconds for a forward pass."""
    (folder / "conf/student").mkdir(parents=True, exist_ok=True)
    (folder / "conf/student/drop.yaml").write_text(STUDENT.format(pause=pause, objective=objective))
    own = ("--plugin", "plug", "--config-dir", "conf", "student=drop")
    words = words or ("checkpoint.every_seconds=0.2",)
    return start(folder, "distill", *own, *words)


def wait_for(process: Command, text: str) -> None:
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return
    raise AssertionError("".join(seen))


def test_killed_and_stopped_and_gone_on(work: Path) -> None:
    """SIGTERM, then kill -9, then to the end, under a teacher that is trained once: as if nothing had happened."""
    assert finish(distill(work, "cache=whole"))[0] == 0

    process = distill(work, "cache=cut", "checkpoint.every_seconds=0.2")
    wait_for(process, "student: training")
    time.sleep(0.6)
    process.send_signal(signal.SIGTERM)
    code, output = finish(process)
    assert code == 143, output
    assert "run the same command again" in output
    assert "Traceback" not in output
    (partial,) = (work / "cut" / "student").glob("*.partial")
    first = load_plain(partial / LAST)["recdistill"]
    assert first["global_step"] > 0
    teacher = weights(models(work / "cut", "teacher")[0])

    process = distill(work, "cache=cut", "checkpoint.every_seconds=0.2")
    wait_for(process, "going on from")
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    second = load_plain(partial / LAST)["recdistill"]
    assert second["global_step"] > first["global_step"]

    code, output = finish(distill(work, "cache=cut", "checkpoint.every_seconds=0.2"))
    assert code == 0, output
    assert "teacher: from cache" in output
    assert "teacher: training" not in output
    assert weights(models(work / "cut", "teacher")[0]) == teacher
    assert not list((work / "cut").glob("*/*.partial"))
    whole, cut = (models(work / c, "student") for c in ("whole", "cut"))
    assert sorted(weights(m) for m in whole) == sorted(weights(m) for m in cut)
    assert sorted(map(str, map(history, whole))) == sorted(map(str, map(history, cut)))


@pytest.mark.parametrize(
    "turn", [0, 1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_stopped_at_a_random_moment(turn: int, work: Path) -> None:
    """R2: whatever stage it is in, the exit code tells, and what is there can be used."""
    number, code = (signal.SIGTERM, 143) if turn % 2 else (signal.SIGINT, 130)
    process = distill(work)
    wait_for(process, "teacher: training")
    time.sleep(random.Random(turn).uniform(0, 1.5))
    process.send_signal(number)
    found, output = finish(process)
    assert found in (code, 0), output
    assert found == code or "valid part" in output
    assert "Traceback" not in output
    for checkpoint in (work / "outputs").rglob(LAST):
        load_plain(checkpoint)
    assert not list((work / "outputs").rglob(".*.tmp"))


def test_ctrl_c_twice(work: Path) -> None:
    """B41: the second one does not wait for the step."""
    process = distill(work, pause=60)
    wait_for(process, "student alone: training")
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    code, output = finish(process, 30)
    assert code == 130, output
    assert "Traceback" not in output


def test_divergence(work: Path) -> None:
    """R5 from the command line: exit 3, and nothing of the bad step is kept."""
    process = distill(work, "checkpoint.every_seconds=0", pause=0, objective="drop_plugin.Sick")
    code, output = finish(process)
    assert code == 3, output
    assert "sick is not finite at epoch" in output
    assert "Traceback" not in output
    (last,) = (work / "outputs/cache/student").rglob(LAST)
    assert load_plain(last)["recdistill"]["global_step"] == 30


def test_a_malicious_checkpoint(work: Path) -> None:
    """B38: it stands where a training would go on from."""
    process = distill(work, pause=0.05)
    wait_for(process, "student alone: training")
    time.sleep(0.7)
    process.send_signal(signal.SIGTERM)
    finish(process)
    (last,) = (work / "outputs/cache/student").rglob(LAST)
    import torch

    canary = work / "canary"
    torch.save({"state_dict": {}, "callbacks": [Canary(canary)]}, last)
    code, output = finish(distill(work, pause=0.05))
    assert code == 2, output
    assert "cannot read the checkpoint" in output
    assert str(last.name) in output
    assert not canary.exists()


class Canary:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)
