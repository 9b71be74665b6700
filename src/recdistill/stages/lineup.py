"""The lines of a comparison: a model over the seeds and folds of its recipe, with its values by user or row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recdistill.config.metrics import BY_USER
from recdistill.config.suggest import did_you_mean, listing, nearest
from recdistill.errors import InputError
from recdistill.evaluation.significance import Array
from recdistill.reporting.finished import Run
from recdistill.reporting.jobs import fold_of, of_the_recipe
from recdistill.reporting.units import tabular, unit
from recdistill.reporting.users import values_file
from recdistill.stages.results import PER_ROW, PER_USER

END_OF_LINE = ("compressed", "student", "alone")
Found = Sequence[tuple[Run, dict[str, Any]]]
"""Run and row of each seed and fold."""
_NUMBER = re.compile(r"([^= ]+)=-?\d+\.?\d*(e[+-]?\d+)?")
_OF_PLACE = ("run.", "cache=", "logger", "checkpoint.", "recommend.", "report.")


@dataclass
class Recipe:
    """Runs that differ by their seed, or the fold of a cross-validation, alone.

    Attributes:
        runs: one a seed and fold.
        detail: what tells it from the other recipes: overrides, or the names of the runs.
    """

    runs: list[Run]
    detail: str = ""

    @property
    def overrides(self) -> set[str]:
        kept = [{o for o in of_the_recipe(run.summary.get("overrides") or ()) if not o.startswith(_OF_PLACE)}
                for run in self.runs]  # fmt: skip
        return set.intersection(*kept)

    @property
    def names(self) -> str:
        return ", ".join(run.name for run in self.runs)

    def rows(self, name: str) -> list[tuple[Run, dict[str, Any]]]:
        """Run and row of each seed and fold, in their order, so that two recipes can be paired by them."""
        runs = sorted(self.runs, key=lambda run: [-1 if part is None else part for part in _repetition(run)])
        return [(run, row) for run in runs for row in run.summary["rows"] if row["name"] == name]


@dataclass
class Compared:
    """One line: a model over the seeds and folds of its recipe.

    Attributes:
        found: run and row of each seed and fold.
        detail: of its recipe.
        values: the metric by seed and user or row of a table, ``[S, U]``; over folds, a user's mean over those where it
            is tested.
        means: the metric of each run.
    """

    found: list[tuple[Run, dict[str, Any]]]
    detail: str
    values: Array
    means: Array

    @property
    def row(self) -> dict[str, Any]:
        return self.found[0][1]

    @property
    def name(self) -> str:
        return str(self.row["name"])

    @property
    def seeds(self) -> list[Any]:
        return [_seed(run) for run, _ in self.found]

    @property
    def folds(self) -> list[int | None]:
        return [fold_of(run.summary) for run, _ in self.found]


def recipes_of(runs: Iterable[Run]) -> tuple[list[Recipe], list[str]]:
    """The runs by what they have in common but seed and fold, and a note on each that says nothing new.

    A second run with the same seed and fold starts a second line, unless it has the same weights: then it is left out.
    """
    found: dict[tuple[str, int], Recipe] = {}
    notes = []
    for run in runs:
        recipe = str(run.summary.get("recipe_hash") or run.summary.get("config_hash") or run.folder)
        rivals = [found[key] for key in found if key[0] == recipe]
        same_seed = [other for rival in rivals for other in rival.runs if _repetition(other) == _repetition(run)]
        if twin := next((other for other in same_seed if _weights(other) == _weights(run)), None):
            notes.append(f"{run.name} is {twin.name} once more (recipe, seed and weights): left out")
        else:
            found.setdefault((recipe, len(same_seed)), Recipe([])).runs.append(run)
    recipes = list(found.values())
    _tell_apart(recipes)
    return in_order(recipes), notes


def in_order(recipes: Sequence[Recipe]) -> list[Recipe]:
    """Those of one swept number by that number, since a shell gives 10 before 2; any others as they were given."""
    swept = [_NUMBER.fullmatch(recipe.detail) for recipe in recipes]
    keys = {match and match[1] for match in swept}
    if None in keys or len(keys) > 1:
        return list(recipes)
    return sorted(recipes, key=lambda recipe: float(recipe.detail.partition("=")[2]))


def _seed(run: Run) -> Any:
    return run.summary.get("seed")


def _repetition(run: Run) -> tuple[Any, int | None]:
    return _seed(run), fold_of(run.summary)


def _weights(run: Run) -> list[Any]:
    return [(row["name"], row.get("weights_hash") or str(run.folder)) for row in run.summary["rows"]]


def _tell_apart(recipes: Sequence[Recipe]) -> None:
    if len(recipes) < 2:
        return
    common = set.intersection(*(recipe.overrides for recipe in recipes))
    own = [" ".join(sorted(recipe.overrides - common)) for recipe in recipes]
    telling = len(set(own)) == len(own)
    for recipe, overrides in zip(recipes, own, strict=True):
        recipe.detail = overrides if telling and overrides else recipe.names


def lines_of(recipes: Sequence[Recipe], wanted: Any, metric: str) -> tuple[list[Compared], list[str]]:
    """The lines of the table, and a note where one stands for several with the same weights.

    Raises:
        InputError: no row has a wanted name, or users, rows or metric are missing.
    """
    lines: dict[Any, Compared] = {}
    notes = []
    users: tuple[Path, pl.Series] | None = None
    for recipe in recipes:
        for name in _names(recipe, recipes, wanted):
            found = recipe.rows(name)
            if not found:
                continue
            key = (name, tuple(row.get("weights_hash") or str(run.folder) for run, row in found))
            if key in lines:
                notes.append(f"{name} of {recipe.names} has the same weights as that of {_runs(lines[key])}: one line")
                continue
            _require_same_folds(found, next((line.found for line in lines.values()), found))
            values, means, users = _load(found, metric, users)
            lines[key] = Compared(found, recipe.detail, values, means)
    return list(lines.values()), notes


def _require_same_folds(found: Found, first: Found) -> None:
    """Raises InputError for a mean over some folds that would be compared with one over others."""
    wanted = next(iter(_folds_by_seed(first).values()))
    for folds in (*_folds_by_seed(first).values(), *_folds_by_seed(found).values()):
        if folds != wanted:
            raise InputError(
                f"{found[0][0].name} and {first[0][0].name} have different folds",
                where=f"{first[0][0].folder} and {found[0][0].folder}",
                why=f"a model was tested on the folds {listing(map(str, wanted))}, another or another seed of it on"
                f" {listing(map(str, folds))}",
                fix="run each recipe and seed on the same folds: recdistill run -m data.split.fold=1,2,...",
            )  # fmt: skip


def _folds_by_seed(found: Found) -> dict[Any, list[int | None]]:
    folds: dict[Any, list[int | None]] = {}
    for run, _ in found:
        folds.setdefault(_seed(run), []).append(fold_of(run.summary))
    return folds


def _runs(line: Compared) -> str:
    return ", ".join(run.name for run, _ in line.found)


def _names(recipe: Recipe, recipes: Sequence[Recipe], wanted: Any) -> list[str]:
    """The rows of a recipe that are compared: those asked for, all of an only recipe, or the end of its line."""
    rows = recipe.runs[0].summary["rows"]
    if wanted is not None:
        names = [wanted] if isinstance(wanted, str) else [str(name) for name in wanted]
        known = {row["name"] for other in recipes for run in other.runs for row in run.summary["rows"]}
        for name in names:
            if name not in known:
                raise InputError(
                    f"no row is called {name!r}", where="compare.models", why=f"the rows are: {listing(known)}",
                    fix=did_you_mean(name, known),
                )  # fmt: skip
        return names
    if len(recipes) == 1:
        return [row["name"] for row in rows]
    for role in END_OF_LINE:
        if ends := [row["name"] for row in rows if row.get("role") == role]:
            return [ends[-1]]
    return [rows[-1]["name"]]


def _load(
    found: Found, metric: str, users: tuple[Path, pl.Series] | None
) -> tuple[Array, Array, tuple[Path, pl.Series]]:
    """Values ``[S, U]`` and the means of the runs; users or rows in the order of their ids, those seen before."""
    of_seed: dict[Any, list[pl.DataFrame]] = {}
    folders: dict[Any, Path] = {}
    means = []
    for run, row in found:
        frame = read_values(run, row, metric)
        means.append(frame["value"].to_numpy().mean())
        of_seed.setdefault(_seed(run), []).append(frame)
        folders.setdefault(_seed(run), run.folder)
    values = []
    for seed, frames in of_seed.items():
        frame = frames[0]
        if len(frames) > 1:
            frame = pl.concat(frames).group_by("user").agg(pl.col("value").mean()).sort("user")
        users = users or (folders[seed], frame["user"])
        _require_same_users(users, (folders[seed], frame["user"]), f"{unit(metric)}s")
        values.append(frame["value"].to_numpy())
    assert users is not None
    return np.stack(values), np.array(means), users


def _require_same_users(first: tuple[Path, pl.Series], second: tuple[Path, pl.Series], units: str) -> None:
    if first[1].equals(second[1]):
        return
    ours, theirs = set(first[1]), set(second[1])
    raise InputError(
        f"the runs were evaluated on different {units}", where=f"{first[0]} and {second[0]}",
        why=f"{len(ours - theirs):,} {units} are only in the first, {len(theirs - ours):,} only in the second",
        fix="compare runs that were evaluated on the same test part",
    )  # fmt: skip


def read_values(run: Run, row: dict[str, Any], metric: str) -> pl.DataFrame:
    """Columns ``user`` (of a metric by row, the number of the row) and ``value``, ordered by the former.

    Row 3 of one fold is not row 3 of another: rows of folds carry the number of theirs.

    Raises:
        InputError: the file is missing or damaged, or lacks the metric.
    """
    of, fold = unit(metric), fold_of(run.summary)
    try:
        if metric not in (known := _with_values(run, row, metric)):
            raise _no_metric(metric, known, run, row)
        frame = pl.read_parquet(run.inside(row, values_file(metric)), columns=[of, metric])
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(
            f"the values of the {of}s cannot be read", where=str(run.inside(row)), why=str(error).splitlines()[0],
            fix="make the run again",
        ) from error  # fmt: skip
    name = pl.col(of).cast(pl.String)
    if of == "row" and fold is not None:
        name = pl.lit(f"{fold}:") + name
    return frame.select(name.alias("user"), pl.col(metric).cast(pl.Float64).alias("value")).sort("user")


def _with_values(run: Run, row: dict[str, Any], metric: str) -> list[str]:
    """The metrics that a row has values of, by user or row."""
    there = [file for file in (PER_USER, PER_ROW) if (run.folder / str(row.get("folder")) / file).exists()]
    files = [run.inside(row, file) for file in there or [values_file(metric)]]
    return sorted({name for file in files for name in pl.read_parquet_schema(file)} & set(row["metrics"]))


def _no_metric(metric: str, known: list[str], run: Run, row: dict[str, Any]) -> InputError:
    of = "row" if tabular(run.summary) and metric not in BY_USER else "user"
    why = f"there are: {listing(known)}"
    if metric in row["metrics"]:
        why = f"{metric} is one number for all {of}s, so no test can be made; {why}"
    near = nearest(metric, known, 1)
    return InputError(
        f"{run.name} has no {metric} by {of}", where="compare.metric", why=why,
        fix=f"compare.metric={near[0]}" if near else None,
    )  # fmt: skip


def reference_of(lines: Sequence[Compared], wanted: str | int | None) -> Compared:
    """The line that the others are compared with.

    Raises:
        InputError: no line or more than one is meant.
    """
    if wanted is None:
        return lines[0]
    if isinstance(wanted, int):
        meant = [lines[wanted - 1]] if wanted <= len(lines) else []
    else:
        meant = [line for line in lines if wanted == line.name] or [
            line for line in lines if any(wanted in (run.name, str(run.folder)) for run, _ in line.found)
        ]
    if len(meant) == 1:
        return meant[0]
    numbered = "\n".join(f"{n}: {line.name} ({_runs(line)})" for n, line in enumerate(lines, 1))
    raise InputError(
        f"{wanted!r} is {'more than one line' if meant else 'no line'}", where="compare.against",
        why=f"the lines are\n{numbered}", fix="give its number: compare.against=1",
    )  # fmt: skip
