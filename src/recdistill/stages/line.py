"""The line: data, teacher, signals, student, compression. Each stop is computed when it is first asked for, and only if
its output is not in the cache; a stop's key holds all that its output depends on, so no stop is ever out of date."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from recdistill.compression.base import CompressionPass, materialised
from recdistill.compression.quantize import Quantize
from recdistill.data import store as data_store
from recdistill.data.interactions import Data, Dataset
from recdistill.data.prepare import prepare
from recdistill.data.sources.base import PARTS
from recdistill.distillers.base import Distiller, Needs
from recdistill.distillers.signals import check_needs, compute_signals
from recdistill.errors import InputError
from recdistill.evaluation.metrics import direction
from recdistill.export.bundle import load_model, model_info, save_model
from recdistill.models.base import FactorModel, SequenceModel
from recdistill.models.build import instantiate
from recdistill.modules.distillation import require_sound
from recdistill.runs.store import Store
from recdistill.stages import tune
from recdistill.stages.compress import compress
from recdistill.stages.evaluate import require_same_data
from recdistill.stages.launch import launch, processes
from recdistill.stages.nodes import Member, class_of, given_files, is_made, members_of, merged, target_of, with_members
from recdistill.stages.training import TRAINING_PARTS, FitSpec, number
from recdistill.tasks.base import Task
from recdistill.tasks.ranking import Ranking

log = logging.getLogger(__name__)


class Line:
    """The stops of one config.

    Args:
        cfg: the resolved config.
        folder: of the run, for loggers.
        max_steps: optimizer steps of each training, 0 for all; for trying a config out.
    """

    def __init__(self, cfg: dict[str, Any], folder: Path, max_steps: int = 0):
        self.cfg, self.folder, self.max_steps = cfg, folder, max_steps
        self.store = Store(Path(cfg["cache"]))
        self.task: Task = instantiate(cfg["task"])
        self.require_sound()

    def require_sound(self) -> None:
        """Refuses, before anything is read or trained, what only fails at the end of the line.

        Raises:
            InputError: the trainer's devices are not there, a distiller wants vectors that the teacher or student
                has not, or a pass can't be applied in its place.
        """
        processes(self.cfg["trainer"])
        if "max_epochs" in self.cfg["trainer"]:
            raise InputError(
                "each training has its own number of epochs", where="trainer.max_epochs",
                fix="teacher.fit.epochs=20, student.fit.epochs=20",
            )  # fmt: skip
        self.task.require_metric(self.cfg["evaluation"]["metric"])
        soft: dict[str, Distiller] = {name: instantiate(node) for name, node in self.distillers.items()}
        for name, distiller in soft.items():
            self.task.require_distiller(distiller, f"distiller.{name}")
        weighting = self.cfg.get("weighting")
        require_sound(number(self.cfg["alpha"]), soft, instantiate(weighting) if weighting else None)
        for name, node in dict(self.cfg.get("baselines") or {}).items():
            tune.combinations(node, f"baselines.{name}")
            self.task_for(node, name)
        for role in ("teacher", "student"):
            for part in with_members(Member(role, self.cfg[role], self.cfg["task"])):
                tune.stated(part.node, part.key)
                task: Task = instantiate(part.task)
                task.require_model(class_of(part.node, part.key), f"{part.key}.net")
                if part.node.get("objective"):
                    objective = target_of(part.node["objective"], f"{part.key}.objective")
                    task.require_objective(objective, f"{part.key}.objective")
            model = class_of(self.cfg[role], role)
            if self.cfg["alpha"] and self.needs.embeddings and not issubclass(model, FactorModel | SequenceModel):
                raise InputError(
                    f"the {role} {model.__name__} has no user and item vectors, which a distiller needs",
                    where="distiller", fix=f"leave out hint, or choose {role}=mf or {role}=lightgcn",
                )  # fmt: skip
        net, earlier = dict(self.cfg["student"]["net"]), list[CompressionPass]()
        for node in dict(self.cfg.get("compression") or {}).values():
            step: CompressionPass = instantiate(node)
            net = step.check(net, earlier)
            earlier.append(step)

    # Data.

    @cached_property
    def data_folder(self) -> Path:
        node = self.cfg["data"]
        source, filters, split = (instantiate(node[name]) for name in ("source", "filters", "split"))
        depends_on = {
            "format": data_store.FORMAT, "source": node["source"]["_target_"], "content": source.fingerprint(),
            "filters": node["filters"], "split": node["split"],
        }  # fmt: skip
        return self.store.obtain(
            "data", depends_on, lambda folder: data_store.save(prepare(source, filters, split), folder), "data"
        )

    @cached_property
    def data(self) -> Data:
        """The data without their test part: nothing that trains or computes signals can read it."""
        return self._load(TRAINING_PARTS)

    @cached_property
    def data_with_test(self) -> Data:
        """For evaluation alone.

        Raises:
            InputError: there is no test part.
        """
        data = self._load(PARTS)
        if not len(data.test):
            raise InputError(
                "there is no test part to evaluate on", where="data",
                why="the source or the split gives none", fix="train, distill and compress work without it",
            )  # fmt: skip
        return data

    def _load(self, parts: tuple[str, ...]) -> Data:
        data = self.task.load(self.data_folder, parts)
        longest = max(self.cfg["evaluation"]["ks"])
        if isinstance(data, Dataset) and longest > data.train.n_items:
            raise InputError(
                f"evaluation.ks asks for lists of {longest} items, the catalogue has {data.train.n_items}",
                where="evaluation.ks", fix=f"keep k at or below {data.train.n_items}",
            )  # fmt: skip
        return data

    # Models.

    def _fit(self, stage: str, title: str, spec: dict[str, Any], depends_on: dict[str, Any]) -> Path:
        where = spec.get("key", spec["role"])
        members = self._members(title, Member(where, spec["node"], spec.get("task", self.cfg["task"])), spec)

        def make(folder: Path) -> None:
            log.info("%s: %s", title, "taking what is given" if is_made(spec["node"], where) else "training")
            launch(self.spec(title, folder, members={name: str(at) for name, at in members.items()}, **spec))

        if members:
            depends_on = depends_on | {"members": {name: at.name for name, at in members.items()}}
        return self.store.obtain(stage, self._key(depends_on, where), make, title)

    def _members(self, title: str, whole: Member, spec: dict[str, Any]) -> dict[str, Path]:
        """The models that one is made of, each a stop of its own; none for one that is trained by itself."""
        found = {}
        for part in members_of(whole):
            own = {**spec, "node": part.node, "key": part.key, "task": part.task}
            depends_on = {"node": part.node, **({"task": part.task} if part.task != whole.task else {})}
            found[part.name] = self._fit("teacher", f"{title}: {part.name}", own, depends_on)
        return found

    def _key(self, depends_on: dict[str, Any], where: str) -> dict[str, Any]:
        """All that a training depends on; ``where`` its config is, for messages."""
        return {
            "data": self.data_folder.name, "precision": self.cfg["trainer"].get("precision", "32-true"),
            "max_steps": self.max_steps, "seed": self.cfg["seed"], "ks": self.cfg["evaluation"]["ks"],
            "monitor": self.cfg["evaluation"]["metric"], "task": self.cfg["task"],
            **given_files(depends_on, where), **depends_on,
        }  # fmt: skip

    def spec(self, title: str, folder: Path, **more: Any) -> FitSpec:
        """A training run of this line."""
        logger = self.cfg.get("logger") or {}
        return FitSpec(
            title=title, data=str(self.data_folder), folder=str(folder), run=str(self.folder),
            seed=self.cfg["seed"], ks=self.cfg["evaluation"]["ks"], monitor=self.cfg["evaluation"]["metric"],
            trainer=self.cfg["trainer"], loggers=logger, max_steps=self.max_steps,
            every_seconds=self.cfg["checkpoint"]["every_seconds"], **{"task": self.cfg["task"], **more},
        )  # fmt: skip

    @cached_property
    def teacher(self) -> Path:
        node = self.cfg["teacher"]
        return self._fit("teacher", "teacher", {"role": "teacher", "node": node}, {"node": node})

    def baseline(self, name: str) -> Path:
        """A baseline's model; where it has a grid (:mod:`recdistill.stages.tune`), the best on the validation part, or
        the first where there is none. Trying a config out takes the first too."""
        node = self.cfg["baselines"][name]
        choices = tune.combinations(node, f"baselines.{name}")
        if len(choices) > 1 and len(self.data.valid) and not self.max_steps:
            return self._tune(name, node["tune"], choices)
        return self._fit("teacher", name, self.baseline_spec(choices[0], name), {"node": choices[0]})

    def baseline_spec(self, node: dict[str, Any], name: str) -> dict[str, Any]:
        """What is particular to the training of a baseline."""
        return {"role": "teacher", "node": node, "task": self.task_for(node, name), "key": f"baselines.{name}"}

    def task_for(self, node: dict[str, Any], name: str) -> dict[str, Any]:
        """The task that a baseline trains for: that of the line or, where it ranks by users alone and the line by
        histories, ranking.

        Raises:
            InputError: it serves neither.
        """
        model = target_of(node["net"], f"baselines.{name}.net")
        if self.task.name == "sequence" and Ranking.name in model.tasks:
            return {"_target_": f"{Ranking.__module__}.{Ranking.__name__}"}
        self.task.require_model(model, "baselines")
        return dict(self.cfg["task"])

    def _tune(self, name: str, grid: dict[str, Any], choices: list[dict[str, Any]]) -> Path:
        ks, metric = self.cfg["evaluation"]["ks"], self.cfg["evaluation"]["metric"]

        def fit(node: dict[str, Any], folder: Path) -> None:
            launch(self.spec(name, folder, **self.baseline_spec(node, name)))

        def score(folder: Path) -> float:
            model = load_model(folder, self.data.train)
            return float(self.task.evaluate(model, self.data, "valid", ks, name=name).means()[metric])

        def make(folder: Path) -> None:
            log.info("%s: tuning, %d trials", name, len(choices))
            values = tune.search(folder, choices, fit, score, best=direction(metric))
            log.info("%s: %s", name, tune.write_trials(folder, grid, values, metric))

        return self.store.obtain("tune", self._key({"choices": choices}, f"baselines.{name}"), make, name)

    @cached_property
    def alone(self) -> Path:
        """The student without a teacher: same model, hard loss, seed and budget, its own settings where it has any."""
        node = merged(self.cfg["student"], self.cfg["alone"])
        return self._fit("student", "student alone", {"role": "student", "node": node}, {"node": node})

    @property
    def distillers(self) -> dict[str, Any]:
        return dict(self.cfg.get("distiller") or {})

    @cached_property
    def needs(self) -> Needs:
        needs = Needs()
        for node in self.distillers.values():
            needs |= instantiate(node).needs()
        if self.cfg.get("weighting"):
            needs |= instantiate(self.cfg["weighting"]).needs()
        return needs

    @cached_property
    def signals(self) -> Path | None:
        """The teacher's answers, computed once; None where the teacher is asked live."""
        require_same_data(self.teacher, self.data)
        queries = self.task.queries(self.task.prepare(self.data.train, torch.device("cpu")))
        check_needs(load_model(self.teacher, self.data.train), self.needs, queries)
        if self.cfg["signals"] == "live":
            return None
        depends_on = {
            "format": 4, "task": self.cfg["task"], "teacher": self.teacher.name, "data": self.data_folder.name,
            "needs": vars(self.needs),
        }  # fmt: skip

        def make(folder: Path) -> None:
            train = self.task.prepare(self.data.train, torch.device("cpu"))
            compute_signals(
                load_model(self.teacher, self.data.train), train, self.needs, folder, data=self.data.fingerprint,
                ask=self.task.view, queries=self.task.queries(train),
            )  # fmt: skip

        return self.store.obtain("signals", depends_on, make, "signals")

    @cached_property
    def student(self) -> Path:
        """The distilled student, or the student alone where there is no distiller."""
        if not self.distillers or not self.cfg["alpha"]:
            return self.alone
        node = self.cfg["student"]
        depends_on = {"node": node, **self.soft_key}
        return self._fit("student", "student", {"role": "student", "node": node, **self.soft_spec}, depends_on)

    @property
    def soft_spec(self) -> dict[str, Any]:
        """What makes a training run a distillation."""
        if not self.distillers or not self.cfg["alpha"]:
            return {}
        return {
            "distillers": self.distillers, "weighting": self.cfg.get("weighting") or {}, "alpha": self.cfg["alpha"],
            "teacher": str(self.teacher),
            "signals": str(self.signals) if self.signals else None,
        }  # fmt: skip

    @property
    def soft_key(self) -> dict[str, Any]:
        if not self.soft_spec:
            return {}
        return {
            "distillers": self.distillers, "weighting": self.cfg.get("weighting") or {}, "alpha": self.cfg["alpha"],
            "teacher": self.teacher.name,
            "signals": self.cfg["signals"],
        }  # fmt: skip

    @cached_property
    def compressed(self) -> list[tuple[str, Path]]:
        """After each pass: the names of the passes so far, and the model."""
        results: list[tuple[str, Path]] = []
        source, names = self.student, []
        for name, node in dict(self.cfg.get("compression") or {}).items():
            names.append(name)
            source = self._compress(name, node, source)
            results.append((" + ".join(names), source))
        return results

    def _compress(self, name: str, node: dict[str, Any], source: Path) -> Path:
        depends_on: dict[str, Any] = {"pass": node, "source": source.name, "max_steps": self.max_steps}
        if node.get("finetune"):
            depends_on |= {"node": self.cfg["student"], "seed": self.cfg["seed"], **self.soft_key}

        def make(folder: Path) -> None:
            log.info("%s: compressing", name)
            finetune = self.spec(name, folder, role="student", node=self.cfg["student"], **self.soft_spec)
            compress(source, node, self.data.train, folder, finetune, launch)

        return self.store.obtain("compress", depends_on, make, name)

    def quantized_teacher(self, bits: int) -> Path:
        """The teacher itself in fewer bits: the rival at equal bytes that needs no distillation."""

        def make(folder: Path) -> None:
            state = materialised(load_model(self.teacher, self.data.train), model_info(self.teacher)["net"])
            state = Quantize(bits=8 if bits == 8 else 4).apply(state)
            save_model(
                folder, state.model, state.net, codecs=state.codecs, clips=state.clips, data=self.data.fingerprint
            )

        return self.store.obtain(
            "compress", {"teacher": self.teacher.name, "bits": bits}, make, f"teacher in {bits} bits"
        )

    @property
    def last(self) -> Path:
        """The end of the line: the compressed student, or the student."""
        return self.compressed[-1][1] if self.compressed else self.student
