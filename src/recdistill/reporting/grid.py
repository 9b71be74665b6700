"""A grid's jobs as one table: a row for each configuration and model, over its seeds and folds."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recdistill.config.metrics import sign
from recdistill.reporting import users
from recdistill.reporting.jobs import Job, exit_code, fold_of, of_the_recipe, read_jobs
from recdistill.reporting.table import first

Test = Callable[[Any, Any, bool], float]
"""Two-sided p-value of two models: values ``[S, U]`` of each, and whether their seeds are the same ones in order."""


@dataclass
class Group:
    """The rows of one model in the jobs that differ only by their seed or fold.

    Attributes:
        key: overrides of these jobs.
        jobs: each model once.
        repeats: all of them, those of several seeds that share one model too.
    """

    key: tuple[str, ...]
    jobs: list[tuple[Job, dict[str, Any]]]
    repeats: list[tuple[Job, dict[str, Any]]]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for _, row in self.jobs]

    @property
    def folds(self) -> list[int]:
        return sorted({fold for job, _ in self.repeats if (fold := fold_of(job.summary)) is not None})

    def tested(self) -> dict[str, list[users.Tested]]:
        """Where the values lie by seed, in the order of the seeds: one place, or one a fold."""
        found: dict[str, list[users.Tested]] = {}
        for job, row in sorted(self.repeats, key=lambda repeat: str(repeat[0].summary.get("seed"))):
            place = users.Tested(job.folder / str(row.get("folder") or ""), fold_of(job.summary))
            found.setdefault(str(job.summary.get("seed")), []).append(place)
        return found

    @property
    def identity(self) -> frozenset[tuple[str, str]]:
        """Weights and what they reached: two groups that share them hold the same model."""
        return frozenset((str(row.get("weights_hash")), _rounded(row)) for row in self.rows)


def _rounded(row: Mapping[str, Any]) -> str:
    """The metrics without the last digits, which may depend on the number of threads."""
    return str({name: f"{value:.6f}" for name, value in sorted((row.get("metrics") or {}).items())})


def collect(folder: Path, test: Test) -> dict[str, Any]:
    """Everything that ``grid.json`` holds: ``rows``, ``failed``, ``common`` overrides, counts.

    Args:
        folder: of the grid.
        test: two-sided p-value of two models' values by seed and user.

    Raises:
        InputError: the folder has no jobs.
    """
    done, failed = read_jobs(folder)
    metric = done[0].summary["metric"] if done else None
    common = _common([*(job.overrides for job in done), *(job["overrides"] for job in failed if job["overrides"])])
    groups = _groups(done)
    rows = [_row(group, groups, str(metric), common, test) for group in _distinct(groups)]
    tried = Counter[str]()
    for row in rows:
        tried[row["name"]] += row["trials"]
    for row in rows:
        row["trials"] = tried[row["name"]]
    _adjust(rows)
    return {
        "format": 1,
        "folder": str(folder),
        "metric": metric,
        "data": _one([(job.summary.get("data") or {}).get("name") for job in done]),
        "transfer": _one([job.summary.get("transfer") for job in done]),
        **_counts(done),
        "common": common,
        "n_jobs": len(done) + len(failed),
        "n_failed": len(failed),
        "n_configs": len({of_the_recipe(job.overrides) for job in done} | _configs(failed)),
        "rows": sorted(rows, key=lambda row: row["role"] not in ("teacher", "teacher_quantized", "alone")),
        "failed": failed,
        "notes": list(dict.fromkeys(note for job in done for note in job.summary.get("notes") or [])),
        "data_warnings": list(dict.fromkeys(text for job in done for text in _of_the_data(job))),
    }


def _counts(done: Sequence[Job]) -> dict[str, Any]:
    """How many users or rows the test part has, where all jobs agree."""
    name = "n_rows" if any("n_rows" in job.summary for job in done) else "n_users"
    return {name: _one([job.summary.get(name) for job in done])}


def _of_the_data(job: Job) -> list[str]:
    report = (job.summary.get("data") or {}).get("report") or {}
    return list(report.get("warnings") or [])


def _configs(failed: Sequence[Mapping[str, Any]]) -> set[tuple[str, ...]]:
    return {of_the_recipe(job["overrides"]) for job in failed if job["overrides"]}


def _common(overrides: Sequence[Sequence[str]]) -> list[str]:
    """What every job was given, as far as is known: a job that never started left no overrides."""
    sets = [set(texts) for texts in overrides]
    return sorted(set.intersection(*sets)) if sets else []


def _one(values: Sequence[Any]) -> Any:
    """The value that all jobs share, else ``None``."""
    return values[0] if values and all(value == values[0] for value in values) else None


def _groups(jobs: Sequence[Job]) -> list[Group]:
    found: dict[tuple[Any, ...], Group] = {}
    for job in jobs:
        key = of_the_recipe(job.overrides)
        for row in job.summary["rows"]:
            group = found.setdefault((key, row["name"], row.get("role")), Group(key, [], []))
            group.repeats.append((job, row))
            # Several seeds may share one teacher: the same weights are no second observation of it.
            known = {str(other.get("weights_hash")) for other in group.rows if other.get("weights_hash")}
            if str(row.get("weights_hash")) not in known:
                group.jobs.append((job, row))
    return list(found.values())


def _distinct(groups: Sequence[Group]) -> list[Group]:
    """One group for each set of weights; a part of the set (a job failed) is not shown beside the whole."""
    shown: list[Group] = []
    for group in sorted(groups, key=lambda group: -len(group.rows)):
        hashed = all(row.get("weights_hash") for row in group.rows)
        if not (hashed and any(_same(group, other) for other in shown)):
            shown.append(group)
    return [group for group in groups if any(group is other for other in shown)]


def _same(group: Group, larger: Group) -> bool:
    a, b = group.rows[0], larger.rows[0]
    alike = (a["name"], a.get("role")) == (b["name"], b.get("role"))
    return alike and group.identity <= larger.identity


def _row(group: Group, groups: Sequence[Group], metric: str, common: Sequence[str], test: Test) -> dict[str, Any]:
    """One line of the grid's table."""
    row = group.rows[0]
    sharing = [other for other in groups if other.rows[0].get("role") == row.get("role") and _same(other, group)]
    shared = set.intersection(*(set(other.key) for other in [group, *sharing]))
    alones = [other for other in groups if other.rows[0].get("role") == "alone"]
    baselines = {other.identity for other in alones if other.key in {part.key for part in [group, *sharing]}}
    return {
        "name": row["name"],
        "role": row.get("role", ""),
        "label": row.get("label") or "",
        "overrides": [text for text in group.key if text in shared and text not in common],
        "n_runs": len(group.rows),
        "folds": group.folds,
        "trials": row.get("trials") or 1,
        "jobs": [job.folder.name for job, _ in group.jobs],
        "parameters": row.get("parameters"),
        "nonzeros": row.get("nonzeros"),
        "bytes": row.get("bytes"),
        "teacher_bytes": _teacher_bytes(group),
        "metrics": users.over_seeds(group.rows),
        **_tests(group, groups, metric, test),
        # A teacher that several students share has no one student alone to be compared with.
        **({"p_alone": None, "gain": None} if _ambiguous(baselines) else {}),
        "p_holm": None,
        "latency": row.get("latency"),
        "work": row.get("work"),
        "weights_hashes": [other.get("weights_hash") for other in group.rows],
        "warnings": list(dict.fromkeys(text for other in group.rows for text in other.get("warnings") or [])),
    }


def _ambiguous(baselines: set[frozenset[tuple[str, str]]]) -> bool:
    """More than one baseline, where one that lacks a seed is no other baseline."""
    largest: frozenset[tuple[str, str]] = max(baselines, key=len, default=frozenset())
    return any(not baseline <= largest for baseline in baselines)


def _teacher_bytes(group: Group) -> int | None:
    teacher = first(group.jobs[0][0].summary["rows"], "teacher")
    return teacher.get("bytes") if teacher else None


def _tests(group: Group, groups: Sequence[Group], metric: str, test: Test) -> dict[str, Any]:
    """``kept`` and ``p_alone`` from the users or rows of all seeds; a single run falls back on its own summary."""
    role, only = group.rows[0].get("role"), group.rows[0] if len(group.rows) == 1 else {}
    # A mean over some folds can't be paired with one over others.
    rivals = [other for other in reversed(groups) if other.key == group.key and other.folds == group.folds]
    by_role = {other.rows[0].get("role"): other for other in rivals}
    p = None if role == "alone" else _p(group, by_role.get("alone"), metric, test)
    values, teacher = _values(group, metric), _values(by_role["teacher"], metric) if "teacher" in by_role else None
    kept = None if role == "teacher" else users.kept_share(values, teacher, metric)
    return {
        "kept": only.get("kept") if kept is None else kept,
        "gain": _gain(group, by_role.get("alone"), metric),
        "p_alone": only.get("p_alone") if p is None else p,
    }


def _p(group: Group, alone: Group | None, metric: str, test: Test) -> float | None:
    """Whether a model differs from the student alone, by each user's mean over the folds of a seed."""
    if alone is None:
        return None
    ours, theirs = group.tested(), alone.tested()
    found = users.paired_by_seed(list(ours.values()), list(theirs.values()), metric)
    return None if found is None else test(*found, list(ours) == list(theirs))


def _gain(group: Group, alone: Group | None, metric: str) -> float | None:
    """How much better the mean is than that of the student alone."""
    ours, theirs = (users.over_seeds(part.rows).get(metric) if part else None for part in (group, alone))
    return sign(metric) * (ours["mean"] - theirs["mean"]) if ours and theirs else None


def _values(group: Group, metric: str) -> Any:
    return users.mean_values([run for runs in group.tested().values() for run in runs], metric)


def _adjust(rows: Sequence[dict[str, Any]]) -> None:
    """Holm over all models that are tested: a grid asks the same question many times. A teacher that is the student
    alone under another name is not tested."""
    alone = {tuple(row["weights_hashes"]) for row in rows if row["role"] == "alone"}
    tested = [row for row in rows if row["p_alone"] is not None and tuple(row["weights_hashes"]) not in alone]
    for row, p in zip(tested, users.holm([row["p_alone"] for row in tested]), strict=True):
        row["p_holm"] = p


def finish(folder: Path, test: Test) -> int:
    """Writes the grid's reports, prints them and returns the exit code of the whole grid."""
    from rich.console import Console

    from recdistill.reporting.grid_report import print_grid, write_grid

    grid = collect(folder, test)
    write_grid(folder, grid)
    print_grid(grid, Console(width=None if sys.stdout.isatty() else 100), folder)
    return exit_code(grid["failed"])
