"""Finished runs by the folders that a user names: what is there, or why it can't be used and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MinLen
from pydantic import BaseModel, ConfigDict, ValidationError

from recdistill.config.suggest import nearest
from recdistill.errors import InputError
from recdistill.reporting.escape import visible
from recdistill.reporting.jobs import read_jobs
from recdistill.runs.atomic import read_json

SUMMARY, GRID, STATUS = "summary.json", "grid.json", "status.json"


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        name: its folder's name; of a job, that of the grid too.
        folder: where it is.
        summary: its ``summary.json``.
    """

    name: str
    folder: Path
    summary: dict[str, Any]

    def inside(self, row: dict[str, Any], file: str = "") -> Path:
        """The folder of a row's model, or a file in it.

        Raises:
            InputError: the row points out of the run, or there is no such file.
        """
        path = self.folder / str(row.get("folder") or "") / file
        if not row.get("folder") or not path.resolve().is_relative_to(self.folder.resolve()):
            raise InputError(
                f"the row {visible(row['name'])} has no folder in the run", where=str(self.folder / SUMMARY),
                why=f"folder is {row.get('folder')!r}", fix="make the run again",
            )  # fmt: skip
        if not path.exists():
            raise InputError(
                f"{file or 'the model'} of {visible(row['name'])} is missing", where=str(path),
                why="a run is more than its summary: models/ holds weights, and values by user or row",
                fix="copy the whole run folder, or make the run again",
            )  # fmt: skip
        return path


def finished_runs(folders: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """The runs in these folders, a grid's jobs one by one, and a note on each job without a result.

    Raises:
        InputError: a folder is missing, or holds no finished run.
    """
    runs: dict[Path, Run] = {}
    notes = []
    for folder in folders:
        if (folder / GRID).is_file() or (folder / "0").is_dir():
            done, failed = read_jobs(folder)
            found = [_run(f"{_name(folder)}/{job.folder.name}", job.folder) for job in done]
            notes += [f"{_name(folder)}/{job['job']} is left out: {job['error']}" for job in failed]
            if not done:
                raise InputError("no job of the grid finished", where=str(folder), why=notes[-1])
        else:
            found = [_run(_name(folder), folder)]
        runs |= {run.folder.resolve(): run for run in found if run.folder.resolve() not in runs}
    return list(runs.values()), notes


def _name(folder: Path) -> str:
    return folder.resolve().name


def _run(name: str, folder: Path) -> Run:
    if not (folder / SUMMARY).is_file():
        raise _no_run(folder)
    if _error(folder):  # of a later run into the same folder, whose config lies there now
        raise _unfinished(folder)
    try:
        summary = read_json(folder / SUMMARY)
        _Summary.model_validate(summary)
    except ValidationError as error:
        first = error.errors()[0]
        raise _broken(folder, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise _broken(folder, f"{type(error).__name__}: {error}") from error
    return Run(name, folder, summary)


def _broken(folder: Path, why: str) -> InputError:
    return InputError(
        "the summary of the run cannot be read", where=str(folder / SUMMARY), why=why,
        fix="make the run again; with the same cache that takes seconds",
    )  # fmt: skip


class _Row(BaseModel):
    model_config = ConfigDict(strict=True)
    name: str
    metrics: dict[str, float | None]
    role: str = ""
    label: str = ""
    weights_hash: str | None = None
    trials: int | None = None


class _Manifest(BaseModel):
    parts: dict[str, str] = {}


class _Data(BaseModel):
    fingerprint: str | None = None
    manifest: _Manifest | None = None
    report: dict[str, Any] | None = None


class _Summary(BaseModel):
    """What is read of a summary, and of which type it must be; the rest is not looked at."""

    model_config = ConfigDict(strict=True)
    rows: Annotated[list[_Row], MinLen(1)]
    data: _Data
    metric: str
    seed: int | None = None
    recipe_hash: str | None = None
    config_hash: str | None = None
    overrides: list[str] = []
    versions: dict[str, Any] = {}
    machine: dict[str, Any] = {}


def _no_run(folder: Path) -> InputError:
    if folder.is_file():
        return InputError(f"{folder} is a file", where=str(folder), fix=f"give the folder of the run: {folder.parent}")
    if not folder.is_dir():
        near = nearest(folder.name, _subfolders(folder.parent), 1)
        meant = f"did you mean {folder.parent / near[0]}?" if near else "give the folder of a run: outputs/NAME"
        return InputError(f"there is no folder {folder}", where=str(folder.absolute()), fix=meant)
    if (folder / STATUS).is_file():
        return _unfinished(folder)
    runs = [name for name in _subfolders(folder) if (folder / name / SUMMARY).is_file()]
    fix = f"give the runs in it: {' '.join(str(folder / name) for name in runs[:3])}" if runs else None
    return InputError(
        "no finished run in this folder", where=str(folder), why=f"it has no {SUMMARY}",
        fix=fix or "give the folder that `recdistill run` wrote: outputs/NAME",
    )  # fmt: skip


def _error(folder: Path) -> str:
    """The first line of what ended the run that was last in this folder; empty where it ended well."""
    try:
        return str(read_json(folder / STATUS).get("error") or "").strip().partition("\n")[0]
    except (OSError, ValueError, AttributeError):
        return ""


def _unfinished(folder: Path) -> InputError:
    error = _error(folder)
    why = f"it ended with: {error}" if error else "only `recdistill run` writes a summary"
    return InputError(
        "the run has no result", where=str(folder), why=why,
        fix="run the same command again: what was finished is taken from the cache",
    )  # fmt: skip


def _subfolders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
