"""The jobs of a grid: which finished, which did not and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recdistill.errors import EXIT_BUG, EXIT_OK, InputError
from recdistill.runs.atomic import read_json

_REPETITION = re.compile(r"^\+{0,2}(seed|data\.split\.fold)=")


@dataclass(frozen=True)
class Job:
    """One finished job: its folder and ``summary.json``."""

    folder: Path
    summary: dict[str, Any]
    overrides: tuple[str, ...]


def read_jobs(folder: Path) -> tuple[list[Job], list[dict[str, Any]]]:
    """Finished jobs, and for each other one ``job``, ``overrides``, ``exit_code`` and ``error``.

    Raises:
        InputError: the folder has no jobs.
    """
    names = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    numbers = sorted(int(name) for name in names if name.isdecimal())
    if not numbers:
        raise InputError(
            "no jobs of a grid here",
            where=str(folder),
            why="a grid's folder holds one folder a job: 0, 1, 2, ...",
            fix="give the folder that `recdistill run -m ...` wrote",
        )
    done, failed = [], []
    for number in numbers:
        job = _read(folder / str(number))
        if isinstance(job, Job):
            done.append(job)
        else:
            failed.append(job)
    return done, failed


def _read(folder: Path) -> Job | dict[str, Any]:
    """The job, or why it has no figures: what left no status is a failure too."""
    status: dict[str, Any] = {}
    try:
        status = read_json(folder / "status.json")
        if status.get("state") == "done":
            summary = read_json(folder / "summary.json")
            return Job(folder, summary, tuple(status.get("overrides") or summary.get("overrides") or ()))
        error = str(status.get("error") or f"ended in state {status.get('state')!r}")
    except FileNotFoundError as missing:
        error = f"no {Path(str(missing.filename)).name}: the job was killed or never started"
    except ValueError as broken:
        error = f"a result of the job cannot be read: {broken}"
    code = status.get("exit_code") or EXIT_BUG
    line = next((line.strip() for line in error.splitlines() if line.strip()), "failed")
    return {"job": folder.name, "overrides": status.get("overrides") or [], "exit_code": code, "error": line}


def of_the_recipe(overrides: Sequence[str]) -> tuple[str, ...]:
    """Without seed and fold: they make another repetition of a recipe, no rival to it."""
    return tuple(sorted(text for text in overrides if not _REPETITION.match(text)))


def fold_of(summary: Mapping[str, Any]) -> int | None:
    """Which fold of a cross-validation a run was tested on; None where its split has none."""
    split = ((summary.get("data") or {}).get("manifest") or {}).get("split")
    fold = split.get("fold") if isinstance(split, dict) else None
    return fold if isinstance(fold, int) else None


def exit_code(failed: Sequence[Mapping[str, Any]]) -> int:
    """0, or the largest code of the failed jobs."""
    return max((int(job["exit_code"]) for job in failed), default=EXIT_OK)
