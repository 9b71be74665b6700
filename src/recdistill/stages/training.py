"""Training one model: everything a process needs is in a :class:`FitSpec` of plain values, so that the same function
trains here, or in each of several processes."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from recdistill.compression.base import Compressed, constrain, read_latent, release
from recdistill.data.interactions import Data, Dataset, Interactions
from recdistill.distillers.base import Distiller
from recdistill.distillers.stored import StoredTeacher
from recdistill.distillers.teacher import FrozenTeacher, LiveTeacher
from recdistill.errors import InputError
from recdistill.evaluation.sampled import negatives_of
from recdistill.export.bundle import INFO, WEIGHTS, load_model, model_info, save_model
from recdistill.export.packing import Codec
from recdistill.models.base import ClosedFormModel, Model
from recdistill.models.build import build, instantiate, instantiate_at
from recdistill.models.fit import Fit
from recdistill.models.given import ReadyMade
from recdistill.models.item_init import initialise_items
from recdistill.modules.checkpoints import LAST, AtomicCheckpointIO, Checkpointer, KeepBest, Stopped
from recdistill.modules.distillation import DistillationModule
from recdistill.modules.mean_teacher import MeanTeacher
from recdistill.modules.mutual import Mutual, MutualModule
from recdistill.modules.progress import History, Progress
from recdistill.modules.supervised import StudentModule, SupervisedModule, TeacherModule
from recdistill.runs.atomic import write_json
from recdistill.runs.stop import deferred, stop_error, stop_requested
from recdistill.stages.blame import keys_below
from recdistill.stages.evaluate import require_made_for, require_same_data
from recdistill.stages.nodes import as_stored, bundle_of
from recdistill.stages.teaching import self_taught, taught_along, teaching_of
from recdistill.stages.transfer import reach_of
from recdistill.stages.withheld import given
from recdistill.tasks.base import Task
from recdistill.tasks.batches import mix
from recdistill.tasks.ranking import Ranking

log = logging.getLogger(__name__)

HISTORY = "history.json"
ALONG = "teacher"  # in the folder of a student, the teacher that was trained along
TRAINING_PARTS = ("train", "valid")


@dataclass(frozen=True)
class FitSpec:
    """One training run, in plain values.

    Attributes:
        title: for people.
        role: "teacher" or "student".
        node: the config of the model: ``net``, ``objective``, ``fit``.
        data: folder of the prepared data.
        folder: where the model goes; a checkpoint found there is gone on from.
        seed, ks, monitor: of the run; ``monitor`` is the validation metric that picks the best epoch.
        trainer: config of the Lightning trainer.
        loggers: configs of Lightning loggers.
        run: folder of the run, for loggers.
        distillers: configs by name; empty for none.
        weighting: config of the weights of their queries; empty for none.
        alpha: share of the soft losses, a number or the config of a schedule.
        teacher: folder of the teacher, for a live one.
        signals: folder of its stored signals; used instead of the live one when given.
        teaching: config of how the teacher learns while it teaches; empty for one that does not.
        peer: config of a teacher that is trained along.
        members: folder of each model that an ensemble is made of, by its name.
        init: folder of the model that training starts from.
        codecs, gradual: constraints under which it is trained, see :mod:`recdistill.compression.base`.
        every_seconds: between checkpoints.
        max_steps: optimizer steps, after which it ends; 0 for all. To try a config out.
        task: its config; ranking where there is none.
        key: of ``node`` in the config of the run, for messages; by default the role.
        labels, privileged: share of the training labels that it is given, and columns that it is not, see
            :mod:`recdistill.stages.withheld`. A live teacher is given all.
    """

    title: str
    role: str
    node: dict[str, Any]
    data: str
    folder: str
    seed: int
    ks: list[int]
    monitor: str
    trainer: dict[str, Any]
    loggers: dict[str, Any] = field(default_factory=dict)
    run: str = "."
    distillers: dict[str, Any] = field(default_factory=dict)
    weighting: dict[str, Any] = field(default_factory=dict)
    alpha: Any = 0.0
    teacher: str | None = None
    signals: str | None = None
    teaching: dict[str, Any] = field(default_factory=dict)
    peer: dict[str, Any] = field(default_factory=dict)
    members: dict[str, str] = field(default_factory=dict)
    init: str | None = None
    codecs: dict[str, Any] = field(default_factory=dict)
    gradual: dict[str, Any] = field(default_factory=dict)
    every_seconds: float = 30.0
    max_steps: int = 0
    task: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    labels: float = 1.0
    privileged: list[str] = field(default_factory=list)


def task_of(spec: FitSpec) -> Task:
    task: Task = instantiate(spec.task) if spec.task else Ranking()
    return task


def fit(spec: FitSpec) -> None:
    """Trains the model and writes it to ``spec.folder`` (the first process does)."""
    with keys_below(spec.key or spec.role, spec.node):
        _fit(spec)


def _fit(spec: FitSpec) -> None:
    quiet_lightning()
    task = task_of(spec)
    whole = task.load(Path(spec.data), TRAINING_PARTS)
    data = given(whole, spec.labels, spec.privileged, seed=spec.seed)
    if bundle := bundle_of(spec.node, spec.key or spec.role):
        take_bundle(bundle, Path(spec.folder), data)
        return
    state, clips_from = starting_point(spec, data, task)
    model = state.model
    history: list[dict[str, float]] = []
    labels = {"share": spec.labels, "seed": spec.seed} if spec.labels < 1 else None
    if isinstance(model, ReadyMade):
        model.make(data, {name: load_model(Path(at), data.train) for name, at in spec.members.items()})
        net = as_stored(spec.node, spec.key or spec.role, spec.members)
        state.net = net | {name: getattr(model, name) for name in model.replaced}
    elif isinstance(model, ClosedFormModel):
        assert isinstance(data.train, Interactions)
        model.fit(data.train.taught)
    else:
        module = make_module(spec, model, data, task, whole)
        module.role, module.negatives = spec.key or spec.role, negatives_of(spec.monitor)
        trainer = make_trainer(spec, validates=len(data.valid) > 0)
        try:
            run_trainer(trainer, module, Path(spec.folder))
        finally:
            close_loggers(trainer)
        history = finish(trainer, module)
        if not trainer.is_global_zero:
            return
        if clips_from:
            release(state.model)
        if isinstance(module, MutualModule):
            peer = module.peer.model
            save_model(Path(spec.folder) / ALONG, peer, spec.peer["net"], data=data.fingerprint, labels=labels)
    save_model(
        Path(spec.folder), model, state.net, codecs=state.codecs, clips=state.clips, data=data.fingerprint,
        labels=labels,
    )  # fmt: skip
    write_json(Path(spec.folder) / HISTORY, history)
    (Path(spec.folder) / LAST).unlink(missing_ok=True)


def take_bundle(bundle: Path, folder: Path, data: Data) -> None:
    """Copies the model of a bundle, whole and of these data.

    Raises:
        InputError: it is neither.
    """
    if (made_for := model_info(bundle)["data"]) != data.fingerprint:
        raise InputError(
            "the bundle is of another data set", where=str(bundle),
            why=f"its data are {made_for or 'unknown'}, these are {data.fingerprint}",
            fix="take the data, filters and split that it was trained on; of other items, say which are the same:"
            " transfer=catalogue transfer.mapping=FILE; lists in a file go by ids: teacher=files",
        )  # fmt: skip
    load_model(bundle, data.train)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, INFO):
        shutil.copyfile(bundle / name, folder / name)


def starting_point(spec: FitSpec, data: Data, task: Task) -> tuple[Compressed, bool]:
    """A new model, or the one to be fine-tuned with the constraints it must keep."""
    if spec.init is None:
        return Compressed(new_model(spec.node, mix(spec.seed, 0x1417), data, task), spec.node["net"]), False
    model = load_model(Path(spec.init), data.train).train()
    codecs = {name: Codec(**codec) for name, codec in spec.codecs.items()}
    state = read_latent(Path(spec.init), model, spec.node["net"], codecs)
    state.gradual = spec.gradual
    constrain(state)
    return state, True


def new_model(node: dict[str, Any], seed: int, data: Data, task: Task) -> Model:
    torch.manual_seed(seed)
    model = build(node["net"], task.schema(data))
    if start := (node.get("fit") or {}).get("item_init"):
        features = data.item_features if isinstance(data, Dataset) else None
        initialise_items(model, start, catalogue(data), "fit.item_init", features)
    model.bind(data.train.taught)
    return model


def catalogue(data: Data) -> Any:
    """Original ids of the items that models know; of the column ``item`` of a table, where there is one."""
    if isinstance(data, Dataset):
        return data.items[: data.train.n_items]
    return data.train.features.vocabularies.get("item", [""])[1:]  # code 0 is no item


def make_module(spec: FitSpec, model: Model, data: Data, task: Task, whole: Data) -> SupervisedModule:
    """What trains the model on ``data``, under a teacher, if any, that sees the ``whole``."""
    objective = instantiate(spec.node["objective"])
    settings: Fit = instantiate(spec.node["fit"])
    common: dict[str, Any] = {"seed": spec.seed, "ks": spec.ks, "max_steps": spec.max_steps, "task": task}
    if spec.role == "teacher":
        return TeacherModule(model, objective, settings, data, **common)
    if not spec.distillers:
        return StudentModule(model, objective, settings, data, **common)
    common |= {"alpha": number(spec.alpha), "weighting": instantiate(spec.weighting) if spec.weighting else None}

    def losses() -> dict[str, Distiller]:
        return {name: instantiate(node) for name, node in spec.distillers.items()}

    how = teaching_of(spec.teaching)
    if isinstance(how, MeanTeacher):
        return self_taught(how, model, objective, settings, data, losses=losses, **common)
    if isinstance(how, Mutual):
        its, its_fit = instantiate(spec.peer["objective"]), instantiate(spec.peer["fit"])
        with keys_below("teacher", spec.peer):
            # From other weights than the student: two that are alike would stay alike.
            peer = new_model(spec.peer, mix(spec.seed, 0x1417, 1), data, task)
        return taught_along(
            how, model, objective, settings, data, peer=peer, its=its, its_fit=its_fit, losses=losses, **common
        )
    distillers = losses()
    layers = sorted({layer for distiller in distillers.values() for layer in distiller.needs().layers})
    teacher = make_teacher(spec, whole, task, layers)
    common["reach"] = reach_of(spec.teacher)
    return DistillationModule(model, objective, settings, data, teacher=teacher, distillers=distillers, **common)


def number(value: Any) -> Any:
    """Alpha: a number, or the schedule that a config describes."""
    return instantiate_at("alpha", value) if isinstance(value, dict) else value


def make_teacher(spec: FitSpec, data: Data, task: Task, layers: Sequence[str] = ()) -> FrozenTeacher:
    if spec.signals is not None:
        stored = StoredTeacher(Path(spec.signals))
        require_made_for(data, stored.data, "the teacher's signals were", Path(spec.signals))
        return stored
    assert spec.teacher is not None
    require_same_data(Path(spec.teacher), data)
    own = partial(task.prepare, data.train) if spec.privileged else None
    return LiveTeacher(load_model(Path(spec.teacher), data.train), None, task.view, layers, own)


def make_trainer(spec: FitSpec, validates: bool) -> pl.Trainer:
    settings: Fit = instantiate(spec.node["fit"])
    loggers = [
        instantiate(node)(save_dir=str(Path(spec.run) / "logs"), name=spec.title.replace(" ", "_"))
        for node in spec.loggers.values()
    ]
    trainer: pl.Trainer = instantiate(
        spec.trainer,
        logger=loggers or False,
        callbacks=[
            History(),
            KeepBest(spec.monitor, settings.patience),
            Progress(spec.title, spec.monitor),
            Checkpointer(Path(spec.folder), spec.every_seconds),
        ],
        plugins=[AtomicCheckpointIO()],
        max_epochs=1 if spec.max_steps else settings.epochs,
        check_val_every_n_epoch=settings.validate_every,
        limit_val_batches=None if validates else 0,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        use_distributed_sampler=False,
    )
    return trainer


def run_trainer(trainer: pl.Trainer, module: SupervisedModule, folder: Path) -> None:
    """Fits, from the last checkpoint if there is one.

    Raises:
        InterruptedByUser, Terminated: a signal came; the checkpoint of the last step is written.
    """
    last = folder / LAST
    if last.exists():
        log.info("going on from %s", last)
    # Of several processes each gets the signal from the terminal and again from the one that started it.
    with deferred(insistence=trainer.world_size == 1):
        try:
            trainer.fit(module, ckpt_path=str(last) if last.exists() else None, weights_only=True)
        except Stopped:
            raise stop_error() from None
        if stop_requested():  # after the last step, before the model is written
            if trainer.world_size == 1:
                trainer.save_checkpoint(last)
            raise stop_error()


def close_loggers(trainer: pl.Trainer) -> None:
    """Ends the runs of the loggers, so that the next training starts its own."""
    for logger in trainer.loggers:
        logger.finalize("success" if trainer.state.finished else "failed")
        close = getattr(logger, "close", None)
        if close is not None:
            close()


def finish(trainer: pl.Trainer, module: SupervisedModule) -> list[dict[str, float]]:
    """Puts the weights of the best epoch back and gives the history."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    best = next(c for c in callbacks if isinstance(c, KeepBest))
    history = next(c for c in callbacks if isinstance(c, History))
    module.cpu()
    if best.weights:
        module.kept.load_state_dict(best.weights)
    elif module.average is not None:  # nothing was validated
        module.average.to(module.device)
        module.average.put_in()
    return history.rows


def quiet_lightning() -> None:
    """Leave out what Lightning says about choices that we made on purpose."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    for message in (
        "does not have many workers", "It is recommended to use.*sync_dist", "isinstance.*LeafSpec",
        "GPU available but not used", "only logged on epoch", "no `.*_dataloader`",
    ):  # fmt: skip
        warnings.filterwarnings("ignore", f".*{message}.*")
