"""The LightningModule that trains a student under a frozen teacher."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from recdistill.config.schedules import schedule_problem
from recdistill.config.types import annotations_of
from recdistill.distillers.base import Distiller, Moment, Setting
from recdistill.distillers.schedules import Mix, Schedule, at
from recdistill.distillers.teacher import FrozenTeacher, LiveTeacher, QuietView, quiet
from recdistill.distillers.weighting import Adaptive, Weighting, effective_share
from recdistill.errors import InputError
from recdistill.models.base import vector_size
from recdistill.models.bridges import Reach
from recdistill.models.fit import Fit
from recdistill.modules.supervised import StudentModule, groups_of, times
from recdistill.tasks.base import Batch, Epoch
from recdistill.tasks.batches import generator, mix
from recdistill.tasks.objectives import Objective


class DistillationModule(StudentModule):
    """loss = (1 - alpha) · hard loss + alpha · Σ weight · distiller.

    Args:
        teacher: answers for the teacher; not a submodule, so nothing that is done to this module reaches it.
        distillers: soft losses by name.
        alpha: share of the soft losses. At 0 the run is, bit for bit, the student alone.
        weighting: of the queries, for soft losses that have a value for each.
        reach: how far a teacher of another domain reaches; None for one of the same. Queries that the teacher knows
            nothing of are not distilled.
        kwargs: as for :class:`SupervisedModule`.

    Raises:
        InputError: a schedule leaves the range of its number, or stands where none may, or no loss has values that
            could be weighted.
    """

    def __init__(
        self, *args: Any, teacher: FrozenTeacher, distillers: dict[str, Distiller], alpha: float | Schedule,
        weighting: Weighting | None = None, reach: Reach | None = None, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(*args, **kwargs)
        self.teacher, self.alpha, self.weighting, self.reach = teacher, alpha, weighting, reach
        self.informed = informed_by(teacher, reach)
        if isinstance(weighting, Adaptive):
            assert reach is not None
            weighting.closeness = reach.closeness
        require_sound(alpha, distillers, weighting, self.task.name)
        # At alpha 0 nothing of them is trained, and DDP refuses parameters without gradients.
        self.soft = distillers if alpha != 0 else {}
        self.distillers = nn.ModuleDict(self.soft)  # for their parameters
        self.queries = self.fit_config.queries if alpha != 0 else 0
        self.every = self.fit_config.every or usual_pause(self.objective, self.fit_config)
        self.watched = sorted({name for distiller in self.soft.values() for name in distiller.layers})
        self.noted: dict[str, float] = {}
        if self.soft:
            self.prepare_distillers()
        DistillationModule.advance(self, 0.0)  # a subclass has not all that its own would set

    def prepare_distillers(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(self.seed, 0xD15))
            setting = self.setting()
            for distiller in self.soft.values():
                distiller.prepare(setting)

    def setting(self) -> Setting:
        """What the distillers may know."""
        part = self.task.prepare(self.data.train, torch.device("cpu"))
        widths = {}
        if self.watched:
            self.teacher.to(torch.device("cpu"), part)
            with torch.no_grad():
                view = self.task.view(self.model.eval(), part, torch.arange(1)).watch(self.watched)
                widths = {name: view.layer(name).shape[1] for name in self.watched}
            self.model.train()
        return Setting(
            vector_size(self.model), self.teacher.dim, widths, self.teacher.widths() if self.watched else {},
            self.data.train.taught, self.task.queries(part), self.teacher.members,
            self.objective.samples != "interactions", self.reach.items if self.reach else None,
            self.model.schema.n_outputs,
        )  # fmt: skip

    def configure_optimizers(self) -> torch.optim.Optimizer:
        # A precision such as bf16-true has cast all parameters; what distillers compare is float32.
        self.distillers.float()
        return super().configure_optimizers()

    def groups(self) -> list[dict[str, Any]]:
        return paced(self.parameters(), self.soft, self.fit_config)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["recdistill"]["taught_by"] = self.teacher.identity

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises InputError: it is of a training under another teacher."""
        before = checkpoint["recdistill"].get("taught_by", self.teacher.identity)
        if before != self.teacher.identity:
            raise InputError(
                "the checkpoint is of a training under another teacher", where=self.role,
                why=f"it learned from {before}, and the teacher here is {self.teacher.identity}",
                fix="remove the checkpoint and run again, or take the teacher of before",
            )  # fmt: skip
        super().on_load_checkpoint(checkpoint)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.teacher.to(self.device, self.train_part)
        self.informed = None if self.informed is None else self.informed.to(self.device)

    def start_epoch(self, epoch: int) -> None:
        if not self.soft:
            return
        self.model.eval()
        first = torch.zeros(1, dtype=torch.int64, device=self.device)
        # Of these views, what depends on no query is computed once. A teacher that learns too is looked at alike.
        student, teacher = self.look(self.model, first), self.teacher.view(first)
        if isinstance(self.teacher, LiveTeacher) and self.teacher.changes:
            teacher = self.look(self.teacher.model, first)
        moment = Moment(
            epoch, self.fit_config.epochs, self.task.queries(self.train_part), student.of, teacher.of,
            generator(self.device, self.seed, epoch, 0xE90), self.teacher.changes,
        )  # fmt: skip
        for distiller in self.soft.values():
            distiller.start_epoch(moment)
        self.model.train()

    def look(self, model: Any, queries: Tensor) -> QuietView:
        """The answers of a model in training at a look, without gradients."""
        with quiet(self.device):
            return QuietView(self.task.look(model, self.train_part, queries))

    def advance(self, progress: float) -> None:
        alpha = at(self.alpha, progress)
        self.noted = {"alpha": alpha} if isinstance(self.alpha, Schedule) else {}
        self.coefficients = {self.objective.name: 1 - alpha}
        for name, distiller in self.soft.items():
            self.noted |= {f"{name}.{key}": value for key, value in distiller.advance(progress).items()}
            self.coefficients[name] = alpha * distiller.weight

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        student, rng = self.step_view(batch), generator(self.device, batch.seed)
        hard = self.hard_loss(batch, student, rng)
        if not self.soft or not self.due:
            return {self.objective.name: self.with_all(hard)}
        student, batch = self.known(student, batch)
        teacher = self.teacher.view(batch.query)
        return {self.objective.name: hard, **self.soft_terms(student, teacher, batch, rng)}

    def known(self, student: Any, batch: Any) -> tuple[Any, Any]:
        """The student's view and the batch without the queries that the teacher knows nothing of. Where none is left
        one stays, at weight 0."""
        if self.informed is None:
            return student, batch
        keep = self.informed[batch.query]
        query = batch.query[keep] if batch.query_weight else batch.query[:1]
        return student.of(query), replace(batch, query=query)

    def parts(self, plan: Epoch, step: int) -> list[Batch]:
        batches = super().parts(plan, step)
        return self.weighed(batches) if self.informed is not None and self.due else batches

    def weighed(self, batches: list[Batch]) -> list[Batch]:
        """Each part weighs as much as it has of the queries of the step, of all processes, that the teacher knows."""
        assert self.informed is not None
        counts = torch.stack([self.informed[batch.query].sum() for batch in batches]).float()
        total, share = counts.sum(), len(batches)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(total)
            share *= torch.distributed.get_world_size()
        weights = (share * counts / total.clamp(min=1)).tolist()
        return [replace(batch, query_weight=weight) for batch, weight in zip(batches, weights, strict=True)]  # type: ignore[type-var]

    def step_view(self, batch: Batch) -> Any:
        """The model's answers in this step."""
        view = self.task.batch_view(self.model, batch, self.train_part)
        return view.watch(self.watched) if self.watched and self.due else view

    def soft_terms(self, student: Any, teacher: Any, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        weights = self.weights(student, teacher, batch)
        factor = batch.query_weight * self.steps / math.ceil(self.steps / self.every)
        terms = {name: times(factor, mean(distiller(student, teacher, rng), weights))
                 for name, distiller in self.soft.items()}  # fmt: skip
        for name, distiller in self.soft.items():
            for part, (value, share) in distiller.parts.items():
                own = {f"{name}.{part}": value, f"{name}.weighted.{part}": self.coefficients[name] * share * value}
                self.noted |= {key: float(times(factor, noted)) for key, noted in own.items()}
        return terms

    def with_all(self, loss: Tensor) -> Tensor:
        """The loss of a step that does not distil; DDP waits for a gradient of every parameter."""
        if torch.distributed.is_initialized():
            for parameter in self.distillers.parameters():
                loss = loss + 0 * parameter.sum()
        return loss

    @property
    def due(self) -> bool:
        """Whether this step distils. The soft losses of those that do stand for the others too."""
        return self.position[1] % self.every == 0

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:  # noqa: ARG002
        if not self.due:  # zeros that DDP has averaged: without a gradient nothing is updated
            for parameter in self.distillers.parameters():
                parameter.grad = None

    def weights(self, student: Any, teacher: Any, batch: Batch) -> Tensor | None:
        """Factors ``[Q]`` of the queries, whose mean over the step of all processes is 1; None for none."""
        if self.weighting is None:
            return None
        factors = self.weighting(student, teacher)
        average = batch.query_weight * factors.mean()
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(average)
            average = average / torch.distributed.get_world_size()
        weights = torch.where(average > 0, factors / average.clamp(min=1e-30), torch.ones_like(factors))
        often = self.steps / math.ceil(self.steps / self.every)  # so that the mean is over the steps that distil
        self.noted["weighting.sd"] = often * float(weights.std(correction=0))
        if isinstance(self.weighting, Adaptive):
            self.noted["weighting.mean"] = often * float(factors.mean())
            self.noted["weighting.effective"] = often * float(effective_share(factors))
        return weights

    def step_facts(self, values: dict[str, float]) -> dict[str, float]:
        """The terms times their factors, ``alpha · weight`` or ``1 - alpha``, and what is scheduled."""
        return self.weighted(values) | self.noted if self.soft else {}

    def weighted(self, values: dict[str, float]) -> dict[str, float]:
        """The terms times their factors."""
        present = [name for name in self.coefficients if name in values]
        return {f"{name}.weighted": self.coefficients[name] * values[name] for name in present}

    def describe(self) -> str:
        temperatures = {n: d.temperature for n, d in self.soft.items() if hasattr(d, "temperature")}
        alpha = 1 - self.coefficients[self.objective.name]
        return f", alpha={alpha:g}" + "".join(f", {n}.temperature={t:g}" for n, t in temperatures.items())


def informed_by(teacher: FrozenTeacher, reach: Reach | None) -> Tensor | None:
    """bool ``[Q]``, of which queries the teacher knows something; None where of all."""
    found = [] if reach is None else [reach.queries]
    found += [] if teacher.informed is None else [teacher.informed]
    known = torch.stack([part.cpu() for part in found]).all(0) if found else None
    return None if known is None or bool(known.all()) else known


def paced(trained: Iterable[nn.Parameter], distillers: dict[str, Distiller], fit: Fit) -> list[dict[str, Any]]:
    """What is trained, as the optimizer wants it: what distillers with a learning rate of their own learn is apart."""
    apart = [(list(d.parameters()), d.lr) for d in distillers.values() if d.lr is not None]
    known = {id(parameter) for own, _ in apart for parameter in own}
    groups = groups_of((parameter for parameter in trained if id(parameter) not in known), fit)
    return groups + [group for own, lr in apart for group in groups_of(own, fit, lr)]


def usual_pause(objective: Objective, fit: Fit) -> int:
    """Steps from one that distils to the next: 1, or so many that distilling a list of each query takes about half as
    long as the hard loss of the samples in between."""
    return max(1, round(48 * fit.queries / fit.batch_size)) if objective.samples == "interactions" else 1


def mean(loss: Tensor, weights: Tensor | None) -> Tensor:
    """The loss of a step, from that of each query ``[Q]`` or the mean itself."""
    if not loss.dim():
        return loss
    return loss.mean() if weights is None else (loss * weights).mean()


def require_sound(
    alpha: float | Schedule, distillers: dict[str, Distiller], weighting: Weighting | None, task: str
) -> None:
    """Raises InputError for a schedule with values that the number must not have, for weights of queries that the task
    can't have or where no loss has values that could be weighted, and where no distiller teaches."""
    if distillers and not any(distiller.teaches for distiller in distillers.values()):
        raise InputError(
            f"{' and '.join(distillers)} teaches nothing by itself", where="distiller",
            fix=f"put it beside a distiller: distiller=[soft_label,{next(iter(distillers))}]",
        )  # fmt: skip
    if weighting is not None and not any(distiller.per_query for distiller in distillers.values()):
        raise InputError(
            f"{' and '.join(distillers)} can't be weighted by query: the loss is one value for a step" if distillers
            else "there is no distiller whose queries could be weighted",
            where="weighting", fix=f"weighting=none, or {'another' if distillers else 'a'} distiller",
        )  # fmt: skip
    if weighting is not None and task not in weighting.tasks:
        raise InputError(
            f"{type(weighting).__name__} weighs by the teacher's probabilities, which a {task} has not",
            where="weighting", why="its answer is one number, and says nothing of how sure it is",
            fix="weighting=gap, for how far the student is from it; or weighting=none",
        )  # fmt: skip
    require_schedule("alpha", alpha, {"alpha": Mix})
    for name, distiller in distillers.items():
        arguments = annotations_of(type(distiller))
        for key in vars(distiller).keys() & arguments.keys():
            require_schedule(f"distiller.{name}.{key}", vars(distiller)[key], arguments)


def require_schedule(key: str, value: Any, annotations: dict[str, Any]) -> None:
    """Raises InputError for a schedule where none may stand, or whose values the number must not have."""
    if isinstance(value, Schedule) and (problem := schedule_problem(key, value, annotations)):
        where, message, fix = problem
        raise InputError(message, where=where, fix=fix)
