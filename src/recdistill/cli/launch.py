"""From a verb to Hydra: check first, then hand over to ``hydra.main``, which makes folders and launches."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import hydra

from recdistill.cli import preflight
from recdistill.cli.job import STAGES, STATUS_FILE, Job, outcomes, rank
from recdistill.cli.words import ARGUMENTS, Words
from recdistill.config import compose
from recdistill.config.diagnose import CONFIG_NAME
from recdistill.config.locate import Sources, find_sources
from recdistill.config.overrides import quoted
from recdistill.config.secrets import redact
from recdistill.errors import EXIT_BUG, EXIT_OK, InputError, ResourceError

GRID = "recdistill.stages.grid"
COMMAND_FILE = "command.json"
FINISHED = ("summary.json", "grid.json")
WITHOUT_FOLDER = (
    "check",
    "report",
    "compare",
    "verify",
    "refresh",
    "download",
)  # no run: no folder, log or status is left behind

RIGHT = (
    "the config is right: every key, value and constructor argument was looked at, and one step of every stage worked;"
    " nothing was written"
)
RIGHT_GRID = (
    "every config of the grid is right: each key, value and constructor argument was looked at; of the first config one"
    " step of every stage worked; nothing was written"
)


def launch(words: Words) -> int:
    """Run a verb that has a config; gives the exit code."""
    sources = find_sources(words.config_dirs, words.plugins)
    sources.enable_plugins()
    parsed = preflight.gate_overrides(words.overrides, sources)
    verb = words.verb or "run"
    if words.shows_only:
        return _show(words, sources, verb)
    resolved, grid = preflight.check_all(parsed, sources, words.multirun)
    if verb in WITHOUT_FOLDER:
        return _on_the_spot(verb, resolved, words, grid)
    named = any(override.key_or_group == "run.name" for override in parsed)
    if grid and any(o.is_sweep_override() and o.key_or_group == "run.name" for o in parsed):
        raise InputError("run.name names the folder of the whole grid", where="run.name", fix="give one name")
    folder = claim_folder(resolved["run"]["root"], resolved["run"]["name"], keep=named)
    flags = ["--multirun"] if grid else []
    kept = [text for text in words.overrides if not text.startswith("run.name=")]
    _record_command(folder, {"verb": verb, "grid": grid, "overrides": sorted(redact(text) for text in kept)})
    _hand_over([*flags, *kept, quoted("run.name", folder.name_in_root)], Job(verb, sources, grid), sources)
    return _grid_code(folder.path, verb) if grid else _single_code(folder.path)


def _on_the_spot(verb: str, resolved: dict[str, Any], words: Words, grid: bool) -> int:
    from omegaconf import OmegaConf

    if words.multirun and verb != "check":
        raise InputError(f"recdistill {verb} is no grid", where="-m", fix=f"recdistill {verb} --help")
    given = [Path(word) for word in words.arguments] if verb in ARGUMENTS else Path()
    code = int(getattr(importlib.import_module(STAGES), verb)(OmegaConf.create(resolved), given) or EXIT_OK)
    if verb == "check" and code == EXIT_OK:  # said once, when nothing can be refused any more
        print(RIGHT_GRID if grid else RIGHT)
    return code


class Folder:
    """A run folder and its name below ``run.root``."""

    def __init__(self, path: Path, name_in_root: str):
        self.path, self.name_in_root = path, name_in_root


def claim_folder(root: str, name: str, *, keep: bool) -> Folder:
    """Make the run folder.

    Args:
        root: where run folders are.
        name: the resolved ``run.name``.
        keep: whether an existing folder of that name is meant; else a free name is taken.

    Raises:
        InputError: the name leads out of ``root``.
        ResourceError: the folder cannot be made or written.
    """
    _refuse_escape(root, name)
    chosen, count = name, 1
    while True:
        path = Path(root, chosen).absolute()
        try:
            path.mkdir(parents=True, exist_ok=keep)
            break
        except FileExistsError:
            if keep:  # a file stands there
                raise InputError(f"{path} is a file", where="run.name", fix="run.name=OTHER") from None
            count += 1
            chosen = f"{name}_{count}"
        except OSError as error:
            raise _not_writable(path, error.strerror or str(error)) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise _not_writable(path, "permission denied")
    return Folder(path, chosen)


def _record_command(folder: Folder, command: dict[str, Any]) -> None:
    """Writes down what the folder is for; the same command may come again, to go on or to be repeated.

    Raises:
        InputError: a finished run or grid of another command lies there.
    """
    record = folder.path / COMMAND_FILE
    finished = [name for name in FINISHED if (folder.path / name).is_file()]
    with contextlib.suppress(OSError, ValueError):
        earlier = json.loads(record.read_text(encoding="utf-8"))
        if finished and earlier != command:
            raise InputError(
                f"a finished run lies in {folder.path}",
                where="run.name",
                why=f"it was made by another command: {' '.join([earlier['verb'], *earlier['overrides']])}",
                fix=f"run.name={folder.name_in_root}_2, or delete that folder",
            )
    if rank() == 0:
        record.write_text(json.dumps(command, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _not_writable(path: Path, why: str) -> ResourceError:
    return ResourceError("the run folder cannot be written", where=str(path), why=why, fix="run.root=DIR cache=DIR")


def _refuse_escape(root: str, name: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    base = Path(root).resolve()
    inside = (base / name).resolve().is_relative_to(base) and (base / name).resolve() != base
    bad = not name.strip() or name.startswith(("/", "~")) or ".." in parts or not name.isprintable()
    if bad or not inside:
        raise InputError(
            f"run.name={name!r} leads out of the folder for runs",
            where="run.name",
            why=f"a run's folder is {root}/NAME",
            fix="run.name=my_run (and run.root=DIR for another place)",
        )


def _show(words: Words, sources: Sources, verb: str) -> int:
    with compose.hydra_session(sources):
        preflight.compose_gated(words.overrides)
        removed = [f"~{key}" for key in compose.left_out(words.overrides)]  # Hydra composes once more, to print it
    _hand_over([*words.hydra_flags, *words.overrides, *removed], Job(verb, sources, False), sources)
    return EXIT_OK


def complete(words: Words) -> int:
    """Hydra's shell completion; :mod:`recdistill.cli.completion` took the verb out of ``COMP_LINE``."""
    sources = find_sources(words.config_dirs, words.plugins)
    sys.argv = ["recdistill"]  # what the shell completes, also when this is python -m recdistill
    _hand_over([*words.hydra_flags, *words.overrides], Job("run", sources, False), sources)
    return EXIT_OK


def _hand_over(arguments: Sequence[str], job: Job, sources: Sources) -> None:
    compose.use_folders(sources)
    outcomes.clear()
    sys.argv = [sys.argv[0], *arguments]
    hydra.main(str(sources.conf), CONFIG_NAME, compose.VERSION_BASE)(job)()


def _single_code(folder: Path) -> int:
    return outcomes[-1] if outcomes else _status_code(folder / STATUS_FILE)


def _grid_code(folder: Path, verb: str) -> int:
    """The joint table's exit code, or the worst of the jobs (some ran in other processes)."""
    codes = [_status_code(file) for file in sorted(folder.glob(f"*/{STATUS_FILE}"))] + outcomes
    failed = sorted((code for code in codes if code != EXIT_OK), reverse=True)
    # Only whole lines have a summary to join; the other verbs have shown theirs job by job.
    finished = int(importlib.import_module(GRID).finish(folder) or EXIT_OK) if verb == "run" else EXIT_OK
    if not codes:
        return EXIT_BUG
    return finished or (failed[0] if failed else EXIT_OK)


def _status_code(file: Path) -> int:
    try:
        return int(json.loads(file.read_text(encoding="utf-8"))["exit_code"])
    except (OSError, ValueError, KeyError, TypeError):
        return EXIT_BUG
