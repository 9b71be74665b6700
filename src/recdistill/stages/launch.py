"""One process or several: training is started in as many as the trainer asks for."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill import errors
from recdistill.config.plugins import extend_path
from recdistill.errors import InputError, InterruptedByUser, RecDistillError, ResourceError, Terminated
from recdistill.runs.atomic import read_json, write_json
from recdistill.stages.blame import keys_below
from recdistill.stages.training import FitSpec, fit

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def launch(spec: FitSpec) -> None:
    """Runs :func:`~recdistill.stages.training.fit`, in ``trainer.devices`` processes where that is more than one.

    Raises:
        InputError: the trainer wants devices that are not there, or has nothing to do for each.
    """
    count = processes(spec.trainer)
    if count == 1 or not spec.node.get("fit"):  # what is computed in one go needs no second process
        fit(spec)
    else:
        with keys_below(spec.key or spec.role, spec.node):
            require_work(spec.node["fit"], count)
        fit_in_processes(spec, count)


def fit_in_processes(spec: FitSpec, count: int) -> None:
    """Trains in ``count`` processes, watched by torch's elastic agent: when one dies, all are ended.

    Raises:
        RecDistillError: what the first process said that failed.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed.elastic", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="recdistill-") as notes, _own_signals():
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=count, run_id="recdistill", rdzv_backend="c10d",
            rdzv_endpoint="localhost:0", max_restarts=0, monitor_interval=0.2, local_addr="localhost",
            logs_specs=DefaultLogsSpecs(log_dir=notes),
        )  # fmt: skip
        try:
            elastic_launch(config, _worker)(spec, count, notes, logging.getLogger().getEffectiveLevel())
        except SignalException as error:
            kind = InterruptedByUser if error.sigval == signal.SIGINT else Terminated
            raise kind("stopped; what was finished is kept", fix="run the same command again to go on") from None
        except ChildFailedError as error:
            raise _first_error(Path(notes), error, spec.title) from None


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """The agent leaves its signal handlers behind; this puts back what was there."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not in the main thread, where the agent set none either
            for number, handler in before.items():
                signal.signal(number, handler)


def _first_error(notes: Path, failure: ChildFailedError, title: str) -> Exception:
    """The root cause: an error meant for the user before one of ours, and that before a connection that broke."""
    found = sorted((read_json(file) for file in notes.glob("error-*.json")), key=lambda e: (not e["kind"], e["time"]))
    if found and found[0]["kind"]:
        return getattr(errors, found[0]["kind"])(**found[0]["error"])  # type: ignore[no-any-return]
    rank, child = failure.get_first_failure()
    if child.exitcode == -signal.SIGKILL:
        return ResourceError(
            f"training process {rank} was killed", where=title, why="usually the memory ran out",
            fix="use fewer devices (trainer.devices=1) or smaller batches",
        )  # fmt: skip
    silent = not (notes / f"error-{rank}.json").exists()
    if found and not silent:
        return RuntimeError(found[0]["traceback"].strip().splitlines()[-1] + "\n" + found[0]["traceback"])
    return RecDistillError(f"training process {rank} ended with exit code {child.exitcode}", where=title)


def _worker(spec: FitSpec, count: int, notes: str, level: int) -> None:
    """One process's share. What goes wrong is noted in a file, since the agent tells of exit codes only."""
    import time

    import torch

    extend_path()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))
    rank = os.environ["RANK"]
    if rank == "0":
        logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    try:
        fit(spec)
    except BaseException as error:
        known = isinstance(error, RecDistillError)
        note = {
            "kind": type(error).__name__ if known else None, "time": time.time(), "traceback": traceback.format_exc(),
            "error": {k: getattr(error, k) for k in ("what", "where", "why", "fix")} if known else None,
        }  # fmt: skip
        write_json(Path(notes) / f"error-{rank}.json", note)
        sys.stderr.flush()
        if "onnection" in str(error):  # with a process that died: let the agent see that one first
            time.sleep(2)
        os._exit(error.exit_code if isinstance(error, RecDistillError) else 1)  # others may wait for this process


def require_work(settings: dict[str, Any], count: int) -> None:
    """Raises InputError where a step would leave a process without samples."""
    for name in ("batch_size", "queries"):
        if settings.get(name, count) < count:
            raise InputError(
                f"{name}={settings[name]} can't be shared by {count} processes", where=f"fit.{name}",
                why="it is that of all processes together", fix=f"fit.{name}={count} or more",
            )  # fmt: skip


def processes(trainer: dict[str, Any]) -> int:
    """How many processes a trainer config stands for."""
    import torch

    strategy, devices = str(trainer.get("strategy", "auto")), trainer.get("devices", "auto")
    available = torch.cuda.device_count() if trainer.get("accelerator") in ("gpu", "cuda") else None
    if trainer.get("accelerator") in ("gpu", "cuda") and not available:
        raise InputError(
            "the trainer wants a GPU and there is none", where="trainer.accelerator",
            why=f"torch {torch.__version__} sees no CUDA device", fix="use trainer=cpu, or trainer=auto",
        )  # fmt: skip
    if devices != "auto" and not isinstance(devices, list) and not (isinstance(devices, int) and devices >= 1):
        raise InputError(
            f"{devices!r} is no number of devices", where="trainer.devices", fix="trainer.devices=1, or auto"
        )
    count = available or 1 if devices == "auto" else len(devices) if isinstance(devices, list) else devices
    limit = available if available is not None else max(2, os.cpu_count() or 1)
    if count > limit:
        raise InputError(
            f"the trainer wants {count} devices, this machine has {limit}", where="trainer.devices",
            fix=f"trainer.devices={limit}",
        )  # fmt: skip
    return count if strategy.startswith(("ddp", "fsdp")) else 1
