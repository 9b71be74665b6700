"""New events for a model that is in use: student and teacher go on from where they are, and the new one takes the old
one's place if it is not worse on the newest events."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from rich.console import Console
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.interactions import Dataset
from recdistill.data.sources.appended import read_events
from recdistill.errors import InputError
from recdistill.evaluation.significance import paired_t
from recdistill.evaluation.topk import Scorer
from recdistill.export.bundle import INFO, WEIGHTS, load_frozen, model_info, read_state, save_model
from recdistill.export.card import CARD
from recdistill.export.manifest import MANIFEST, open_manifest, write_manifest
from recdistill.export.names import ITEMS, USERS
from recdistill.models.base import ClosedFormModel, RankingModel
from recdistill.models.build import build, instantiate
from recdistill.rerank.base import Reranking
from recdistill.runs.atomic import read_json, write_json
from recdistill.stages.carry import Rows, carried
from recdistill.stages.export import EXPORT, export
from recdistill.stages.line import Line
from recdistill.stages.nodes import class_of, is_assistant, is_made
from recdistill.stages.remake import remade_config

log = logging.getLogger(__name__)

REFRESH, STATE, PREVIOUS, CONFIG = "refresh", "state.json", "previous", "config.json"
APPENDED, NEWEST = "recdistill.data.sources.appended.Appended", "recdistill.data.splits.GlobalTemporal"
ALPHA = 0.05
TASKS = ("ranking", "sequence")


@dataclass(frozen=True)
class Before:
    """What a refresh starts from.

    Attributes:
        cfg: of the run, over all events so far.
        models: folder of a model by the title of its training, and of the last one by ``last``.
        users, items: ids in the order of the models' rows.
    """

    cfg: dict[str, Any]
    models: dict[str, Path]
    users: np.ndarray[Any, Any]
    items: np.ndarray[Any, Any]


class Refreshed(Line):
    """A line whose models begin as those of an earlier one."""

    def __init__(self, cfg: dict[str, Any], folder: Path, before: Before):
        super().__init__(cfg, folder)
        self.before = before

    @cached_property
    def rows(self) -> tuple[Rows, Rows]:
        """Of users and items."""
        assert isinstance(self.data, Dataset)
        train = self.data.train
        return (Rows.of(self.before.users, self.data.users[: train.n_users]),
                Rows.of(self.before.items, self.data.items[: train.n_items]))  # fmt: skip

    def _fit(self, stage: str, title: str, spec: dict[str, Any], depends_on: dict[str, Any]) -> Path:
        old, where = self.before.models.get(title), spec.get("key", spec["role"])
        trained = not is_made(spec["node"], where) and not issubclass(class_of(spec["node"], where), ClosedFormModel)
        if old is not None and trained:
            start = self.started(old)
            spec, depends_on = {**spec, "init": str(start)}, depends_on | {"init": start.name}
        return super()._fit(stage, title, spec, depends_on)

    def started(self, old: Path) -> Path:
        """A model over the data of now with the weights of an old one."""
        info = model_info(old)

        def make(folder: Path) -> None:
            torch.manual_seed(self.cfg["seed"])
            model = build(info["net"], self.task.schema(self.data))
            weights = carried(read_state(old, info), model.state_dict(), *self.rows)
            model.load_state_dict(weights)
            model.bind(self.data.train)
            save_model(folder, model, info["net"], data=self.data.fingerprint)

        return self.store.obtain("carried", {"old": info["hash"], "data": self.data_folder.name}, make, "carried over")


class OnlyKnown(Reranking):
    """Scores of a model that does not know all items of the catalogue: the others are on no list."""

    def __init__(self, known: Tensor):
        super().__init__([], len(known))
        self.known = known

    def scorer(self, score: Scorer, seen: Csr, k: int) -> Scorer:  # noqa: ARG002
        return lambda users: score(users).masked_fill(~self.known, -torch.inf)


def refresh(words: list[Path], cfg: dict[str, Any], console: Console) -> int:
    """Updates an exported model on new events, and puts it in the place of the old one unless it is worse.

    Args:
        words: the export folder, and the file of events.
        cfg: ``refresh`` and ``cache`` count.
    """
    settings, bundle = cfg["refresh"], bundle_in(words[0])
    manifest, run = open_manifest(bundle), bundle.parent
    if manifest["task"] not in TASKS:
        raise InputError(f"a model for {manifest['task']} is not refreshed", where=str(bundle),
                         why="events are of users and items, and it answers rows of a table")  # fmt: skip
    if settings["rollback"]:
        return rollback(bundle, run, console)
    if len(words) != 2:
        raise InputError("refresh needs a bundle and a file of events", where="the command line",
                         fix=f"recdistill refresh {bundle} events.jsonl")  # fmt: skip
    before = start_of(bundle, run)
    number = len(list((run / REFRESH).glob("[0-9]*"))) + 1
    folder = run / REFRESH / f"{number:04}"
    events = folder / f"events{words[1].suffix.lower()}"
    read_events(words[1])  # says what is wrong before anything is left behind
    folder.mkdir(parents=True)
    try:
        shutil.copyfile(words[1], events)  # who writes the other goes on
        config, n_new = config_of(before.cfg, events, settings, cfg["cache"])
        line = Refreshed(config, folder, before)
        write_json(folder / CONFIG, line.cfg)
        said = {**judged(line, settings), "events": n_new}
        write_json(folder / "decision.json", said)
    except BaseException:
        shutil.rmtree(folder)
        raise
    if said["accepted"]:
        found = export(line.cfg, line.task, line.data, line.last, folder, None)
        add_card(folder / EXPORT, bundle, said)
        keep(line, folder)
        swap(bundle, folder / EXPORT, bundle.with_name(f"{bundle.name}.{PREVIOUS}"))
        accept(run, number)
        said["files"] = [one["file"] for one in found]
    console.print(sentence(said), soft_wrap=True)
    return 0


def bundle_in(folder: Path) -> Path:
    """The export itself, not a link to it, also where the run is given that it is of."""
    inside = folder / EXPORT
    return (inside if not (folder / MANIFEST).exists() and (inside / MANIFEST).exists() else folder).resolve()


def config_of(
    cfg: dict[str, Any], events: Path, settings: dict[str, Any], cache: str
) -> tuple[dict[str, Any], int]:  # fmt: skip
    """The config of a run over its data and the new events, of which the newest are the test part; and how many events
    are new."""
    source = {"_target_": APPENDED, "source": cfg["data"]["source"], "events": str(events)}
    log = instantiate(source).read()
    n_new, total = log.facts["new events"], len(log.events)
    if not n_new:
        raise InputError("the log has all of these events already", where=str(events), why="there is nothing to learn")
    fit = {"epochs": settings["epochs"]} if settings["epochs"] else {}
    changes = {role: {**cfg[role], "fit": {**cfg[role]["fit"], **fit}} for role in ("teacher", "student")
               if cfg[role].get("fit")}  # fmt: skip
    if cfg.get("transfer") or cfg.get("teaching") or is_assistant(cfg["teacher"]):
        raise InputError("a teacher that learns along, of another domain, or that is an assistant is not refreshed yet",
                         where="refresh")  # fmt: skip
    share = min(max(settings["newest"] * n_new / total, 1 / total), 0.5)
    split = {"_target_": NEWEST, "valid": share, "test": share}
    data = {**cfg["data"], "source": source, "split": split}
    return cfg | changes | {"cache": cache, "data": data, "logger": {}}, n_new


def start_of(bundle: Path, run: Path) -> Before:
    """The models and the config that a bundle comes from: of its run, or of its last refresh."""
    for file in (USERS, ITEMS):
        if not (bundle / file).is_file():
            raise InputError(f"{bundle} has no {file}", where=str(bundle), fix="recdistill run export=[bundle]")
    users, items = (
        pl.read_parquet(bundle / file)[file.removesuffix("s.parquet")].to_numpy() for file in (USERS, ITEMS)
    )
    if number := (accepted(run) or [0])[-1]:
        folder = run / REFRESH / f"{number:04}"
        models = {at.name.replace("_", " "): at for at in (folder / "models").iterdir()}
        return Before(read_json(folder / CONFIG), models, users, items)
    rows, weights = read_json(run / "summary.json")["rows"], open_manifest(bundle)["weights_hash"]
    titles = {"teacher": "teacher", "student": "student", "alone": "student alone"}
    models = {titles[row["role"]]: run / row["folder"] for row in rows if row["role"] in titles}
    models["last"] = next(run / row["folder"] for row in reversed(rows) if row["weights_hash"] == weights)
    return Before(remade_config(run), models, users, items)


def judged(line: Refreshed, settings: dict[str, Any]) -> dict[str, Any]:
    """The old and the new model on the newest events, over the users whom the old one knows and the same lists' length.

    The new one is accepted unless it is worse by more than a share of the old one's metric, or significantly.
    """
    metric, ks, data = line.cfg["evaluation"]["metric"], line.cfg["evaluation"]["ks"], line.data_with_test
    users, items = line.rows
    old = load_frozen(line.started(line.before.models["last"]), data.train)
    new = load_frozen(line.last, data.train)
    known: dict[str, Any] = {"reranking": OnlyKnown(items.known)}
    ours, theirs = (
        line.task.evaluate(new, data, "test", ks, name="new"),
        line.task.evaluate(old, data, "test", ks, name="old", **known),
    )
    both = users.known[ours.users] if isinstance(old, RankingModel) else torch.ones(len(ours.users), dtype=torch.bool)
    if not both.any():
        raise InputError("no user of the newest events is known to the old model", where="refresh.newest",
                         why="nothing can be compared", fix="more events, or refresh.newest=0.5")  # fmt: skip
    found, was = ours.per_user[metric][both], theirs.per_user[metric][both]
    p, enough = float(paired_t(found, was)), int(both.sum()) >= settings["least_users"]
    return {
        "accepted": enough and good_enough(found, was, p, settings["tolerance"]), "enough": enough,
        "metric": metric, "old": float(was.mean()),
        "new": float(found.mean()), "p": p, "users": int(both.sum()), "new_users": int((~users.known).sum()),
        "new_items": int((~items.known).sum()),
    }  # fmt: skip


def good_enough(found: Tensor, was: Tensor, p: float, tolerance: float) -> bool:
    """Whether a model may take another's place, by their values of the same users.

    Args:
        p: of their difference.
        tolerance: share of the old one's mean by which the new one may be worse.
    """
    worse = float(was.mean() - found.mean())
    return worse <= tolerance * float(was.mean()) and not (worse > 0 and p < ALPHA)


def add_card(folder: Path, old: Path, said: dict[str, Any]) -> None:
    """The card of the old export, and what the refresh changed."""
    facts = {key: value for key, value in open_manifest(folder).items() if key not in ("format", "files")}
    card = (old / CARD).read_text(encoding="utf-8") if (old / CARD).exists() else "# A refreshed model\n"
    (folder / CARD).write_text(f"{card.rstrip()}\n\n## Refreshed\n\n{sentence(said)}.\n", encoding="utf-8")
    write_manifest(folder, facts)


def keep(line: Refreshed, folder: Path) -> None:
    """What the next refresh starts from."""
    models = {"student": line.student, "last": line.last}
    if line.losses:
        models["teacher"] = line.teacher
    else:
        models["student alone"] = models.pop("student")
    for title, at in models.items():
        target = folder / "models" / title.replace(" ", "_")
        target.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS, INFO):
            shutil.copyfile(at / name, target / name)


def accepted(run: Path) -> list[int]:
    """Numbers of the refreshes whose models are or were in use; the last one is."""
    file = run / REFRESH / STATE
    return [int(number) for number in read_json(file)["accepted"]] if file.is_file() else []


def accept(run: Path, number: int) -> None:
    write_json(run / REFRESH / STATE, {"accepted": [*accepted(run), number]})


def rollback(bundle: Path, run: Path, console: Console) -> int:
    """Puts the model before the last refresh back."""
    previous = bundle.with_name(f"{bundle.name}.{PREVIOUS}")
    if not previous.is_dir():
        raise InputError("there is nothing to go back to", where=str(bundle), why="one refresh is kept")
    open_manifest(previous)
    exchange(bundle, previous)
    shutil.rmtree(previous)
    write_json(run / REFRESH / STATE, {"accepted": accepted(run)[:-1]})
    console.print(f"{bundle} is again what it was before the last refresh", soft_wrap=True)
    return 0


def swap(bundle: Path, new: Path, previous: Path) -> None:
    """Puts ``new`` in the place of ``bundle``, at no moment of which the place is empty, and keeps the old one."""
    ready = bundle.with_name(f".{bundle.name}.new")
    shutil.rmtree(ready, ignore_errors=True)
    shutil.copytree(new, ready)
    exchange(bundle, ready)
    shutil.rmtree(previous, ignore_errors=True)
    ready.rename(previous)


def exchange(one: Path, other: Path) -> None:
    """Two folders change names: on Linux in one step, elsewhere in three."""
    try:
        swapped = ctypes.CDLL(None, use_errno=True).renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2) == 0
    except (AttributeError, OSError):
        swapped = False
    if not swapped:
        between = one.with_name(f".{one.name}.between")
        one.rename(between)
        other.rename(one)
        between.rename(other)


def sentence(said: dict[str, Any]) -> str:
    """The decision for people."""
    figures = (
        f"{said['metric']} {said['new']:.4f} against {said['old']:.4f} (p {said['p']:.3f}, {said['users']:,} users)"
    )
    more = f"{said['new_users']:,} new users, {said['new_items']:,} new items"
    if said["accepted"]:
        return f"refreshed: {figures} on the newest events; {more}; refresh.rollback=true goes back"
    few = "" if said["enough"] else "; so few users tell nothing: more events, or refresh.least_users=1"
    return f"not refreshed, the old model stays: {figures} on the newest events; {more}{few}"
