"""The LightningModules of teacher and student, and the training loop they share.

One Lightning batch is one epoch: ``training_step`` makes all optimizer steps of it. Lightning's work per batch, some
300 µs, is as long as a step of a small recommender; here it is paid once per epoch, while its hooks around backward and
optimizer step, gradient scaling, DDP and ``global_step`` stay per step (docs/training.md has the figures).
"""

from __future__ import annotations

import math
import time
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from recdistill.data.interactions import Dataset, Interactions
from recdistill.distillers.base import ModelView
from recdistill.errors import DivergedError
from recdistill.evaluation.metrics import RankingMetrics
from recdistill.models.base import RankingModel
from recdistill.models.fit import Fit
from recdistill.runs.stop import stop_requested
from recdistill.tasks.batches import RankingBatch, generator, mix
from recdistill.tasks.objectives import Objective
from recdistill.tasks.ranking import Ranking


class SupervisedModule(pl.LightningModule):
    """Trains a model on its task's hard loss.

    Args:
        model: the model, already bound to the data.
        objective: the hard loss.
        fit: how to train.
        data: the data set; ``test`` is never read here.
        seed: of everything random in training.
        ks: list lengths of the validation metrics.
    """

    role = "model"

    def __init__(
        self, model: RankingModel, objective: Objective, fit: Fit, data: Dataset, *, seed: int, ks: list[int]
    ):
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.objective, self.fit_config, self.data = objective, fit, data
        self.task = Ranking()
        self.seed, self.ks = seed, ks
        self.position = (0, 0)  # epoch and step that come next
        self.sums: dict[str, float] = {}
        self.started = 0.0

    # What a subclass adds to.

    def loss_terms(self, batch: RankingBatch) -> dict[str, Tensor]:
        """Named, unweighted terms of the loss, each a mean over this process's part of the step."""
        view = ModelView(self.model, batch.query, self.train_part.csr)
        rng = generator(self.device, batch.seed)
        return {self.objective.name: self.objective(self.model, batch, view, rng)}

    def weights(self, batch: RankingBatch) -> dict[str, float]:
        """The factor of each term in the loss."""
        return {self.objective.name: batch.weight}

    # The loop.

    def configure_optimizers(self) -> torch.optim.Optimizer:
        parameters = [p for p in self.parameters() if p.requires_grad]
        # Decay pulls vectors towards 0; a bias has a scale of its own.
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": self.fit_config.weight_decay},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ]
        # The CPU default of Adam is five times slower than the fused one.
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=self.fit_config.lr, fused=True)

    def setup(self, stage: str) -> None:  # noqa: ARG002
        self.train_part: Interactions = self.data.train

    def on_fit_start(self) -> None:
        self.train_part = self.task.to_device(self.data.train, self.device)

    def train_dataloader(self) -> list[int]:
        return [0]

    def val_dataloader(self) -> list[int]:
        return [0]

    def on_train_epoch_start(self) -> None:
        self.started = time.monotonic()

    def training_step(self, _: int, __: int) -> None:
        epoch, first = self.position
        plan = self.task.epoch(
            self.train_part, self.objective, seed=self.seed, epoch=epoch,
            batch_size=self.fit_config.batch_size, queries=self.queries,
        )  # fmt: skip
        if first == 0:
            self.sums = {}
        for step in range(first, plan.steps):
            self.optimize(plan.batch(step, self.global_rank, self.trainer.world_size), step, plan.steps)
            self.position = (epoch, step + 1)
            if stop_requested():
                break
        else:
            self.position = (epoch + 1, 0)

    queries = 0

    def optimize(self, batch: RankingBatch, step: int, steps: int) -> None:
        """One optimizer step: losses, backward, update."""
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        epoch = self.position[0]
        # Dropout's numbers too are a function of where we are, so that a resumed run draws the same.
        torch.manual_seed(mix(self.seed, self.global_rank, epoch, step))
        terms, weights = self.loss_terms(batch), self.weights(batch)
        loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        lr = self.learning_rate(epoch * steps + step, self.fit_config.epochs * steps)
        for group in optimizer.param_groups:
            group["lr"] = lr
        self.check_finite(loss, terms, step, lr)
        optimizer.zero_grad()
        self.manual_backward(loss)
        if self.fit_config.clip:
            self.clip_gradients(optimizer, gradient_clip_val=self.fit_config.clip)
        optimizer.step()
        # Autocast keeps casts of the weights for the whole training_step; the next step must not see old ones.
        torch.clear_autocast_cache()
        for name, value in (("loss", loss), *terms.items()):
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach()) / steps

    def learning_rate(self, step: int, total: int) -> float:
        if self.fit_config.schedule == "constant":
            return self.fit_config.lr
        return self.fit_config.lr * 0.5 * (1 + math.cos(math.pi * step / max(total, 1)))

    def check_finite(self, loss: Tensor, terms: dict[str, Tensor], step: int, lr: float) -> None:
        """Raises DivergedError, naming the term, before a bad gradient can reach the weights."""
        if math.isfinite(float(loss.detach())):
            return
        bad = [name for name, term in terms.items() if not bool(term.detach().isfinite())] or list(terms)
        raise DivergedError(
            f"training diverged: {', '.join(bad)} is not finite at epoch {self.position[0]}, step {step}",
            where=f"{self.role}, lr={lr:g}{self.describe()}",
            why="the loss became NaN or infinite; the weights before this step are kept in the last checkpoint",
            fix=f"lower the learning rate ({self.role}.fit.lr={lr / 3:.1g}) or clip gradients ({self.role}.fit.clip=1)",
        )

    def describe(self) -> str:
        """More settings for an error message."""
        return ""

    def on_train_epoch_end(self) -> None:
        row = {f"train/{name}": value for name, value in self.sums.items()}
        self.log_dict(row, sync_dist=True)

    # Validation: the same evaluator as for every table.

    def on_validation_epoch_start(self) -> None:
        self.metrics = RankingMetrics(self.data.train.n_items, self.ks).to(self.device)

    def validation_step(self, _: int, __: int) -> None:
        result = self.task.evaluate(
            self.model, self.data, "valid", self.ks, name=self.role,
            rank=self.global_rank, world=self.trainer.world_size,
        )  # fmt: skip
        self.metrics.update(result)

    def on_validation_epoch_end(self) -> None:
        values = self.metrics.compute()
        self.log_dict({f"valid/{name}": value.float() for name, value in values.items()}, sync_dist=False)

    # Only plain containers go into a checkpoint; loop counters of Lightning are left out (see checkpoints.py).

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["recdistill"] = {"position": list(self.position), "sums": dict(self.sums)}
        checkpoint.pop("loops", None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        epoch, step = checkpoint["recdistill"]["position"]
        self.position, self.sums = (epoch, step), dict(checkpoint["recdistill"]["sums"])


class TeacherModule(SupervisedModule):
    """Trains the large model that later teaches."""

    role = "teacher"


class StudentModule(SupervisedModule):
    """Trains the small model without a teacher: the rival that a distilled student must beat."""

    role = "student"
