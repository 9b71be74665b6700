"""From evaluated models to the summary of a run: who kept what, at which cost, and whether it means anything."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recdistill import __version__
from recdistill.config.secrets import redact
from recdistill.config.words import COMMAND
from recdistill.evaluation.cost import cpu_name
from recdistill.evaluation.ranking import overlap_at_k
from recdistill.evaluation.significance import bootstrap_mean, bootstrap_ratio, paired_t
from recdistill.export.bundle import model_info
from recdistill.runs.atomic import digest
from recdistill.runs.store import stamp
from recdistill.stages.evaluate import PER_USER, Evaluated, costs, evaluate
from recdistill.stages.line import Line
from recdistill.stages.training import HISTORY


@dataclass(frozen=True)
class Entry:
    """A row before it is measured: its name, what it is, and where the model lies."""

    name: str
    role: str
    folder: Path


def entries(line: Line) -> list[Entry]:
    """The rows of a run's table, in order."""
    rows = [
        Entry("teacher", "teacher", line.teacher),
        Entry("teacher int8", "teacher_quantized", line.quantized_teacher(8)),
        Entry("teacher int4", "teacher_quantized", line.quantized_teacher(4)),
        Entry("student alone", "alone", line.alone),
    ]
    if line.student != line.alone:
        rows.append(Entry("student distilled", "student", line.student))
    rows += [Entry(name, "compressed", folder) for name, folder in line.compressed]
    return rows + [Entry(name, "baseline", line.baseline(name)) for name in line.cfg.get("baselines") or {}]


def summarise(line: Line, command: str, overrides: list[str], started: float) -> dict[str, Any]:
    """Evaluates and measures all rows; the content of ``summary.json``."""
    shutil.rmtree(line.folder / "models", ignore_errors=True)  # of an earlier run into this folder
    ks, metric = line.cfg["evaluation"]["ks"], line.cfg["evaluation"]["metric"]
    data = line.data_with_test  # says at once if there is none
    table = entries(line)
    results = {entry.name: evaluate(line.store, entry.folder, data, ks, entry.name) for entry in table}
    rows = [row(entry, results, line, metric) for entry in table]
    return {
        "format": 1,
        "command": command,
        "run": line.folder.name,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - started, 1),
        "versions": {"recdistill": __version__, "python": platform.python_version(), "torch": torch.__version__},
        "machine": {"cpu": cpu_name(), "threads": torch.get_num_threads()},
        "seed": line.cfg["seed"],
        "config_hash": digest({k: v for k, v in line.cfg.items() if k not in ("run", "cache")}),
        "commit": commit(),
        "overrides": overrides,
        "data": {"name": data_name(line), "fingerprint": line.data.fingerprint, "report": line.data.report,
                 "manifest": line.data.manifest},
        "metric": metric,
        "ks": ks,
        "n_users": results["teacher"].info["n_users"],
        "rows": rows,
        "notes": notes(line, results["teacher"]),
    }  # fmt: skip


def row(entry: Entry, results: dict[str, Evaluated], line: Line, metric: str) -> dict[str, Any]:
    """One row of the table."""
    own, teacher, alone = results[entry.name], results["teacher"], results["student alone"]
    values, of_teacher = own.per_user[metric], teacher.per_user[metric]
    kept = None
    if entry.role != "teacher" and float(of_teacher.mean()) > 0:
        share, low, high = bootstrap_ratio(values, of_teacher)
        kept = {"value": share, "low": low, "high": high}
    longest = own.top.shape[1]
    target = copy_model(entry, own, line.folder)
    return {
        "name": entry.name,
        "role": entry.role,
        "label": label(model_info(entry.folder)["net"], entry, line),
        **costs(entry.folder, line.data),
        "metrics": own.means,
        "ci": {metric: list(bootstrap_mean(values)[1:])},
        "kept": kept,
        "p_alone": None if entry.role == "alone" else paired_t(values, alone.per_user[metric]),
        "overlap": None if entry.role == "teacher" else {
            str(k): float(overlap_at_k(own.top, teacher.top, k).mean())
            for k in line.cfg["evaluation"]["ks"] if k <= longest
        },
        "tie_rate": own.info["tie_rate"],
        "warnings": own.info["warnings"],
        "weights_hash": model_info(entry.folder)["hash"],
        "train_seconds": stamp(entry.folder)["seconds"],
        "folder": str(target.relative_to(line.folder)),
    }  # fmt: skip


def copy_model(entry: Entry, result: Evaluated, run: Path) -> Path:
    """Puts model, history and per-user values into the run folder, so that it stands without the cache."""
    target = run / "models" / entry.name.replace(" + ", "_").replace(" ", "_")
    target.mkdir(parents=True, exist_ok=True)
    for file in (
        *(entry.folder / name for name in ("model.safetensors", "model.json", HISTORY)),
        result.folder / PER_USER,
    ):
        if file.exists():
            shutil.copyfile(file, target / file.name)
    return target


def label(net: dict[str, Any], entry: Entry, line: Line) -> str:
    """The model in a few words, such as "MF d=16" or "MF d=16, int8"."""
    words = str(net["_target_"]).rsplit(".", 1)[-1] + (f" d={net['dim']}" if "dim" in net else "")
    bits = {codec["bits"] for codec in model_info(entry.folder)["codecs"].values()} - {32}
    sparse = any(codec["sparse"] for codec in model_info(entry.folder)["codecs"].values())
    words += "".join(f", int{b}" for b in sorted(bits)) + (", pruned" if sparse else "")
    if entry.role == "student":
        words += ", " + "+".join(line.distillers)
    return words


def notes(line: Line, teacher: Evaluated) -> list[str]:
    """What a reader of the table must know of the test part; what was found is the headline's to say."""
    said = []
    if line.distillers and not line.cfg["alpha"]:
        said.append("alpha=0 gives the soft losses no weight: the distilled student would be the student alone")
    if cold := teacher.info["n_cold"]:
        said.append(f"{cold} relevant test pairs are of items without training data; no row can hit them")
    return said


def data_name(line: Line) -> str:
    """The file or folder of the data, or what makes them."""
    node = line.cfg["data"]
    return Path(node["path"]).name if node.get("path") else str(node["source"]["_target_"].rsplit(".", 1)[-1])


def commit() -> str | None:
    """The commit of the folder where the command runs, with "+" where it has changes; None outside a checkout."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def command_line() -> str:
    """The command as it was typed; Hydra rewrites ``sys.argv``."""
    return redact(os.environ.get(COMMAND, "recdistill run"))
