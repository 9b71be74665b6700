"""One process or several: training is started in as many as the trainer asks for."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from recdistill.config.plugins import extend_path
from recdistill.errors import InputError, RecDistillError
from recdistill.stages.training import FitSpec, fit


def launch(spec: FitSpec) -> None:
    """Runs :func:`~recdistill.stages.training.fit`, in ``trainer.devices`` processes where that is more than one.

    The processes are watched by torch's elastic agent: when one dies, all are ended and its error is raised here.

    Raises:
        InputError: the trainer wants devices that are not there.
    """
    count = processes(spec.trainer)
    if count == 1 or "RANK" in os.environ:  # one process, or one of those that somebody else started
        fit(spec)
        return
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, run_id="recdistill", rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0, monitor_interval=0.2, local_addr="localhost",
    )  # fmt: skip
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        results = elastic_launch(config, _worker)(spec, logging.getLogger().level)
    except ChildFailedError as error:
        raise RecDistillError(
            f"a training process failed: {next(iter(error.failures.values())).message}", where=spec.title
        ) from error
    failure = next((result for result in results.values() if result is not None), None)
    if failure is not None:
        raise failure


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
    count = available or 1 if devices == "auto" else len(devices) if isinstance(devices, list) else int(devices)
    limit = available if available is not None else max(2, os.cpu_count() or 1)
    if count > limit:
        raise InputError(
            f"the trainer wants {count} devices, this machine has {limit}", where="trainer.devices",
            fix=f"trainer.devices={limit}",
        )  # fmt: skip
    return count if strategy.startswith(("ddp", "fsdp")) else 1


def _worker(spec: FitSpec, level: int) -> RecDistillError | None:
    """One process's share. Errors that are meant for the user travel back as values, the others as failures."""
    extend_path()
    if os.environ.get("RANK") == "0":
        logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    try:
        fit(spec)
    except RecDistillError as error:
        return error
    return None
