"""The line: data, teacher, signals, student, compression. Each stop is computed when it is first asked for, and only if
its output is not in the cache; a stop's key holds all that its output depends on, so no stop is ever out of date."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from recdistill.compression.base import CompressionPass
from recdistill.content.base import contents, with_vectors
from recdistill.data import store as data_store
from recdistill.data.interactions import Data, Dataset
from recdistill.data.prepare import prepare
from recdistill.data.sources.base import PARTS
from recdistill.distillers.base import Needs
from recdistill.distillers.signals import check_needs, compute_signals, require_signals_of
from recdistill.errors import InputError
from recdistill.evaluation.metrics import direction
from recdistill.evaluation.sampled import monitored
from recdistill.export.bundle import load_frozen, load_model
from recdistill.models.build import instantiate, instantiate_at
from recdistill.runs.store import Store
from recdistill.stages import tune, withheld
from recdistill.stages.assistant import assisted_config, keys_of_assistant
from recdistill.stages.budget import passes
from recdistill.stages.compress import compress, quantized
from recdistill.stages.evaluate import require_same_data
from recdistill.stages.launch import launch
from recdistill.stages.nodes import Member, encoders_of, given_files, is_made, members_of, merged
from recdistill.stages.sound import require_line, task_for
from recdistill.stages.teaching import learns_along, teaching_key, teaching_spec
from recdistill.stages.training import ALONG, TRAINING_PARTS, FitSpec, take_bundle
from recdistill.stages.transfer import crossed, source_config, weighting_of
from recdistill.tasks.base import Task

log = logging.getLogger(__name__)


class Line:
    """The stops of one config.

    Args:
        cfg: the resolved config.
        folder: of the run, for loggers.
        max_steps: optimizer steps of each training, 0 for all; for trying a config out.
        prefix: of the titles of its teacher and student, for people.
    """

    def __init__(self, cfg: dict[str, Any], folder: Path, max_steps: int = 0, prefix: str = ""):
        self.cfg, self.folder, self.max_steps, self.prefix = cfg, folder, max_steps, prefix
        self.store = Store(Path(cfg["cache"]))
        self.task: Task = instantiate(cfg["task"])
        require_line(cfg, self.task, self.needs)
        below = assisted_config(cfg)
        with keys_of_assistant():  # the line whose student is the teacher; None where the teacher is nobody's student
            self.assisted = Line(below, folder, max_steps, f"{prefix}assistant: ") if below else None

    @cached_property
    def data_folder(self) -> Path:
        node = self.cfg["data"]
        source, filters, split = (instantiate(node[name]) for name in ("source", "filters", "split"))
        encoders = encoders_of(node)
        depends_on = {
            "format": data_store.FORMAT, "source": node["source"]["_target_"], "content": source.fingerprint(),
            "filters": node["filters"], "split": node["split"],
            **({"encode": node["encode"], "encoders": contents(encoders)} if encoders else {}),
        }  # fmt: skip

        def make(folder: Path) -> None:
            data = with_vectors(prepare(source, filters, split), encoders, self.store.root)
            data_store.save(data, folder)

        return self.store.obtain("data", depends_on, make, "data")

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
        self.given(data, labels=1.0)  # says which columns it lacks
        longest = max(self.cfg["evaluation"]["ks"])
        if isinstance(data, Dataset) and longest > data.train.n_items:
            raise InputError(
                f"evaluation.ks asks for lists of {longest} items, the catalogue has {data.train.n_items}",
                where="evaluation.ks", fix=f"keep k at or below {data.train.n_items}",
            )  # fmt: skip
        return data

    def given(self, data: Data, **more: Any) -> Any:
        """The data as students and baselines get them."""
        return withheld.given(data, **{**self.withheld, **more}, seed=self.cfg["seed"])

    @property
    def withheld(self) -> dict[str, Any]:
        return withheld.withheld(self.cfg)

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
            depends_on |= {name: spec[name] for name in self.withheld if name in spec}
            found[part.name] = self._fit("teacher", f"{title}: {part.name}", own, depends_on)
        return found

    def _key(self, depends_on: dict[str, Any], where: str) -> dict[str, Any]:
        """All that a training depends on; ``where`` its config is, for messages."""
        return {
            "data": self.data_folder.name, "precision": self.cfg["trainer"].get("precision", "32-true"),
            "max_steps": self.max_steps, "seed": self.cfg["seed"], "ks": self.cfg["evaluation"]["ks"],
            "monitor": monitored(self.cfg["evaluation"]), "task": self.cfg["task"],
            **given_files(depends_on, where), **depends_on,
        }  # fmt: skip

    def spec(self, title: str, folder: Path, **more: Any) -> FitSpec:
        """A training run of this line."""
        logger = self.cfg.get("logger") or {}
        return FitSpec(
            title=title, data=str(self.data_folder), folder=str(folder), run=str(self.folder),
            seed=self.cfg["seed"], ks=self.cfg["evaluation"]["ks"], monitor=monitored(self.cfg["evaluation"]),
            trainer=self.cfg["trainer"], loggers=logger, max_steps=self.max_steps,
            every_seconds=self.cfg["checkpoint"]["every_seconds"], **{"task": self.cfg["task"], **more},
        )  # fmt: skip

    @cached_property
    def source(self) -> Line:
        """The line over the data of another domain, whose teacher this one takes."""
        return Line(source_config(self.cfg), self.folder, self.max_steps)

    @cached_property
    def teacher(self) -> Path:
        if self.cfg.get("transfer"):
            return crossed(self, self.source)
        if self.assisted:
            self.assisted.data_folder, self.assisted.data = self.data_folder, self.data  # read once
            with keys_of_assistant():
                return self.assisted.student
        node = self.cfg["teacher"]
        return self._fit("teacher", f"{self.prefix}teacher", {"role": "teacher", "node": node}, {"node": node})

    def baseline(self, name: str) -> Path:
        """A baseline's model; where it has a grid (:mod:`recdistill.stages.tune`), the best on the validation part, or
        the first where there is none. Trying a config out takes the first too."""
        node = self.cfg["baselines"][name]
        choices = tune.combinations(node, f"baselines.{name}")
        if len(choices) > 1 and len(self.data.valid) and not self.max_steps:
            return self._tune(name, node["tune"], choices)
        first = self.baseline_spec(choices[0], name)
        return self._fit("teacher", name, first, {"node": choices[0], **self.withheld})

    def baseline_spec(self, node: dict[str, Any], name: str) -> dict[str, Any]:
        """What is particular to the training of a baseline."""
        task = task_for(node, name, self.cfg, self.task)
        return {"role": "teacher", "node": node, "task": task, "key": f"baselines.{name}", **self.withheld}

    def _tune(self, name: str, grid: dict[str, Any], choices: list[dict[str, Any]]) -> Path:
        ks, metric = self.cfg["evaluation"]["ks"], self.cfg["evaluation"]["metric"]

        def fit(node: dict[str, Any], folder: Path) -> None:
            launch(self.spec(name, folder, **self.baseline_spec(node, name)))

        def score(folder: Path) -> float:
            model = load_frozen(folder, self.data.train)
            return float(self.task.evaluate(model, self.data, "valid", ks, name=name).means()[metric])

        def make(folder: Path) -> None:
            log.info("%s: tuning, %d trials", name, len(choices))
            values = tune.search(folder, choices, fit, score, best=direction(metric))
            log.info("%s: %s", name, tune.write_trials(folder, grid, values, metric))

        depends_on = {"choices": choices, **self.withheld}
        return self.store.obtain("tune", self._key(depends_on, f"baselines.{name}"), make, name)

    @cached_property
    def alone(self) -> Path:
        """The student without a teacher: same model, hard loss, seed and budget, its own settings where it has any."""
        withheld.require_labels(self.cfg, "the student alone")
        node = merged(self.cfg["student"], self.cfg["alone"])
        own = {"node": node, **self.withheld}
        return self._fit("student", "student alone", {"role": "student", **own}, own)

    @property
    def distillers(self) -> dict[str, Any]:
        return dict(self.cfg.get("distiller") or {})

    @cached_property
    def needs(self) -> Needs:
        needs = Needs()
        for name, node in self.distillers.items():
            needs |= instantiate_at(f"distiller.{name}", node).needs()
        if weighting := weighting_of(self.cfg):
            needs |= instantiate_at("weighting", weighting).needs()
        return needs

    @cached_property
    def signals(self) -> Path | None:
        """The teacher's answers, computed once; None where the teacher is asked live."""
        require_same_data(self.teacher, self.data)
        queries = self.task.queries(self.task.prepare(self.data.train, torch.device("cpu")))
        live = self.cfg["signals"] == "live"  # then scores take no room
        needs = replace(self.needs, scores=self.needs.scores and not live)
        check_needs(load_model(self.teacher, self.data.train), needs, queries)
        if live:
            return None
        depends_on = {
            "format": 6, "task": self.cfg["task"], "teacher": self.teacher.name, "data": self.data_folder.name,
            "needs": vars(self.needs),
            **({"labels": self.withheld["labels"], "seed": self.cfg["seed"]} if "labels" in self.withheld else {}),
        }  # fmt: skip

        def make(folder: Path) -> None:
            # What has no label is asked about; the columns are all there.
            train = self.task.prepare(self.given(self.data, privileged=[]).train, torch.device("cpu"))
            compute_signals(
                load_model(self.teacher, self.data.train), train, self.needs, folder, data=self.data.fingerprint,
                ask=self.task.view, queries=self.task.queries(train), teacher_name=self.teacher.name,
            )  # fmt: skip

        folder = self.store.obtain("signals", depends_on, make, f"{self.prefix}signals")
        require_signals_of(folder, self.data.fingerprint, self.teacher.name, self.needs)
        return folder

    @cached_property
    def student(self) -> Path:
        """The distilled student, or the student alone where there is no distiller."""
        if not self.distillers or not self.cfg["alpha"]:
            return self.alone
        own = {"node": self.cfg["student"], **self.withheld}
        spec = {"role": "student", **own, **self.soft_spec}
        return self._fit("student", f"{self.prefix}student", spec, own | self.soft_key)

    @property
    def soft_spec(self) -> dict[str, Any]:
        """What makes a training run a distillation."""
        if not self.losses:
            return {}
        if self.cfg.get("teaching"):
            return self.losses | teaching_spec(self.cfg)
        return self.losses | {"teacher": str(self.teacher), "signals": str(self.signals) if self.signals else None}

    @property
    def soft_key(self) -> dict[str, Any]:
        if not self.losses:
            return {}
        if self.cfg.get("teaching"):
            return self.losses | teaching_key(self.cfg)
        return self.losses | {"teacher": self.teacher.name, "signals": self.cfg["signals"]}

    @property
    def losses(self) -> dict[str, Any]:
        """The soft losses; none where they have no weight."""
        if not self.distillers or not self.cfg["alpha"]:
            return {}
        return {
            "distillers": self.distillers, "weighting": weighting_of(self.cfg), "alpha": self.cfg["alpha"],
        }  # fmt: skip

    @cached_property
    def along(self) -> Path:
        """The teacher that was trained together with the student."""
        found = self.student / ALONG
        return self.store.obtain(
            "teacher", {"along": self.student.name}, lambda folder: take_bundle(found, folder, self.data),
            "teacher trained along",
        )  # fmt: skip

    @property
    def tuning_spec(self) -> dict[str, Any]:
        """What makes a fine-tuning a distillation. Its teacher is frozen: what one that was trained along became, or in
        the place of an average of weights the student that it led to."""
        if not self.losses or not self.cfg.get("teaching"):
            return self.soft_spec
        return self.losses | {"teacher": str(self.along if learns_along(self.cfg) else self.student)}

    @cached_property
    def compressed(self) -> list[tuple[str, Path]]:
        """After each pass: the names of the passes so far, and the model."""
        results: list[tuple[str, Path]] = []
        source, names = self.student, list[str]()
        for name, node in passes(self).items():
            names, source = [*names, name], self.after_pass(name, node, source)
            results.append((" + ".join(names), source))
        return results

    def after_pass(self, name: str, node: dict[str, Any], source: Path) -> Path:
        """A model after one pass, and its fine-tuning."""
        depends_on: dict[str, Any] = {"pass": node, "source": source.name, "max_steps": self.max_steps}
        step: CompressionPass = instantiate(node)
        if step.finetune or step.looks:
            depends_on |= {"node": self.cfg["student"], "seed": self.cfg["seed"], **self.soft_key, **self.withheld}

        def make(folder: Path) -> None:
            log.info("%s: compressing", name)
            compress(source, node, self.data.train, folder, self.tuning_of(name, folder), launch)

        return self.store.obtain("compress", depends_on, make, name)

    def tuning_of(self, name: str, folder: Path) -> FitSpec:
        """The fine-tuning after a pass."""
        own = {"node": self.cfg["student"], **self.withheld}
        return self.spec(name, folder, role="student", **own, **self.tuning_spec)

    def quantized_teacher(self, bits: int) -> Path:
        """The teacher itself in fewer bits: the rival at equal bytes that needs no distillation."""
        depends_on = {"teacher": self.teacher.name, "bits": bits}
        make = partial(quantized, self.teacher, 8 if bits == 8 else 4, self.data.train)
        return self.store.obtain("compress", depends_on, make, f"teacher in {bits} bits")

    @property
    def last(self) -> Path:
        """The end of the line: the compressed student, or the student."""
        return self.compressed[-1][1] if self.compressed else self.student
