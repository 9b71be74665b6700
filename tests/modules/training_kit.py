"""What the tests of trainings compare."""

from __future__ import annotations

import hashlib
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from recdistill.data.interactions import Dataset, Schema
from recdistill.models.base import FactorModel
from recdistill.modules.checkpoints import KeepBest
from recdistill.modules.progress import History
from recdistill.modules.supervised import SupervisedModule

EPOCHS = 3


class DropoutMF(FactorModel):
    """Draws random numbers in every forward pass of a training, and has weights of 1 and 2 dimensions."""

    def __init__(self, data: Dataset, dim: int = 6):
        super().__init__(Schema(n_users=data.train.n_users, n_items=data.train.n_items))
        torch.manual_seed(7)
        self.user = nn.Embedding(data.train.n_users, dim)
        self.item = nn.Embedding(data.train.n_items, dim)
        self.gain = nn.Parameter(torch.ones(dim))
        self.dropout = nn.Dropout(0.3)

    def factors(self) -> tuple[Tensor, Tensor]:
        return self.dropout(self.user.weight * self.gain), self.item.weight


def callback(trainer: pl.Trainer, kind: type[Any]) -> Any:
    return next(c for c in trainer.callbacks if isinstance(c, kind))  # type: ignore[attr-defined]


def hashed(content: Any) -> str:
    """Hash of nested containers with tensors."""
    digest = hashlib.blake2b()

    def add(value: Any) -> None:
        if isinstance(value, Tensor):
            digest.update(str(value.dtype).encode() + value.detach().cpu().contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                digest.update(str(key).encode())
                add(value[key])
        elif isinstance(value, list | tuple):
            for part in value:
                add(part)
        else:
            digest.update(repr(value).encode())

    add(content)
    return digest.hexdigest()


def outcome(trainer: pl.Trainer, module: SupervisedModule) -> dict[str, str]:
    """All that a training leaves, each as a hash."""
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in callback(trainer, History).rows]
    return {
        "weights": hashed(module.state_dict()),
        "optimizer": hashed(trainer.optimizers[0].state_dict()),
        "best": hashed(callback(trainer, KeepBest).state_dict()),
        "history": hashed(rows),
        "position": repr(module.position),
        "global_step": repr(trainer.global_step),
    }
