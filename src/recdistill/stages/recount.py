"""The rows of a finished run computed once more: which there must be, and what each of them must say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recdistill.data.interactions import Data
from recdistill.export.bundle import WEIGHTS, count_parameters, model_info
from recdistill.reporting.finished import Run
from recdistill.reporting.verify import Check
from recdistill.runs.atomic import file_digest, read_json
from recdistill.stages.agree import equal, figures_agree, units_agree
from recdistill.stages.nodes import as_asked, bundle_of, merged, spelled_out
from recdistill.stages.results import PER_ROW, PER_USER, Evaluated
from recdistill.stages.summary import adjust, label, models_folder, planned, quality, tried
from recdistill.stages.tune import TRIALS, combinations

MEASURED = ("latency", "work", "train_seconds")  # once, when the run was made


def plan_checks(run: Run, config: dict[str, Any]) -> Iterator[Check]:
    """Whether the rows, and the folders of weights, are those that the config gives."""
    roles = dict(planned(config))
    names = [row["name"] for row in run.summary["rows"]]
    yield from (Check(f"{name}: row", "nothing", role, False) for name, role in roles.items() if name not in names)
    yield from (Check(f"{name}: row", "a row", "nothing", False) for name in names if name not in roles)
    yield equal("order of rows", ", ".join(names), ", ".join(roles))
    there = sorted(path.name for path in (run.folder / "models").glob("*") if path.is_dir())
    yield equal("rows and models", ", ".join(there), ", ".join(sorted(models_folder(name).name for name in roles)))


def row_checks(run: Run, results: dict[str, Evaluated], config: dict[str, Any], data: Data) -> Iterator[Check]:
    """Every key and figure of each row that could be evaluated, and each user's values."""
    roles = dict(planned(config))
    rows = {row["name"]: row for row in run.summary["rows"] if row["name"] in results}
    found = {name: _found(run.inside(row), name, roles[name], results, config) for name, row in rows.items()}
    whole = set(results) == set(roles)
    if whole:
        adjust(list(found.values()))
    for name, row in rows.items():
        folder, ours = run.inside(row), found[name]
        stored = {key: value for key, value in row.items() if key not in MEASURED}
        if not whole:  # what needs all rows is left out; the row that lacks is said elsewhere
            ours.pop("p_alone_holm", None)
            stored = {key: row.get(key) for key in ours}
        yield from figures_agree(f"{name}:", stored, ours)
        for file in (PER_USER, PER_ROW):
            if (results[name].folder / file).exists():
                yield from units_agree(f"{name}:", run.inside(row, file), results[name].folder / file)
        yield from _model_checks(folder, name, roles[name], config, data)


def _found(folder: Path, name: str, role: str, results: dict[str, Evaluated], config: dict[str, Any]) -> dict[str, Any]:
    """A row without what was measured once; without what needs teacher and student alone, where they lack."""
    found: dict[str, Any] = {"metrics": results[name].means}
    if {"teacher", "student alone"} & dict(planned(config)).keys() <= set(results):
        found = quality(name, role, results, config["evaluation"]["ks"], config["evaluation"]["metric"])
    return found | {
        "name": name,
        "role": role,
        "label": label(folder, role, config),
        **count_parameters(folder),
        "bytes": (folder / WEIGHTS).stat().st_size,
        "weights_hash": file_digest(folder / WEIGHTS),
        "trials": _record(folder, role, config)[0],
        "folder": str(models_folder(name)),
    }


def _record(folder: Path, role: str, config: dict[str, Any]) -> tuple[Any, int]:
    """Trials of a row, and which was chosen, by the record beside the model; ("unreadable", 0) for a broken one."""
    try:
        count = tried(role, folder, config)
        chosen = read_json(folder / TRIALS)["chosen"] if role == "baseline" and (folder / TRIALS).exists() else 0
    except (ValueError, TypeError, KeyError):
        return "unreadable", 0
    return count, chosen if isinstance(chosen, int) and 0 <= chosen < count else 0


def _model_checks(folder: Path, name: str, role: str, config: dict[str, Any], data: Data) -> Iterator[Check]:
    """Whether the model is the one that the config names, of a tuned baseline the one that was chosen."""
    teacher = config["teacher"]
    node = {"teacher": teacher, "teacher_along": teacher, "student": config["student"]}.get(role)
    if role == "alone":
        node = merged(config["student"], config["alone"])
    if role == "baseline":
        choices = combinations(config["baselines"][name], f"baselines.{name}")
        count, chosen = _record(folder, role, config)
        yield equal(f"{name}: trials of its grid", count, len(choices) if len(data.valid) else 1)
        node = choices[chosen if chosen < len(choices) else 0]
    if role == "teacher_quantized":
        bits = {codec["bits"] for codec in model_info(folder)["codecs"].values()}
        yield equal(f"{name}: bits", sorted(bits), [int(name.removeprefix("teacher int"))])
    carried = role == "teacher" and bool(config.get("transfer"))  # across a bridge, which makes a model of its own
    if node is not None and not carried and bundle_of(node, name) is None:  # a bundle's folder says what it is
        both = (model_info(folder)["net"], spelled_out(node, name))
        nets = (json.dumps(as_asked(net, name), sort_keys=True) for net in both)
        yield equal(f"{name}: model", *nets)
