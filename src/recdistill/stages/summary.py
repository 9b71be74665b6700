"""From evaluated models to the summary of a run: who kept what, at which cost, and whether it means anything."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from recdistill import __version__
from recdistill.config.importing import import_target
from recdistill.config.plugins import plugin_modules
from recdistill.config.secrets import redact
from recdistill.config.words import COMMAND
from recdistill.data.interactions import Data, TableDataset
from recdistill.data.parts import NO_HISTORY
from recdistill.evaluation.cost import cpu_name
from recdistill.evaluation.kept import kept
from recdistill.evaluation.ranking import overlap_at_k
from recdistill.evaluation.sampled import note_on_epochs
from recdistill.evaluation.significance import bootstrap_mean, holm, paired_t
from recdistill.export.bundle import model_info
from recdistill.runs.atomic import digest
from recdistill.runs.commits import commits
from recdistill.runs.store import stamp
from recdistill.stages.assistant import notes_on_assistant
from recdistill.stages.cold import cold_note, cold_part
from recdistill.stages.evaluate import costs, evaluate
from recdistill.stages.line import Line
from recdistill.stages.nodes import is_made
from recdistill.stages.rerank import RERANKED, reranked, reranking_in
from recdistill.stages.results import PER_ROW, PER_USER, Evaluated
from recdistill.stages.teaching import how_taught, learns_along
from recdistill.stages.training import HISTORY
from recdistill.stages.transfer import notes_on_transfer
from recdistill.stages.tune import TRIALS, edges, stated, trials
from recdistill.stages.withheld import label_share, notes_on, report_on

FORMAT = 1
PLACES = ("run", "cache")
NOT_OF_THE_RECIPE = (
    *PLACES, "seed", "logger", "checkpoint", "export", "index", "recommend", "report", "compare", "verify", "refresh",
    "download",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A row before it is measured: its name, what it is, where the model lies, and how many were tried for it."""

    name: str
    role: str
    folder: Path
    trials: int = 1


def planned(cfg: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and role of each row that a config gives, in order; nothing is trained to know them."""
    rows = [("teacher", "teacher")] if cfg["teacher"].get("evaluated", True) else []
    if not stands_in(cfg):
        rows += [("teacher int8", "teacher_quantized"), ("teacher int4", "teacher_quantized")]
    if learns_along(cfg):
        rows.append(("teacher trained along", "teacher_along"))
    if label_share(cfg):
        rows.append(("student alone", "alone"))
    if cfg.get("distiller") and cfg["alpha"]:
        rows.append(("student distilled", "student"))
    passes = list(cfg.get("compression") or {})
    rows += [(" + ".join(passes[: n + 1]), "compressed") for n in range(len(passes))]
    rows += [(name, RERANKED) for name in reranked(cfg)]
    return rows + [(name, "baseline") for name in cfg.get("baselines") or {} if label_share(cfg)]


def stands_in(cfg: dict[str, Any]) -> bool:
    """Whether the teacher is the answers of a model that is not here."""
    found = import_target(cfg["teacher"]["net"]["_target_"], "teacher.net", plugin_modules())
    return bool(getattr(found, "stands_in", False))


def entries(line: Line) -> list[Entry]:
    """The rows of a run's table, in order, each model made or found."""
    folders = {
        "teacher": line.teacher,
        "student distilled": line.student,
    } | dict(line.compressed)
    if label_share(line.cfg):
        folders["student alone"] = line.alone
    if learns_along(line.cfg):
        folders["teacher trained along"] = line.along
    if not stands_in(line.cfg):
        folders |= {f"teacher int{bits}": line.quantized_teacher(bits) for bits in (8, 4)}
    folders |= dict.fromkeys(reranked(line.cfg), line.last)
    rows = [(name, role, line.baseline(name) if role == "baseline" else folders[name])
            for name, role in planned(line.cfg)]  # fmt: skip
    return [Entry(name, role, folder, tried(role, folder, line.cfg)) for name, role, folder in rows]


def tried(role: str, folder: Path, cfg: dict[str, Any]) -> int:
    """How many models were fitted to choose that of a row: by the record beside it, or as its owner says."""
    if role == "baseline":
        return trials(folder)
    owner = "teacher" if role.startswith("teacher") else "student"
    return stated(cfg[owner], owner)


def summarise(line: Line, command: str, overrides: list[str], started: float) -> dict[str, Any]:
    """Evaluates and measures all rows; the content of ``summary.json``."""
    ks, metric = line.cfg["evaluation"]["ks"], line.cfg["evaluation"]["metric"]
    data = line.data_with_test  # says at once if there is none
    table = entries(line)
    more: dict[str, Any] = {"task": line.task, "metric": metric, "negatives": line.cfg["evaluation"].get("sampled")}
    results = {entry.name: evaluate(line.store, entry.folder, data, ks, entry.name, **more,
                                    **reranking_in(entry.name, line.cfg, data)) for entry in table}  # fmt: skip
    shutil.rmtree(line.folder / "models", ignore_errors=True)  # of an earlier run into this folder
    rows = [row(entry, results, line, metric) for entry in table]
    adjust(rows)
    first = results[table[0].name]
    return {
        "format": FORMAT,
        "task": line.task.name,
        "command": command,
        "run": line.folder.name,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - started, 1),
        **provenance(line.cfg, line.data),
        "machine": {"cpu": cpu_name(), "threads": torch.get_num_threads()},
        "overrides": overrides,
        "data": {"name": data_name(line.cfg["data"]), "fingerprint": line.data.fingerprint,
                 "report": report_on(line.cfg, line.data), "manifest": line.data.manifest},
        **({"transfer": name} if (name := source_name(line.cfg)) else {}),
        "metric": metric,
        "ks": ks if line.task.unit == "user" else [],
        f"n_{line.task.unit}s": first.info[f"n_{line.task.unit}s"],
        "rows": rows,
        "notes": notes(line.cfg, line.data, first.info["n_cold"], line.folder) + cold_note(rows),
    }  # fmt: skip


def row(entry: Entry, results: dict[str, Evaluated], line: Line, metric: str) -> dict[str, Any]:
    """One row of the table."""
    target = copy_model(entry, results[entry.name], line.folder)
    return {
        "name": entry.name,
        "role": entry.role,
        "label": label(entry.folder, entry.role, line.cfg),
        **costs(entry.folder, line.data, task=line.task,
                reranking=reranking_in(entry.name, line.cfg, line.data).get("reranking")),
        **quality(entry.name, entry.role, results, line.cfg["evaluation"]["ks"], metric),
        "weights_hash": model_info(entry.folder)["hash"],
        "trials": entry.trials,
        "train_seconds": seconds(entry, line.cfg),
        "folder": str(target.relative_to(line.folder)),
    }  # fmt: skip


def seconds(entry: Entry, cfg: dict[str, Any]) -> float | None:
    """How long the stop of a row took. None for a teacher that was trained along, whose time is in the student's, and
    for one that was taken from files, put together or trained elsewhere: of its training nothing is known here."""
    given = entry.role == "teacher" and (cfg.get("transfer") or is_made(cfg["teacher"], "teacher"))
    if entry.role == "teacher_along" or given:
        return None
    return float(stamp(entry.folder)["seconds"])


def adjust(rows: Sequence[dict[str, Any]]) -> None:
    """Holm's p over all models that are compared with the student alone: a table asks one question many times. A model
    that is in two rows is asked about once, and the student alone under another name is not."""
    alone = {_asked_about(row) for row in rows if row["role"] == "alone"}
    tested = [row for row in rows if row["p_alone"] is not None and _asked_about(row) not in alone]
    models = {_asked_about(row): row["p_alone"] for row in tested}
    adjusted = dict(zip(models, holm(list(models.values())), strict=True))
    for row in tested:
        row["p_alone_holm"] = adjusted[_asked_about(row)]


def _asked_about(row: dict[str, Any]) -> tuple[str, str]:
    """A model, or what re-ranks it."""
    return row["weights_hash"], row["name"] if row["role"] == RERANKED else ""


def quality(name: str, role: str, results: dict[str, Evaluated], ks: list[int], metric: str) -> dict[str, Any]:
    """The part of a row that follows from the evaluations alone: ``recdistill verify`` finds it anew."""
    own, teacher, alone = results[name], results.get("teacher"), results.get("student alone")
    values = own.values[metric]
    share = None if role == "teacher" or teacher is None else kept(values, teacher.values[metric], metric)
    return {
        "metrics": own.means,
        "ci": {metric: list(bootstrap_mean(values)[1:])},
        "kept": None if share is None else dict(zip(("value", "low", "high"), share, strict=True)),
        "p_alone": None if role == "alone" or alone is None else paired_t(values, alone.values[metric]),
        "p_alone_holm": None,  # known with all rows
        "overlap": None if role == "teacher" or teacher is None else overlaps(own, teacher, ks),
        "tie_rate": own.info["tie_rate"],
        "n_cold_items": own.info["n_cold"],
        "beyond": own.beyond,
        "slices": own.slices,
        "sampled": own.sampled,
        "warnings": own.info["warnings"],
        **cold_part(name, results, metric),
    }  # fmt: skip


def overlaps(own: Evaluated, teacher: Evaluated, ks: list[int]) -> dict[str, float] | None:
    """How much of the teacher's lists is in the model's, by length; None where nothing is ranked."""
    if own.top is None or teacher.top is None:
        return None
    longest = own.top.shape[1]
    return {str(k): float(overlap_at_k(own.top, teacher.top, k).mean()) for k in ks if k <= longest}


def copy_model(entry: Entry, result: Evaluated, run: Path) -> Path:
    """Puts model, history and per-user values into the run folder, so that it stands without the cache."""
    target = run / models_folder(entry.name)
    target.mkdir(parents=True, exist_ok=True)
    for file in (
        *(entry.folder / name for name in ("model.safetensors", "model.json", HISTORY, TRIALS)),
        *(result.folder / name for name in (PER_USER, PER_ROW)),
    ):
        if file.exists():
            shutil.copyfile(file, target / file.name)
    return target


def models_folder(name: str) -> Path:
    """Where a row's model lies in the run folder."""
    return Path("models") / name.replace(" + ", "_").replace(" ", "_")


def label(folder: Path, role: str, cfg: dict[str, Any]) -> str:
    """The model in a few words, such as "MF d=16" or "MF d=16, int8"."""
    info = model_info(folder)
    net, codecs = info["net"], info["codecs"].values()
    words = str(net["_target_"]).rsplit(".", 1)[-1] + (f" d={net['dim']}" if "dim" in net else "")
    names = {16: "fp16", "bf16": "bf16"}
    words += "".join(sorted(f", {names.get(b, f'int{b}')}" for b in {codec["bits"] for codec in codecs} - {32}))
    sparse_by_itself = import_target(net["_target_"], "net").sparse
    pruned = any(codec["sparse"] for name, codec in info["codecs"].items() if name not in sparse_by_itself)
    words += ", pruned" if pruned else ""
    return words + (", " + "+".join(cfg["distiller"]) if role == "student" else "")


def notes(cfg: dict[str, Any], data: Data, n_cold: int, run: Path) -> list[str]:
    """What a reader of the table must know, by the models in the folder of a run; what was found the headline says."""
    said = note_on_epochs(cfg.get("evaluation") or {}) + notes_on(cfg, data) + how_taught(cfg) + notes_on_assistant(cfg)
    if source := source_name(cfg):
        said += notes_on_transfer(source, run / "models")
    if cfg.get("distiller") and not cfg["alpha"]:
        said.append("alpha=0 gives the soft losses no weight: the distilled student would be the student alone")
    if stands_in(cfg):
        said.append(
            "the teacher is answers from a file: its bytes are those of the answers, not of the model that made them"
            if cfg["teacher"].get("evaluated", True) else
            "the teacher is answers from a file that are not of the test part, so that it has no row"
        )  # fmt: skip
    if twins := twins_of_alone(cfg, run):
        said.append(f"{', '.join(twins)} and student alone are one model, which is not compared with itself")
    if own := different(cfg["student"], cfg.get("alone") or {}):
        said.append(f"the student alone has settings of its own: {', '.join(own)}")
    baselines = dict(cfg.get("baselines") or {}) if label_share(cfg) else {}
    untuned = [name for name, node in baselines.items() if node.get("tune")]
    if untuned and not len(data.valid):
        said.append(f"no validation part to tune on: {', '.join(untuned)} are each the first of their grid")
    for name in baselines:
        if edge := edges(run / models_folder(name)):
            said.append(f"{name} did best at the edge of its grid ({', '.join(edge)}): widen baselines.{name}.tune")
    if isinstance(data, TableDataset) and (lost := data.report.get("lost", {}).get("test", {}).get(NO_HISTORY)):
        said.append(f"{lost} test rows are of users without training data; they are left out")
    if n_cold:
        said.append(f"{n_cold} relevant test pairs are of items without training data; no list of this table has them")
    return said


def twins_of_alone(cfg: dict[str, Any], run: Path) -> list[str]:
    """Names of the other rows, by the models in the folder of a run, that have the weights of the student alone, as the
    teacher of a student that is taught by its own kind."""
    folders = {name: run / models_folder(name) for name, role in planned(cfg) if role != RERANKED}
    hashes = {name: model_info(folder)["hash"] for name, folder in folders.items() if folder.exists()}
    alone = hashes.pop("student alone", None)
    return [name for name, weights in hashes.items() if weights == alone]


def different(node: dict[str, Any], changes: dict[str, Any], key: str = "") -> list[str]:
    """What replaces values of ``node``, and by what."""
    found = []
    for name, value in changes.items():
        if isinstance(value, dict) and isinstance(node.get(name), dict):
            found += different(node[name], value, f"{key}{name}.")
        elif value != node.get(name):
            found.append(f"{key}{name}={value} (distilled: {node.get(name)})")
    return found


def data_name(node: dict[str, Any]) -> str:
    """The file or folder of the data, or what makes them."""
    return Path(node["path"]).name if node.get("path") else str(node["source"]["_target_"].rsplit(".", 1)[-1])


def source_name(cfg: dict[str, Any]) -> str | None:
    """The data of the domain that the teacher comes from; None where it is that of the student."""
    return data_name(cfg["transfer"]["data"]) if cfg.get("transfer") else None


def provenance(cfg: dict[str, Any], data: Data) -> dict[str, Any]:
    """What tells whether two results can be compared, and whether a second run is the same one.

    ``recipe_hash`` is equal in runs that differ by their seed, by the fold of a cross-validation, or by what has no say
    in a result.
    """
    return {
        "seed": cfg["seed"],
        **commits(),
        "config_hash": config_hash(cfg),
        "recipe_hash": recipe_hash(cfg),
        "split_hash": data.fingerprint,
        "versions": versions(),
    }


def config_hash(cfg: dict[str, Any]) -> str:
    """Hash of a resolved config, but for where it runs."""
    return digest({key: value for key, value in cfg.items() if key not in PLACES})


def recipe_hash(cfg: dict[str, Any]) -> str:
    """Hash of a resolved config, but for what makes it another repetition of the same recipe, or has no say."""
    recipe = {key: value for key, value in cfg.items() if key not in NOT_OF_THE_RECIPE}
    split = {key: value for key, value in cfg["data"]["split"].items() if key != "fold"}
    return digest(recipe | {"data": cfg["data"] | {"split": split}})


def versions() -> dict[str, str]:
    """Of what computes the figures."""
    packages = {name: metadata.version(name) for name in ("pytorch-lightning", "numpy", "polars")}
    return {
        "recdistill": __version__, "python": platform.python_version(), "torch": str(torch.__version__), **packages,
    }  # fmt: skip


def command_line() -> str:
    """The command as it was typed; Hydra rewrites ``sys.argv``."""
    return redact(os.environ.get(COMMAND, "recdistill run"))
