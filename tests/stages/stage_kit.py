"""A small config, and commands in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from command_kit import Command
from recdistill.export.bundle import INFO
from recdistill.reporting import svg

FULL_CHARTS = svg.inline
DATA = ("data=synthetic", "data.source.n_users=80", "data.source.n_items=60", "data.source.niches=8")
SMALL = (
    "teacher=mf", "teacher.net.dim=12", "teacher.fit.epochs=3", "teacher.fit.batch_size=256",
    "student=mf", "student.net.dim=4", "student.fit.epochs=4", "student.fit.batch_size=32",
    "distiller=soft_label", "compression=none", "logger=none", "trainer=cpu",
)  # fmt: skip


def words_of(words: Sequence[str]) -> list[str]:
    """The small config, without what the words replace."""
    groups = {word.partition("=")[0] for word in words if "=" in word}
    return [word for word in (*DATA, *SMALL) if not groups & {word.partition("=")[0], word.partition(".")[0]}] + [
        *words
    ]


def start(folder: Path, verb: str, *words: str, **environment: str) -> Command:
    """The same command in a process of its own, which has its imports done."""
    return Command([verb, *words_of(words)], folder, _environment(environment))


def start_python(folder: Path, verb: str, *words: str, **environment: str) -> subprocess.Popen[str]:
    """The same command as from a terminal, from the start of the interpreter on."""
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "recdistill", verb, *words_of(words)],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env=_environment(environment),
    )  # fmt: skip


def _environment(own: dict[str, str]) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **own}


def finish(process: Command | subprocess.Popen[str], timeout: float = 120) -> tuple[int, str]:
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        raise
    assert process.returncode is not None
    return process.returncode, output


def models(cache: Path, stage: str) -> list[Path]:
    """The finished models of a stage, the oldest first."""
    return sorted((f.parent for f in cache.glob(f"{stage}/*/stamp.json")), key=lambda f: f.stat().st_mtime)


def weights(folder: Path) -> str:
    return str(json.loads((folder / INFO).read_text(encoding="utf-8"))["hash"])


def history(folder: Path) -> list[dict[str, Any]]:
    rows = json.loads((folder / "history.json").read_text(encoding="utf-8"))
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def tree(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))
