"""Commands and training processes that are forked from one that has done the imports, which take seconds, once."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import IO, Any
from unittest.mock import patch

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["recdistill.stages.verbs", "recdistill.stages.training", "torch._dynamo", "hydra"])


class Command:
    """A running ``recdistill``; what the tests need of ``subprocess.Popen``, with both streams in ``stdout``."""

    def __init__(self, words: Sequence[str], folder: Path, environment: dict[str, str]):
        reader, writer = SERVER.Pipe(duplex=False)
        self._process = SERVER.Process(target=_run, args=(list(words), str(folder), environment, writer))
        self._process.start()
        writer.close()
        self.stdout: IO[str] = os.fdopen(os.dup(reader.fileno()), encoding="utf-8")
        reader.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """What is left of the output.

        Raises:
            subprocess.TimeoutExpired: it still runs, or a process that it started holds its output.
        """
        found: list[str] = []
        reader = Thread(target=lambda: found.append(self.stdout.read()), daemon=True)
        reader.start()
        reader.join(timeout)
        if reader.is_alive():
            raise subprocess.TimeoutExpired("recdistill", timeout or 0)
        self.stdout.close()
        self._process.join()
        return found[0], None

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode


def _run(words: list[str], folder: str, environment: dict[str, str], output: Connection) -> None:
    os.setsid()
    os.chdir(folder)
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    output.close()
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, encoding="utf-8") for number in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    sys.modules["__main__"] = types.ModuleType("__main__")  # that of pytest is nothing for processes it starts
    sys.argv = ["recdistill", *words]
    from recdistill.cli import main

    with forked_training():
        code = main()
    sys.exit(code)


class _Worker:
    """A process's share of a training, in the environment of the process that started it."""

    def __init__(self, share: Callable[..., Any]):
        self.share, self.environment = share, dict(os.environ)
        self.__name__ = self.__qualname__ = "worker"

    def __call__(self, *args: Any) -> Any:
        os.environ.update(self.environment)
        return self.share(*args)


def forked_training() -> Any:
    """Where several processes train: each is forked too, instead of a new interpreter."""
    from torch.distributed.launcher import api

    launch = api.elastic_launch

    def forked(config: api.LaunchConfig, share: Callable[..., Any]) -> Any:
        config.start_method = "forkserver"
        return launch(config, _Worker(share))

    return patch.object(api, "elastic_launch", forked)
