"""The LightningModules of teacher and student, and the training loop they share.

One Lightning batch is one epoch: ``training_step`` makes all optimizer steps of it. Lightning's work per batch is a
visible share of a small recommender's step; here it is paid once per epoch, while its hooks around backward and
optimizer step, gradient scaling, DDP and ``global_step`` stay per step (docs/training.md).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from recdistill.compression.gradual import gradual_rules
from recdistill.data.interactions import Data
from recdistill.data.withheld import labels_left
from recdistill.errors import DivergedError, InputError
from recdistill.evaluation.sampled import sampled_name
from recdistill.models.base import Model
from recdistill.models.fit import Fit
from recdistill.models.tables.base import read_form, tables_of, with_penalties
from recdistill.modules.average import Average
from recdistill.tasks.base import Batch, Epoch, Task
from recdistill.tasks.batches import generator, mix
from recdistill.tasks.objectives import Objective
from recdistill.tasks.ranking import Ranking


class SupervisedModule(pl.LightningModule):
    """Trains a model on its task's hard loss.

    Args:
        model: the model, already bound to the data.
        objective: the hard loss.
        fit: how to train.
        data: the data set; ``test`` is never read here.
        task: what batches, answers and metrics are; ranking by default.
        seed: of everything random in training.
        ks: list lengths of the validation metrics.
        max_steps: of each epoch, 0 for all; to try a config out.

    Attributes:
        negatives: items a user that validation ranks the relevant ones among; None for all.
        position: the epoch, and how many of its steps are done.
        first_step: optimizer steps that were made before this process, by one that stopped.
        coefficients: the factor of each term in the loss.
        train_part: the training part, as the task cuts batches from it.
        queries: how many answers are distilled in a step.
        steps: of the epoch.
        average: of the model's weights, where ``fit.ema`` asks for it.
        gradual: masks of weights that grow while it trains, and what they mask.
        tables: the model's compressed ones.
        after_step: called after each step; a callback puts itself there.
    """

    role = "model"
    negatives: int | None = None

    def __init__(
        self, model: Model, objective: Objective, fit: Fit, data: Data, *, seed: int, ks: list[int],
        max_steps: int = 0, task: Task | None = None,
    ):  # fmt: skip
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        objective.bind(data.train)
        self.objective, self.fit_config, self.data = objective, fit, data
        self.unlabelled = data.train.labelled is not None and not labels_left(data.train)[0]
        self.task = task or Ranking()
        self.train_part: Any = None
        self.seed, self.ks, self.max_steps = seed, ks, max_steps
        self.queries, self.steps = 0, 1
        self.coefficients = {objective.name: 1.0}
        self.average = Average(model, fit.ema) if fit.ema else None
        self.tables = list(tables_of(model).values())
        self.position, self.first_step = (0, 0), 0
        self.sums: dict[str, float] = {}
        self.started = 0.0
        self.gradual = gradual_rules(model)
        self.after_step: Callable[[], None] = _nothing

    # What a subclass adds to.

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Named terms of the loss. Their average over processes is the mean over the whole step."""
        view = self.task.batch_view(self.model, batch, self.train_part)
        rng = generator(self.device, batch.seed)
        return {self.objective.name: self.hard_loss(batch, view, rng)}

    def hard_loss(self, batch: Batch, view: Any, rng: torch.Generator) -> Tensor:
        """The hard loss; 0 of every weight where not one label is known."""
        if self.unlabelled:
            return torch.stack([0.0 * p.sum() for p in self.model.parameters() if p.requires_grad]).sum()
        return times(batch.weight, self.objective(self.model, batch, view, rng))

    def start_epoch(self, epoch: int) -> None:
        """What is looked up once an epoch."""

    def advance(self, progress: float) -> None:
        """Sets what changes while training goes on; ``progress`` is from 0 at the first step towards 1."""

    def step_facts(self, values: dict[str, float]) -> dict[str, float]:  # noqa: ARG002
        """What is logged of a step beside the ``values`` of its terms."""
        return {}

    def describe(self) -> str:
        """More settings for an error message."""
        return ""

    # The loop.

    def configure_optimizers(self) -> torch.optim.Optimizer:
        # The CPU default of Adam is five times slower than the fused one.
        return torch.optim.Adam(self.groups(), lr=self.fit_config.lr, fused=True)

    def groups(self) -> list[dict[str, Any]]:
        """What is trained, as the optimizer wants it."""
        return groups_of(self.parameters(), self.fit_config)

    def on_fit_start(self) -> None:
        self.train_part = self.task.prepare(self.data.train, self.device)
        if self.average is not None:
            self.average.to(self.device)

    def train_dataloader(self) -> list[int]:
        return [0]

    def val_dataloader(self) -> list[int]:
        return [0]

    def on_train_epoch_start(self) -> None:
        self.started = time.monotonic()

    def training_step(self, _: int, __: int) -> None:
        """All steps of the epoch that are not done yet."""
        epoch, done = self.position
        if not done:
            self.sums = {}
            self.start_epoch(epoch)
        plan = self.plan(epoch)
        self.steps = plan.steps
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        for step in range(done, min(plan.steps, self.max_steps or plan.steps)):
            at, total = epoch * plan.steps + step, self.fit_config.epochs * plan.steps
            self.set_learning_rate(optimizer, at, total)
            self.advance(at / total)
            for rule, weight in self.gradual:
                rule.advance(weight, at / total)
            for name, value in self.optimize(optimizer, self.parts(plan, step), step).items():
                self.sums[name] = self.sums.get(name, 0.0) + value / plan.steps
            self.position = (epoch, step + 1)
            self.after_step()
        self.share_sums()

    def plan(self, epoch: int) -> Epoch:
        """The batches of an epoch."""
        return self.task.epoch(
            self.train_part, self.objective, seed=self.seed, epoch=epoch,
            batch_size=self.fit_config.batch_size, queries=self.queries,
        )  # fmt: skip

    def share_sums(self) -> None:
        """Averages the logged values over processes; they may be averaged at any time and summed up further."""
        if self.trainer.world_size > 1 and self.sums:
            values = torch.tensor(list(self.sums.values()), dtype=torch.float64, device=self.device)
            torch.distributed.all_reduce(values)
            self.sums = dict(zip(self.sums, (values / self.trainer.world_size).tolist(), strict=True))

    def parts(self, plan: Epoch, step: int) -> list[Batch]:
        """This process's share of a step, cut like that of a process once more where gradients accumulate."""
        count = self.fit_config.accumulate
        first, world = self.global_rank * count, self.trainer.world_size * count
        return [plan.batch(step, first + part, world) for part in range(count)]

    def optimize(self, optimizer: LightningOptimizer, parts: list[Batch], step: int) -> dict[str, float]:
        """One optimizer step: losses, backward, update. Gives the values of the loss and its terms."""
        # Dropout's numbers too are a function of where we are, so that a resumed run draws the same.
        seed_device(self.device, mix(self.seed, self.global_rank, self.position[0], step))
        optimizer.zero_grad()
        named: dict[str, float] = {}
        forms = max((len(table.prefixes) for table in self.tables), default=0) or 1
        parts = [part for part in parts for _ in range(forms)]
        for at, part in enumerate(parts):
            read_form(self.tables, at % forms)
            terms = self.loss_terms(part)
            loss = with_penalties(weighted_sum(terms, self.coefficients), terms, self.tables)
            # One copy for all, since each is a wait for the device.
            values = torch.stack([loss.detach(), *(term.detach() for term in terms.values())]).tolist()
            found = dict(zip(("loss", *terms), values, strict=True))
            if not math.isfinite(values[0]):
                raise self.diverged(found, step, optimizer.param_groups[0]["lr"])
            self.manual_backward(times(1 / len(parts), loss))
            for name, value in {**found, **self.step_facts(found)}.items():
                named[name] = named.get(name, 0.0) + value / len(parts)
        self.clip(optimizer)
        optimizer.step()
        if self.average is not None:
            self.average.update()
        return named

    def clip(self, optimizer: LightningOptimizer) -> None:
        self.limit(optimizer.param_groups, self.fit_config.clip)

    def limit(self, groups: list[dict[str, Any]], norm: float) -> None:
        """Limits the norm of a gradient, also where half precision has scaled it (fused optimizers unscale late).

        Args:
            norm: 0 for no limit.
        """
        if not norm:
            return
        scaler: torch.amp.GradScaler | None = getattr(self.trainer.precision_plugin, "scaler", None)
        scale = scaler.get_scale() if scaler is not None else 1.0
        torch.nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], norm * scale)

    def set_learning_rate(self, optimizer: LightningOptimizer, step: int, total: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = group["lr_scale"] * learning_rate(self.fit_config, step, total)

    def diverged(self, values: dict[str, float], step: int, lr: float) -> DivergedError:
        """The error that names the term; it is raised before a bad gradient can reach the weights."""
        bad = [name for name, value in values.items() if name != "loss" and not math.isfinite(value)] or ["loss"]
        return DivergedError(
            f"training diverged: {', '.join(bad)} is not finite at epoch {self.position[0]}, step {step}",
            where=f"{self.role}, lr={lr:g}{self.describe()}",
            why="the loss became NaN or infinite; the weights before this step are kept in the last checkpoint",
            fix=f"lower the learning rate ({self.role}.fit.lr={lr / 3:.1g}) or clip gradients ({self.role}.fit.clip=1)",
        )

    def on_train_epoch_end(self) -> None:
        self.log_dict({f"train/{name}": value for name, value in self.sums.items()})
        self.position = (self.position[0] + 1, 0)

    @property
    def kept(self) -> nn.Module:
        """What the best epoch is kept of."""
        return self.model

    # Validation: the same evaluator as for every table, of the averaged weights where there are any. Callbacks, such as
    # the one that keeps the best weights, see these too: their on_validation_end comes before ours.

    def on_validation_start(self) -> None:
        if self.average is not None:
            self.average.put_in()

    def on_validation_end(self) -> None:
        if self.average is not None:
            self.average.take_out()

    def on_validation_epoch_start(self) -> None:
        self.metrics = self.task.metrics(self.data, self.ks).to(self.device)

    def validation_step(self, _: int, __: int) -> None:
        how: dict[str, Any] = {"rank": self.global_rank, "world": self.trainer.world_size}
        how |= {} if self.negatives is None else {"negatives": self.negatives}
        self.task.evaluate(self.model, self.data, "valid", self.ks, name=self.role, **how).add_to(self.metrics)

    def on_validation_epoch_end(self) -> None:
        found = {sampled_name(name, self.negatives): value for name, value in self.metrics.compute().items()}
        self.log_dict({f"valid/{name}": value.float() for name, value in found.items()}, sync_dist=False)

    # Only plain containers go into a checkpoint; loop counters of Lightning are left out (see checkpoints.py).

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.share_sums()
        checkpoint["recdistill"] = {
            "position": list(self.position), "sums": dict(self.sums), "global_step": self.trainer.global_step,
            "average": dict(self.average.values) if self.average is not None else {},
        }  # fmt: skip
        checkpoint.pop("loops", None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        shapes = {name: tensor.shape for name, tensor in checkpoint["state_dict"].items()}
        if shapes != {name: tensor.shape for name, tensor in self.state_dict().items()}:
            raise InputError(
                "this is not a checkpoint of this training", where=self.role,
                why="it holds other weights", fix="remove it and run again",
            )  # fmt: skip
        own = checkpoint["recdistill"]
        self.position, self.sums = (own["position"][0], own["position"][1]), dict(own["sums"])
        self.first_step = own["global_step"]
        if self.average is not None:
            self.average.values = dict(own["average"])


def seed_device(device: torch.device, seed: int) -> None:
    """``torch.manual_seed`` for one device.

    Without a GPU the original takes .7 ms a call: it keeps all calls, and where they came from, for later.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def groups_of(parameters: Iterable[nn.Parameter], fit: Fit, lr: float | None = None) -> list[dict[str, Any]]:
    """Those that are trained, with and without decay, which pulls vectors towards 0; a bias has a scale of its own. The
    learning rate is ``lr``, or ``fit``'s."""
    trained = [p for p in parameters if p.requires_grad]
    scale = 1.0 if lr is None else lr / fit.lr
    common = {"lr": scale * fit.lr, "lr_scale": scale, "decoupled_weight_decay": fit.decay == "decoupled"}
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": fit.weight_decay, **common},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0, **common},
    ]
    return [group for group in groups if group["params"]]


def learning_rate(fit: Fit, step: int, total: int) -> float:
    """That of a step of ``total``: linear in the warm-up, then by the schedule."""
    if step < fit.warmup:
        return fit.lr * ((step + 1) / fit.warmup)
    if fit.schedule == "cosine":
        return fit.lr * (0.5 * (1 + math.cos(math.pi * (step - fit.warmup) / max(total - fit.warmup, 1))))
    return fit.lr


def times(factor: float, term: Tensor) -> Tensor:
    """A product that costs nothing for a factor of 1."""
    return term if factor == 1.0 else factor * term


def weighted_sum(terms: dict[str, Tensor], coefficients: dict[str, float]) -> Tensor:
    """Σ coefficient · term."""
    parts = [times(coefficients[name], term) for name, term in terms.items()]
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum()


def _nothing() -> None:
    pass


class TeacherModule(SupervisedModule):
    """Trains the large model that later teaches."""

    role = "teacher"


class StudentModule(SupervisedModule):
    """Trains the small model without a teacher: the rival that a distilled student must beat."""

    role = "student"
