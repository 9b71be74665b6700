"""Teacher and student that train together: each may learn from the other's answers of the same step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from recdistill.distillers.schedules import Mix
from recdistill.distillers.teacher import LiveTeacher, QuietView
from recdistill.errors import DivergedError, InputError
from recdistill.models.base import Model, vector_size
from recdistill.models.fit import Fit
from recdistill.modules.distillation import DistillationModule, paced
from recdistill.modules.supervised import learning_rate
from recdistill.tasks.base import Epoch
from recdistill.tasks.batches import generator

ALONG = "teacher."  # of the teacher's terms: teacher.softmax


@dataclass(frozen=True)
class Mutual:
    """A teacher that is trained along with its student.

    Source: Zhang et al., Deep mutual learning, CVPR 2018. With ``back`` 0 and ``shared`` layers, Zhou et al., Rocket
    launching, AAAI 2018: the light net and its booster share their lower layers, and the booster learns nothing of the
    hint.

    Args:
        back: share of the soft losses in the teacher's loss, as alpha is in the student's; 0 for labels alone.
        shared: submodules, by their names, that both models have in common.
    """

    back: Mix = 0.5
    shared: list[str] = field(default_factory=list)


class Detached(QuietView):
    """Another view, whose answers are detached: those that its own losses of the step use, computed once."""

    def of(self, users: Tensor) -> Detached:
        return Detached(self.inner.of(users))

    def flipped(self, items: Tensor) -> Detached:
        return Detached(self.inner.flipped(items))

    def members(self) -> list[QuietView]:
        return [Detached(view) for view in self.inner.members()]

    def _quietly(self, name: str, *arguments: Any) -> Any:
        answer = getattr(self.inner, name)(*arguments)
        return tuple(part.detach() for part in answer) if isinstance(answer, tuple) else answer.detach()


class Peer(LiveTeacher):
    """A model that learns while it teaches, asked between two of its steps.

    Args:
        model: which stays trainable, and in the mode that it is in.
        ask, layers: see :class:`~recdistill.distillers.teacher.LiveTeacher`.
    """

    changes = True

    def __init__(self, model: Model, ask: Any, layers: list[str]):
        self.model, self.train, self.ask, self.layers, self.own = model, None, ask, layers, None
        self.dim, self.members = vector_size(model), 1

    def widths(self) -> dict[str, int]:
        with evaluating(self.model):
            return super().widths()


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Inside, the models are in eval mode."""
    before = [model.training for model in models]
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for model, training in zip(models, before, strict=True):
            model.train(training)


@dataclass(frozen=True)
class Both:
    """What student and teacher learn from in a step.

    Attributes:
        own, other: batches of the student and of the teacher; what is distilled is the query of the former.
    """

    own: Any
    other: Any


@dataclass(frozen=True)
class BothEpochs:
    """One pass over the data for both models, in as many steps; the teacher's begins anew where it is too short."""

    own: Epoch
    other: Epoch

    @property
    def steps(self) -> int:
        return self.own.steps

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Both:
        return Both(self.own.batch(step, rank, world), self.other.batch(step % self.other.steps, rank, world))


class MutualModule(DistillationModule):
    """Of the student as :class:`DistillationModule`, plus the same of the teacher with the roles swapped:

    (1 - alpha) · hard_s + alpha · Σ weight · d(s, t) + (1 - back) · hard_t + back · Σ weight · d(t, s),

    where the second argument of d is detached: one sum trains both, each by its own hard loss, learning rate, decay and
    clipping. What is validated, and picks the best epoch, is the student; epochs, batches and all else of ``fit`` are
    its own too.

    Args:
        peer: the teacher's side, whose ``teacher`` is the student; its alpha is ``back``.
        args, kwargs: of the student's side, whose ``teacher`` is a :class:`Peer`.
    """

    def __init__(self, *args: Any, peer: DistillationModule, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.peer = peer
        for side, other in ((self, peer), (peer, self)):
            asked = {name for distiller in other.soft.values() for name in distiller.needs().layers}
            side.watched = sorted({*side.watched, *asked})
        if peer.soft:
            self.queries = self.fit_config.queries
        self.advance(0.0)

    @property
    def kept(self) -> nn.Module:
        return nn.ModuleList([self.model, self.peer.model])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        self.peer.distillers.float()
        return super().configure_optimizers()

    def groups(self) -> list[dict[str, Any]]:
        own = [*self.model.parameters(), *self.distillers.parameters()]
        known = {id(parameter) for parameter in own}
        rest = [parameter for parameter in self.peer.parameters() if id(parameter) not in known]
        taught = [{**group, "along": True} for group in paced(rest, self.peer.soft, self.peer.fit_config)]
        return [{**group, "along": False} for group in paced(own, self.soft, self.fit_config)] + taught

    def set_learning_rate(self, optimizer: LightningOptimizer, step: int, total: int) -> None:
        for group in optimizer.param_groups:
            fit = self.peer.fit_config if group["along"] else self.fit_config
            group["lr"] = group["lr_scale"] * learning_rate(fit, step, total)

    def clip(self, optimizer: LightningOptimizer) -> None:
        for side, along in ((self, False), (self.peer, True)):
            self.limit([g for g in optimizer.param_groups if g["along"] == along], side.fit_config.clip)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.peer.train_part = self.train_part
        self.peer.teacher.to(self.device, self.train_part)

    def start_epoch(self, epoch: int) -> None:
        models = self.model, self.peer.model
        with evaluating(*models):
            super().start_epoch(epoch)
        with evaluating(*models):
            self.peer.start_epoch(epoch)

    def plan(self, epoch: int) -> BothEpochs:
        own = super().plan(epoch)
        other: Any = self.task.epoch(
            self.train_part, self.peer.objective, seed=self.seed, epoch=epoch,
            batch_size=self.fit_config.batch_size, queries=self.queries,
        )  # fmt: skip
        if other.steps != own.steps:  # in a ranking, where samples of one loss are users, of the other interactions
            other = replace(other, steps=min(own.steps, len(other.user)))
        return BothEpochs(own, other)

    def advance(self, progress: float) -> None:
        super().advance(progress)
        self.peer.advance(progress)
        self.noted |= along(self.peer.noted)
        self.coefficients |= along(self.peer.coefficients)

    def loss_terms(self, batch: Any) -> dict[str, Tensor]:
        own, other, peer = batch.own, batch.other, self.peer
        peer.position, peer.steps, peer.every = self.position, self.steps, self.every
        # Bit for bit what the student alone draws: it comes first.
        student, rng = self.step_view(own), generator(self.device, own.seed)
        hard = self.hard_loss(own, student, rng)
        teacher, its_rng = peer.step_view(other), generator(self.device, other.seed)
        its_hard = peer.hard_loss(other, teacher, its_rng)
        if not self.due:
            return {self.objective.name: self.with_all(hard), **along({peer.objective.name: peer.with_all(its_hard)})}
        terms, its_terms = {self.objective.name: hard}, {peer.objective.name: its_hard}
        if not torch.equal(own.query, other.query):
            teacher = teacher.of(own.query)
        if self.soft:
            terms |= self.soft_terms(student, Detached(teacher), own, rng)
        if peer.soft:
            its_terms |= peer.soft_terms(teacher, Detached(student), own, its_rng)
            self.noted |= along(peer.noted)
        return {**terms, **along(its_terms)}

    def diverged(self, values: dict[str, float], step: int, lr: float) -> DivergedError:
        error = super().diverged(values, step, lr)
        # An endless answer of one makes the soft losses of the other endless too.
        own, its = (math.isfinite(values[name]) for name in (self.objective.name, ALONG + self.peer.objective.name))
        if own and not its:
            rate = self.peer.fit_config.lr / 3
            error.fix = f"lower the teacher's learning rate (teacher.fit.lr={rate:.1g}) or clip (teacher.fit.clip=1)"
        return error

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        self.peer.on_before_optimizer_step(optimizer)


def along(values: dict[str, Any]) -> dict[str, Any]:
    """Values of the teacher under names of their own."""
    return {f"{ALONG}{name}": value for name, value in values.items()}


def fit_along(student: Fit, teacher: Fit) -> Fit:
    """How a teacher is trained along: by its own learning rate and schedule of it, decay and clipping, in the student's
    steps.

    Raises:
        InputError: an average of its weights is asked for.
    """
    if teacher.ema:
        raise InputError(
            "of a teacher that is trained along no average is kept", where="teacher.fit.ema",
            fix="teacher.fit.ema=0; that of the student is student.fit.ema",
        )  # fmt: skip
    names = ("lr", "weight_decay", "decay", "schedule", "warmup", "clip")
    return replace(student, ema=0.0, **{name: getattr(teacher, name) for name in names})


def share_layers(student: Model, teacher: Model, names: list[str]) -> None:
    """Gives the student the teacher's submodules of these names, in the place of its own.

    Raises:
        InputError: one of them has none of a name, or they are not alike.
    """
    for name in names:
        parts = [dict(model.named_modules()).get(name) for model in (student, teacher)]
        shapes = [{k: list(v.shape) for k, v in part.state_dict().items()} if part else {} for part in parts]
        own, its = parts
        if own is None or its is None or type(own) is not type(its) or shapes[0] != shapes[1]:
            named = zip(parts, shapes, strict=True)
            said = [f"{type(part).__name__} {size}" if part else "nothing" for part, size in named]
            raise InputError(
                f"student and teacher can't share {name!r}", where="teaching.shared",
                why=f"that of the student is {said[0]}, of the teacher {said[1]}",
                fix="teaching.shared=[PART, ...]: parts that both have in the same sizes, as the fields of task=ctr",
            )  # fmt: skip
        student.set_submodule(name, its)
