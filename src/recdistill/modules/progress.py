"""What a training run shows and remembers: its history, a progress bar, quiet lines in a log file."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import pytorch_lightning as pl

from recdistill.modules.supervised import SupervisedModule

log = logging.getLogger(__name__)


class History(pl.Callback):
    """One row of plain numbers per epoch: every term of the loss and the validation metrics."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SupervisedModule)
        epoch = pl_module.position[0]
        row: dict[str, float] = {"epoch": epoch, "seconds": round(time.monotonic() - pl_module.started, 3)}
        row |= {f"train/{name}": value for name, value in pl_module.sums.items()}
        if (epoch + 1) % pl_module.fit_config.validate_every == 0:
            row |= {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("valid/")}
        self.rows.append(row)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])


class Progress(pl.Callback):
    """A bar that moves once per epoch on a terminal; a line now and then elsewhere.

    Args:
        title: what is being trained.
        monitor: validation metric to show.
        every_seconds: least time between lines when there is no terminal.
    """

    def __init__(self, title: str, monitor: str, every_seconds: float = 15.0):
        self.title, self.monitor, self.every_seconds = title, monitor, every_seconds
        self.bar: Any = None
        self.last = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        if trainer.is_global_zero and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}"),
                TimeRemainingColumn(), console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self.row = self.bar.add_task(self.title, total=trainer.max_epochs, completed=trainer.current_epoch, said="")
            self.bar.start()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SupervisedModule)
        said = f"loss {pl_module.sums.get('loss', 0.0):.4f}"
        if (value := trainer.callback_metrics.get(f"valid/{self.monitor}")) is not None:
            said += f"  {self.monitor} {float(value):.4f}"
        if self.bar is not None:
            self.bar.update(self.row, advance=1, said=said)
        elif trainer.is_global_zero and time.monotonic() - self.last > self.every_seconds:
            log.info("%s: epoch %d/%s  %s", self.title, trainer.current_epoch, trainer.max_epochs, said)
            self.last = time.monotonic()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:  # noqa: ARG002
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
