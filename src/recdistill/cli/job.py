"""One job: what Hydra calls for every run of a grid. It never raises: one failure stops no other job."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from recdistill.cli import preflight
from recdistill.config.locate import Sources
from recdistill.config.secrets import redact
from recdistill.config.unchosen import drop, unchosen
from recdistill.errors import (
    EXIT_BUG,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_RESOURCE,
    EXIT_TERMINATED,
    RecDistillError,
)

STATUS_FILE = "status.json"
ERROR_FILE = "error.log"
STAGES = "recdistill.stages.verbs"
_RESOURCE_ERRNO = {errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EPERM}

outcomes: list[int] = []
"""Exit codes of the jobs that ran in this process."""


@dataclass(frozen=True)
class Job:
    """The task that is given to Hydra; it can be pickled, so that launchers may send it to other processes.

    Args:
        verb: the stage to run.
        sources: config folders and plug-ins.
        in_grid: whether other jobs follow; such a job is checked once more, since a sweeper may have made it.
    """

    verb: str
    sources: Sources
    in_grid: bool

    def __call__(self, cfg: DictConfig) -> int:
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        overrides = [o for o in hydra.overrides.task if not o.startswith("run.name=")]
        if self.in_grid:
            print(f"[{hydra.job.num}] {redact(' '.join(overrides)) or 'defaults'}", flush=True)
        code, message = self._guarded(cfg, folder)
        if code and message:
            print(message, file=sys.stderr, flush=True)
        outcomes.append(code)
        if rank() == 0:
            _write_status(folder, code, message, overrides)
        if code in (EXIT_INTERRUPTED, EXIT_TERMINATED):
            raise SystemExit(code)  # the whole grid ends; Hydra lets this one through
        return code

    def _guarded(self, cfg: DictConfig, folder: Path) -> tuple[int, str]:
        try:
            return self._run(cfg, folder), ""
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED, "interrupted; what was finished is kept"
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else EXIT_BUG
            return code, "" if code == EXIT_OK else f"a stage ended with exit code {code}"
        except Exception as error:
            return exit_code(error), message_of(error, folder)

    def _run(self, cfg: DictConfig, folder: Path) -> int:
        self.sources.enable_plugins()
        drop(cfg, unchosen(cfg, HydraConfig.get().overrides.task, self.sources.folders))
        if rank() == 0:
            _save_config(cfg, folder)
        if self.in_grid:
            preflight.check_job(cfg, self.sources)
        stage = getattr(importlib.import_module(STAGES), self.verb)
        return int(stage(cfg, folder) or EXIT_OK)


def rank() -> int:
    """This process's rank when torchrun or a cluster started it; only rank 0 writes into the run folder."""
    text = os.environ.get("RANK", "0")
    return int(text) if text.isdigit() else 0


def exit_code(error: BaseException) -> int:
    """The exit code of any exception."""
    if isinstance(error, RecDistillError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    if is_resource(error):
        return EXIT_RESOURCE
    return EXIT_BUG


def is_resource(error: BaseException) -> bool:
    """Whether disk, memory or a permission was missing."""
    if isinstance(error, OSError):
        return error.errno in _RESOURCE_ERRNO
    # torch has its own; by name, so that torch is not imported to report an error.
    memory = "OutOfMemoryError" in type(error).__name__ or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or memory


def message_of(error: BaseException, folder: Path) -> str:
    """What is shown on the screen; the traceback of an unexpected error goes into ``error.log``."""
    if isinstance(error, RecDistillError):
        return redact(str(error))
    text = redact(f"{type(error).__name__}: {error}".strip().splitlines()[0])
    if is_resource(error):
        return f"{text}\n  fix: free space or memory, or choose another place: run.root=DIR cache=DIR"
    path = folder / (f"rank{rank()}_{ERROR_FILE}" if rank() else ERROR_FILE)
    try:
        path.write_text(redact(_traceback(error)), encoding="utf-8")
    except OSError:
        return f"{text}\n{redact(_traceback(error))}"
    return f"{text} (this is a bug of recdistill or of a plug-in; the traceback is in {path})"


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _save_config(cfg: DictConfig, folder: Path) -> None:
    """The config as it was composed; interpolations are kept, so that no environment value is copied."""
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=False), encoding="utf-8")


def _write_status(folder: Path, code: int, message: str, overrides: list[str]) -> None:
    status: dict[str, Any] = {
        "state": "done" if code == EXIT_OK else "failed",
        "error": message or None,
        "exit_code": code,
        "overrides": [redact(override) for override in overrides],
    }
    target = folder / STATUS_FILE
    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(status, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(temporary, target)
    except OSError as error:  # a full disk: the exit code still tells
        print(f"{target} could not be written: {error}", file=sys.stderr)
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
