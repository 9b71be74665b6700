"""Tuning: every combination of a small grid is fitted, and the one that does best on the validation part is kept."""

from __future__ import annotations

import copy
import itertools
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recdistill.config.check import check_nodes, require_valid
from recdistill.config.plugins import plugin_modules
from recdistill.config.suggest import listing, nearest_key
from recdistill.errors import InputError
from recdistill.evaluation.metrics import Direction, direction
from recdistill.runs.atomic import read_json, write_json

log = logging.getLogger(__name__)

TRIALS = "trials.json"
_FEWEST = 3  # of two values, each is an edge
Node = dict[str, Any]


def combinations(node: Node, where: str) -> list[Node]:
    """The configs that one with a grid stands for, in order: the first key varies slowest.

    Args:
        node: of a model, and under ``tune`` the values to try of its own dotted keys, such as
            ``{net.l2: [100, 250]}``; without it, or with an empty one, the node itself is the only one.
        where: its key in the config.

    Raises:
        InputError: a key is not one of the node's, has no list of values, or a constructor refuses a value.
    """
    plain = {name: value for name, value in node.items() if name != "tune"}
    grid = node.get("tune") or {}
    keys = dotted(plain)
    for key, values in grid.items():
        if key not in keys:
            near = nearest_key(key, keys)
            raise InputError(
                f"there is no {key} to tune", where=f"{where}.tune",
                why=f"the keys are: {listing(keys)}", fix=f"did you mean {near[0]}?" if near else None,
            )  # fmt: skip
        if not isinstance(values, list) or not values:
            raise InputError(
                f"{values!r} is no list of values to try", where=f"{where}.tune.{key}",
                fix=f"'{where}.tune={{{key}:[{values or 1},...]}}', or {where}.tune=null for no tuning",
            )  # fmt: skip
    found = [changed(plain, dict(zip(grid, values, strict=True))) for values in itertools.product(*grid.values())]
    for choice in found if grid else []:
        require_valid(check_nodes(choice, where, plugins=plugin_modules()))
    return found


def dotted(node: Node, prefix: str = "") -> list[str]:
    """Every key below ``node`` but those of Hydra."""
    keys = []
    for name, value in node.items():
        if not str(name).startswith("_"):
            keys += [f"{prefix}{name}", *(dotted(value, f"{prefix}{name}.") if isinstance(value, dict) else [])]
    return keys


def changed(node: Node, values: Node) -> Node:
    """``node`` with the values of some dotted keys replaced."""
    result = copy.deepcopy(node)
    for key, value in values.items():
        *path, leaf = key.split(".")
        inner = result
        for name in path:
            inner = inner[name]
        inner[leaf] = value
    return result


def search(
    folder: Path, choices: list[Node], fit: Callable[[Node, Path], None], score: Callable[[Path], float],
    best: Direction = "max",
) -> list[float]:  # fmt: skip
    """Fits all choices and leaves the best model in ``folder``, of equals the first; gives the score of each.

    Only the best so far is kept on disk, since a model may be large. What a killed search has finished is not done
    again.

    Args:
        fit: writes the model of a choice into a folder.
        score: the validation metric of the model in a folder.
        best: whether its largest or its smallest value is best.
    """
    record = folder / TRIALS
    values: list[float] = read_json(record)["values"] if record.exists() else []
    for number in range(len(values), len(choices)):
        trial = folder / f"trial_{number}"
        fit(choices[number], trial)
        values.append(score(trial))
        write_json(record, {"values": values})
        for worse in set(range(number + 1)) - {best_of(values, best)}:
            shutil.rmtree(folder / f"trial_{worse}", ignore_errors=True)
    winner = folder / f"trial_{best_of(values, best)}"
    if winner.exists():
        for file in list(winner.iterdir()):
            file.replace(folder / file.name)
        winner.rmdir()
    return values


def best_of(values: list[float], best: Direction) -> int:
    """The place of the best value, of equals the first; one that is not a number is never the best."""
    sign = 1.0 if best == "max" else -1.0
    ranked = [-math.inf if math.isnan(value) else sign * value for value in values]
    return ranked.index(max(ranked))


def write_trials(folder: Path, grid: Node, values: list[float], metric: str) -> str:
    """Says in ``trials.json`` what was tried and what came of it; gives the best in words."""
    tried = [dict(zip(grid, choice, strict=True)) for choice in itertools.product(*grid.values())]
    chosen = best_of(values, direction(metric))
    edge = at_edge(grid, tried[chosen])
    write_json(folder / TRIALS, {"metric": metric, "part": "valid", "chosen": chosen, "tried": tried, "values": values})
    words = ", ".join(f"{key}={value}" for key, value in tried[chosen].items())
    said = f"best of {len(values)} trials: {words} ({metric} {values[chosen]:.4f} on the validation part)"
    return said + (f"; at the edge of what was tried: {', '.join(edge)}" if edge else "")


def at_edge(grid: Node, chosen: Node) -> list[str]:
    """The keys whose chosen number is the lowest or the highest of three or more: a better one may lie beyond."""
    found = []
    for key, values in grid.items():
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        if len(numbers) == len(values) >= _FEWEST and chosen[key] in (min(numbers), max(numbers)):
            found.append(key)
    return found


def edges(folder: Path) -> list[str]:
    """What :func:`at_edge` says of the model in ``folder``, by its record; nothing where that can't be read."""
    try:
        record = read_json(folder / TRIALS)
        tried = record["tried"]
        grid = {key: list(dict.fromkeys(trial[key] for trial in tried)) for key in tried[0]}
        return at_edge(grid, tried[record["chosen"]])
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        return []


def trials(folder: Path) -> int:
    """How many models were fitted to choose the one in ``folder``."""
    return len(read_json(folder / TRIALS)["values"]) if (folder / TRIALS).exists() else 1


def stated(node: Node, where: str) -> int:
    """How many trials somebody says that their own settings of a model took, by its key ``trials``; default 1.

    Raises:
        InputError: it is no whole number from 1 on; or the node has a grid, which is for baselines.
    """
    if node.get("tune"):
        raise InputError(
            f"the {where} is not tuned by a grid of its own", where=f"{where}.tune", why="baselines are",
            fix=f"recdistill run -m {where}.KEY=VALUE,VALUE is a grid, and +{where}.trials=N says how many were tried",
        )  # fmt: skip
    count = node.get("trials", 1)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InputError(f"{count!r} is no number of trials", where=f"{where}.trials", fix=f"+{where}.trials=1")
    return count
