"""A teacher from another domain: what a config says of it, the stop where it crosses the bridge, and what is said of it
(docs/transfer.md)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from recdistill.errors import InputError
from recdistill.export.bundle import load_model, model_info, read_state, save_model
from recdistill.models.bridges import Bridge, Carried, Reach, SharedContent
from recdistill.models.build import instantiate
from recdistill.runs.atomic import atomic_path
from recdistill.stages.blame import keys_of_source
from recdistill.stages.nodes import class_of
from recdistill.tasks.base import Task

if TYPE_CHECKING:
    from recdistill.stages.line import Line

log = logging.getLogger(__name__)
REACH = "reach.safetensors"
FITTING = {
    "ranking": "a teacher with vectors of users, such as teacher=ials, mf or lightgcn",
    "sequence": "a teacher of content, such as teacher=content_metric",
}
ADAPTIVE = {"_target_": "recdistill.distillers.weighting.Adaptive"}


def bridge_of(cfg: dict[str, Any]) -> Bridge | None:
    """What ``transfer`` of a config stands for; None where teacher and student are of one domain.

    Raises:
        InputError: it is something else.
    """
    if not cfg.get("transfer"):
        return None
    found = instantiate(cfg["transfer"]["bridge"])
    if not isinstance(found, Bridge):
        raise InputError(f"{type(found).__name__} is no bridge between domains", where="transfer.bridge",
                         fix="transfer=users; recdistill ls transfer shows all")  # fmt: skip
    return found


def require_transfer(cfg: dict[str, Any], task: Task) -> None:
    """Refuses what can't cross, before anything is read.

    Raises:
        InputError: the bridge is of another task or carries no such model, the teacher is to learn with the student,
            or queries are to be weighted twice.
    """
    bridge = bridge_of(cfg)
    if bridge is None:
        return
    name = type(bridge).__name__
    if task.name not in bridge.tasks:
        raise InputError(f"{name} is a bridge for {' and '.join(bridge.tasks)}, not for {task.name}", where="transfer",
                         fix="recdistill ls transfer shows all")  # fmt: skip
    model = class_of(cfg["teacher"], "teacher")
    if not issubclass(model, bridge.carries):
        raise InputError(
            f"{model.__name__} can't cross {name}, which needs a {bridge.carries.__name__}", where="teacher",
            fix=FITTING.get(task.name, "a teacher of rows, such as teacher=cnn"),
        )  # fmt: skip
    if isinstance(bridge, SharedContent):
        require_one_space(cfg)
    if cfg.get("teaching"):
        raise InputError("a teacher of another domain is trained there, and does not learn here", where="teaching",
                         fix="teaching=frozen")  # fmt: skip
    if cfg["transfer"].get("adaptive") and cfg.get("weighting"):
        raise InputError("queries can be weighted in one way", where="transfer.adaptive",
                         fix="weighting=none, or transfer.adaptive=false")  # fmt: skip


def require_one_space(cfg: dict[str, Any]) -> None:
    """Raises InputError where vectors of the two domains would be turned, each as its own catalogue has it."""
    for key, data in (("data", cfg["data"]), ("transfer.data", cfg["transfer"]["data"])):
        for name, encoder in (data.get("encode") or {}).items():
            if encoder.get("whiten") or encoder.get("dim"):
                at = f"{key}.encode.{name}"
                raise InputError(
                    "vectors that are whitened or cut are no longer those of the other domain", where=at,
                    why="both are fitted to one catalogue", fix=f"{at}.whiten=false {at}.dim=null",
                )  # fmt: skip


def weighting_of(cfg: dict[str, Any]) -> dict[str, Any]:
    """Config of the weights of queries; empty for none."""
    adaptive = bool(cfg.get("distiller")) and (cfg.get("transfer") or {}).get("adaptive")
    return dict(ADAPTIVE) if adaptive else dict(cfg.get("weighting") or {})


def source_config(cfg: dict[str, Any]) -> dict[str, Any]:
    """The config of the line in which the teacher is trained: the same one over the source's data."""
    changes = {"data": cfg["transfer"]["data"], "transfer": {}, "distiller": {}, "weighting": {}, "compression": {},
               "baselines": {}, "alone": {}}  # fmt: skip
    return cfg | changes


def crossed(line: Line, source: Line) -> Path:
    """The stop of a teacher that was trained on the source: a model of the target, and how far it reaches beside it."""
    bridge = bridge_of(line.cfg)
    assert bridge is not None
    with keys_of_source():
        trained = source.teacher
    labels = line.withheld.get("labels", 1.0)
    depends_on = {
        "bridge": line.cfg["transfer"]["bridge"], "files": bridge.contents(), "teacher": trained.name,
        "data": line.data_folder.name, "task": line.cfg["task"],
        **({"labels": labels, "seed": line.cfg["seed"]} if labels < 1 else {}),
    }  # fmt: skip

    def make(folder: Path) -> None:
        given = line.given(line.data, labels=labels, privileged=[])  # what students may not know helps no teacher here
        require_same_shape(line.task, bridge, source.data, given)
        model, reach = bridge.cross(load_model(trained, source.data.train), source.data, given)
        log.info("transfer: %s", said_of(reach, line.task))
        net = {"_target_": f"{Carried.__module__}.Carried", "dim": model.dim} if isinstance(model, Carried) else None
        save_model(folder, model, net or model_info(trained)["net"], data=given.fingerprint)
        write_reach(folder, reach)

    return line.store.obtain("teacher", depends_on, make, "teacher across domains")


def require_same_shape(task: Task, bridge: Bridge, source: Any, target: Any) -> None:
    """Raises InputError where a model of rows would find other columns, or other classes, in the target."""
    theirs, ours = task.schema(source), task.schema(target)
    if task.unit == "row" and theirs != ours:
        raise InputError(
            f"{type(bridge).__name__} needs the same columns and classes in both domains", where="transfer.data",
            why=f"the source has {theirs.features} and {theirs.n_outputs} outputs, the target {ours.features} and"
            f" {ours.n_outputs}", fix="bring both into one form; of images data.resize=16 transfer.data.resize=16",
        )  # fmt: skip


def write_reach(folder: Path, reach: Reach) -> None:
    from safetensors.torch import save_file

    tensors = {"queries": reach.queries, "closeness": reach.closeness.float()}
    with atomic_path(folder / REACH) as temporary:
        save_file(tensors | ({} if reach.items is None else {"items": reach.items}), temporary)


def reach_of(folder: str | Path | None) -> Reach | None:
    """How far the teacher in a folder reaches; None for one of the target itself."""
    from safetensors.torch import load_file

    if folder is None or not (Path(folder) / REACH).is_file():
        return None
    tensors = load_file(Path(folder) / REACH)
    return Reach(tensors["queries"], tensors.get("items"), tensors["closeness"])


def said_of(reach: Reach, task: Task | None = None) -> str:
    """Who has a signal and who has none."""
    known, total = int(reach.queries.sum()), len(reach.queries)
    if task is not None and task.name == "sequence" and reach.items is not None:
        return (f"the teacher reads all histories, and knows {int(reach.items.sum()):,} of {len(reach.items):,} items"
                " of the target by their content")  # fmt: skip
    if reach.items is None:
        return f"the teacher answers for {known:,} of {total:,} rows"
    items, catalogue = int(reach.items.sum()), len(reach.items)
    return (f"the teacher knows {known:,} of {total:,} users and {items:,} of {catalogue:,} items of the target; the"
            " others have no signal")  # fmt: skip


def notes_on_transfer(name: str, models: Path) -> list[str]:
    """What a reader of a table must know of a teacher of another domain.

    Args:
        name: of the source's data.
        models: folder of the models of a run.
    """
    said = [f"the teacher was trained on other data, {name}; its training is in no row"]
    folder = models / "teacher"
    state = read_state(folder, model_info(folder)) if folder.is_dir() else {}
    if "knows_user" in state:
        said.append(said_of(Reach(state["knows_user"], state["knows_item"], torch.empty(0))))
    return said
