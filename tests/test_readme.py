"""The README is run: every command in a bash block, and the part that it teaches to write."""

from __future__ import annotations

import os
import random
import re
import shlex
from pathlib import Path

import pytest

from command_kit import Command

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.S)


def commands() -> list[str]:
    text = (ROOT / "README.md").read_text()
    return [line for kind, body in BLOCK.findall(text) if kind == "bash" for line in body.strip().splitlines()]


def recdistill_commands() -> list[str]:
    return [line for line in commands() if line.startswith("recdistill")]


def quick(command: str) -> list[str]:
    """The command on small data, with a few epochs."""
    words = shlex.split(command)
    verb = words[1]
    if verb == "ls":
        return words
    words += ["teacher.fit.epochs=2", "student.fit.epochs=2"]
    if not any(word.startswith("task=") and word != "task=ranking" for word in words):
        words += ["teacher=mf", "teacher.net.dim=16"]
    chosen = ("data=", "experiment=", "task=ctr")
    own_data = any(word.startswith(chosen) and word != "experiment=quickstart" for word in words)
    if not own_data:
        words += ["data.source.n_users=150", "data.source.n_items=120", "data.source.niches=16"]
    if any("rrd" in word for word in words) and "-m" not in words:
        words += ["distiller.rrd.pool=60"]
    return words


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader would be: with a log of their own, and the part that the README shows."""
    where = tmp_path_factory.mktemp("reader")
    rng = random.Random(0)
    rows = ["customer,sku,ts"]
    for customer in range(80):
        for sku in rng.sample(range(60), 12):
            rows.append(f"c{customer:03},sku-{sku:03},{1_600_000_000 + rng.randrange(10**6)}")
    (where / "my.csv").write_text("\n".join(rows) + "\n")
    text = (ROOT / "README.md").read_text()
    python = next(body for kind, body in BLOCK.findall(text) if kind == "python")
    yaml = next(body for kind, body in BLOCK.findall(text) if kind == "yaml")
    (where / "my_parts/conf/distiller").mkdir(parents=True)
    (where / "my_parts/mine.py").write_text(python)
    (where / "my_parts/conf/distiller/margin.yaml").write_text(yaml)
    return where


def test_the_readme_shows_both_main_commands() -> None:
    assert commands()[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("command", [c for c in recdistill_commands() if "shared/data" not in c])
def test_command(command: str, folder: Path) -> None:
    process = Command(quick(command)[1:], folder, {**os.environ, "OMP_NUM_THREADS": "1"})
    output, _ = process.communicate(280)
    assert process.returncode == 0, output[-4000:]
    if "recommend.output=top10.csv" in command:
        lines = (folder / "top10.csv").read_text().splitlines()
        assert lines[0].startswith("user,rank,item,score")
        assert lines[1].split(",")[0] == "c000"
        assert lines[1].split(",")[2].startswith("sku-")
        assert len(lines) == 1 + 80 * 10


@pytest.mark.parametrize("command", [c for c in recdistill_commands() if "shared/data" in c])
def test_experiment_composes(command: str) -> None:
    words = [word.replace("../shared", str(ROOT.parent / "shared")) for word in shlex.split(command)]
    process = Command([*words[1:], "hydra.mode=RUN", "--cfg", "job"], ROOT, dict(os.environ))
    output, _ = process.communicate(120)
    assert process.returncode == 0, output
    assert "teacher:" in output
