"""Checkpoints that survive a kill at any moment, and resuming from them exactly.

Lightning's own format and hooks are used, with two differences: the file is written to a temporary name in the same
folder and renamed, and where training goes on is our (epoch, step) instead of Lightning's loop counters, which count a
restart in the middle or at the end of an epoch in different ways.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor

from recdistill.errors import InputError
from recdistill.evaluation.metrics import direction
from recdistill.modules.supervised import SupervisedModule
from recdistill.runs.atomic import atomic_path
from recdistill.runs.stop import listen, stop_requested

log = logging.getLogger(__name__)

LAST = "last.ckpt"


class AtomicCheckpointIO(CheckpointIO):
    """Writes a checkpoint whole or not at all, and never unpickles anything but tensors and plain containers."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:  # noqa: ARG002
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # a full disk, which torch tells of as "unexpected pos"
                    raise error.__context__ from None
                raise

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:  # noqa: ARG002
        content = load_plain(Path(path), map_location)
        if not isinstance(content, dict) or not {"recdistill", "state_dict", "callbacks"} <= content.keys():
            raise InputError(
                "this is not a checkpoint of this training", where=str(path),
                why="some other program wrote it", fix="remove it and run again",
            )  # fmt: skip
        return content

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def load_plain(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Reads a checkpoint with ``weights_only=True``.

    Raises:
        InputError: the file is damaged, or holds objects that would have to be unpickled.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        raise InputError(
            f"cannot read the checkpoint {path.name}",
            where=str(path),
            why=(str(error).splitlines() or [type(error).__name__])[0],
            fix="remove it and run again; only files of tensors and plain containers are read",
        ) from error
    return content


class Checkpointer(Checkpoint):
    """Saves where training is every few seconds and when it is asked to stop; goes on from there.

    It looks after every optimizer step and, since Lightning calls a ``Checkpoint`` last, at the very end of an epoch.

    Args:
        folder: of the checkpoint.
        every_seconds: time between saves.
    """

    ASK_EVERY = 16  # steps between agreements, where there are several processes

    def __init__(self, folder: Path, every_seconds: float):
        self.path, self.every_seconds = folder / LAST, every_seconds
        self.saved = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SupervisedModule)
        listen()  # again, since Lightning has just put its own handlers in front
        epoch = pl_module.position[0]
        progress: Any = trainer.fit_loop.epoch_progress.current
        loop = trainer.fit_loop.epoch_loop
        progress.processed = progress.completed = progress.started = progress.ready = epoch
        loop._batches_that_stepped = epoch  # the loggers' x-axis
        steps = loop.manual_optimization.optim_step_progress.total
        steps.ready = steps.completed = pl_module.first_step
        self.saved = time.monotonic()
        pl_module.after_step = lambda: self.look(trainer, pl_module.position[1])

    def on_train_epoch_end(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        self.look(trainer, 0)

    def look(self, trainer: pl.Trainer, step: int) -> None:
        """Saves if it is time to.

        Raises:
            Stopped: a signal came in.
        """
        stop, due = stop_requested(), time.monotonic() - self.saved >= self.every_seconds
        if trainer.world_size > 1:
            if step % self.ASK_EVERY:
                return
            stop, due = self.agreed(trainer, stop, due)
        if stop or due:
            trainer.save_checkpoint(self.path)
            self.saved = time.monotonic()
        if stop:
            raise Stopped

    @staticmethod
    def agreed(trainer: pl.Trainer, *wishes: bool) -> list[bool]:
        """What at least one of the processes wants."""
        wanted = torch.tensor(wishes, dtype=torch.int32, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(wanted, torch.distributed.ReduceOp.MAX)
        return [bool(wish) for wish in wanted.tolist()]


class Stopped(BaseException):
    """Leaves Lightning's loops after the checkpoint was written."""


class KeepBest(pl.Callback):
    """Keeps the weights of the best validation in memory, and stops when nothing better comes.

    Says in the end if these give worse probabilities of clicks than the mean rate would.

    Args:
        monitor: name of a validation metric, such as "ndcg@10"; its direction is known to the metric.
        patience: validations without improvement before training stops, 0 for never.
    """

    def __init__(self, monitor: str, patience: int):
        self.monitor, self.patience = monitor, patience
        self.sign = 1.0 if direction(monitor) == "max" else -1.0
        self.best: float | None = None
        self.best_epoch = -1
        self.waited = 0
        self.entropy = 0.0  # normalised, of the best validation; 0 where it is no metric of the task
        self.weights: dict[str, Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        trainer.should_stop = self.exhausted  # by a run that was killed before it could end

    @property
    def exhausted(self) -> bool:
        return 0 < self.patience <= self.waited

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SupervisedModule)
        if not all(rule.settled for rule, _ in pl_module.gradual):  # a model with fewer zeros than it will have
            return
        value = float(trainer.callback_metrics[f"valid/{self.monitor}"])
        if self.best is None or self.sign * (value - self.best) > 0:
            self.best, self.waited, self.best_epoch = value, 0, trainer.current_epoch
            self.entropy = float(trainer.callback_metrics.get("valid/ne", 0.0))
            self.weights = {k: v.detach().to("cpu", copy=True) for k, v in pl_module.kept.state_dict().items()}
        else:
            self.waited += 1
            trainer.should_stop = self.exhausted

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SupervisedModule)
        if self.entropy > 1 and trainer.is_global_zero and not pl_module.max_steps:  # one step tells nothing
            log.warning(
                "%s: worse probabilities than the mean rate of clicks (normalised entropy %.3f on the valid part): "
                "train it longer, or with another %s.fit.batch_size or %s.fit.lr",
                *(pl_module.role, self.entropy, pl_module.role, pl_module.role),
            )

    def state_dict(self) -> dict[str, Any]:
        return {
            "best": self.best, "best_epoch": self.best_epoch, "waited": self.waited, "entropy": self.entropy,
            "weights": self.weights,
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]
        self.waited, self.entropy = state_dict["waited"], state_dict["entropy"]
        self.weights = state_dict["weights"]
