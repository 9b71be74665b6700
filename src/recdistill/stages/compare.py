"""Finished runs side by side: which lines there are, and whether they differ by more than noise."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.config.suggest import listing
from recdistill.errors import InputError
from recdistill.evaluation.metrics import direction
from recdistill.evaluation.significance import bootstrap_difference, bootstrap_mean, holm, paired_t
from recdistill.reporting.compare import FILES, ONE_SEED, SIGNIFICANT, print_comparison, write_comparison
from recdistill.reporting.finished import Run, finished_runs
from recdistill.reporting.jobs import fold_of
from recdistill.reporting.units import unit
from recdistill.stages.grid import difference_p
from recdistill.stages.lineup import Compared, lines_of, recipes_of, reference_of
from recdistill.stages.summary import command_line

if TYPE_CHECKING:
    from rich.console import Console


def compare(folders: Sequence[Path], cfg: dict[str, Any], console: Console) -> int:
    """Compares the runs in ``folders``, prints the table and writes it.

    Raises:
        InputError: no finished run, other data or users, a metric or a model that is not there, or a folder to write
            to that holds something else.
    """
    options = cfg["compare"]
    target = output_folder(options["output"], Path(cfg["run"]["root"]))
    runs, notes = finished_runs(folders)
    require_same_data(runs)
    recipes, twins = recipes_of(runs)
    metric = metric_of(runs, options["metric"])
    lines, same = lines_of(recipes, options["models"], metric)
    reference = lines.index(reference_of(lines, options["against"]))
    comparison = {
        "format": 1,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command_line(),
        "metric": metric,
        "direction": direction(metric),
        "data": {key: runs[0].summary["data"].get(key) for key in ("name", "fingerprint")},
        "n_users": lines[0].values.shape[1],
        "folds": sorted({fold for fold in lines[0].folds if fold is not None}),
        "against": reference + 1,
        "lines": tested(lines, reference, metric),
        "notes": [*notes, *twins, *same, *seed_notes(lines, unit(metric))],
    }
    write_comparison(target, comparison)
    print_comparison(comparison, console, target)
    return 0


def output_folder(wanted: str | None, root: Path) -> Path:
    """Where to write: never into a run, nor over anything that is not a comparison.

    Raises:
        InputError: the folder that was asked for holds other files.
    """
    if wanted is None:
        base = root / "compare" / f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}"
        return next(path for n in range(1, 1000) if not (path := Path(f"{base}_{n}" if n > 1 else base)).exists())
    target = Path(wanted)
    there = [target.name] if target.is_file() else sorted(p.name for p in target.iterdir()) if target.is_dir() else []
    if other := [name for name in there if name not in FILES]:
        raise InputError(
            "a comparison is not written there", where="compare.output", why=f"{target} holds {listing(other, 5)}",
            fix="give a folder of its own: compare.output=outputs/compare/NAME",
        )  # fmt: skip
    return target


def require_same_data(runs: Sequence[Run]) -> None:
    """Raises InputError for runs on different data, naming two such runs and what differs.

    The folds of one cross-validation are the same data: one source, filters and split, but for which fold is tested.
    """
    of_fold: dict[int | None, Run] = {}
    for run in runs:
        other = of_fold.setdefault(fold_of(run.summary), run)
        ours, theirs = (r.summary["data"] for r in (other, run))
        if ours.get("fingerprint") != theirs.get("fingerprint"):
            raise _different(other, run)
    first = runs[0]
    for run in of_fold.values():
        if run is not first and (None in of_fold or _but_for_fold(run) != _but_for_fold(first)):
            raise _different(first, run)


def _but_for_fold(run: Run) -> list[Any]:
    manifest = run.summary["data"].get("manifest") or {}
    split = {key: value for key, value in manifest["split"].items() if key != "fold"}
    # Without a source's hash nothing says that two folds are of one log.
    return [manifest.get("source_fingerprint", run.name), manifest.get("filters"), split]


def _different(first: Run, second: Run) -> InputError:
    ours, theirs = (run.summary["data"] for run in (first, second))
    a, b = (data.get("manifest") or {} for data in (ours, theirs))
    parts = [f"{name} part" for name in ("train", "valid", "test")
             if (a.get("parts") or {}).get(name) != (b.get("parts") or {}).get(name)]  # fmt: skip
    settings = [name for name in ("filters", "split", "features") if a.get(name) != b.get(name)]
    return InputError(
        f"{first.name} and {second.name} were made on different data", where=f"{first.folder} and {second.folder}",
        why=f"fingerprints {ours.get('fingerprint')} and {theirs.get('fingerprint')}; "
        f"different: {', '.join([*settings, *parts]) or 'items or users'}",
        fix="compare runs on the same data, filters and split",
    )  # fmt: skip


def metric_of(runs: Sequence[Run], wanted: str | None) -> str:
    """The metric that is compared.

    Raises:
        InputError: the runs have different ones and none is asked for.
    """
    own = {run.summary["metric"]: run.name for run in reversed(runs)}
    if wanted is None and len(own) > 1:
        named = ", ".join(f"{metric} ({name})" for metric, name in own.items())
        raise InputError(
            f"the runs have different metrics: {named}", where="compare.metric",
            fix=f"choose one: compare.metric={runs[0].summary['metric']}",
        )  # fmt: skip
    return wanted or str(runs[0].summary["metric"])


def tested(lines: Sequence[Compared], reference: int, metric: str) -> list[dict[str, Any]]:
    """What the table shows of each line; p-values are adjusted over all lines but the reference."""
    shown = [_measured(line, number) for number, line in enumerate(lines, 1)]
    others = [at for at in range(len(lines)) if at != reference]
    for at in others:
        shown[at] |= _against(lines[at], lines[reference])
    theirs, sign = lines[reference], 1 if direction(metric) == "max" else -1
    for at, p in zip(others, holm([shown[at]["p"] for at in others]), strict=True):
        gain = sign * shown[at]["difference"]["value"]
        verdict = ("better" if gain > 0 else "worse") + ONE_SEED * (1 in map(len, (lines[at].values, theirs.values)))
        shown[at] |= {"p_holm": p, "verdict": "noise" if p >= SIGNIFICANT else verdict}
    shown[reference]["verdict"] = "reference"
    return shown


def _measured(line: Compared, number: int) -> dict[str, Any]:
    many = len(line.values) > 1
    # One seed: as in the run's own table.
    several = bootstrap_difference(line.values, 0 * line.values, same_seeds=True)
    interval = several if many else bootstrap_mean(line.values[0])
    return {
        "number": number,
        "name": line.name,
        "role": line.row.get("role", ""),
        "label": line.row.get("label", ""),
        "detail": line.detail,
        "runs": [str(run.folder) for run, _ in line.found],
        "seeds": line.seeds,
        "folds": line.folds,
        "value": float(line.means.mean()),
        "sd": float(line.means.std(ddof=1)) if len(line.means) > 1 else None,
        "low": interval[1],
        "high": interval[2],
        "by_run": line.means.tolist(),
        "trials": max(int(row.get("trials") or 1) for _, row in line.found),
        **dict.fromkeys(("difference", "p", "p_users", "p_bootstrap", "p_holm")),
    }


def _against(line: Compared, reference: Compared) -> dict[str, Any]:
    """Difference, interval and both tests; with several seeds the one that knows of seeds counts."""
    ours, theirs = line.values, reference.values
    same_seeds = line.seeds == reference.seeds
    value, low, high, p_bootstrap = bootstrap_difference(ours, theirs, same_seeds=same_seeds)
    return {
        "difference": {"value": value, "low": low, "high": high},
        "p": difference_p(ours, theirs, same_seeds),
        "p_users": paired_t(ours.mean(0), theirs.mean(0)),
        "p_bootstrap": p_bootstrap,
    }


def seed_notes(lines: Sequence[Compared], of: str) -> list[str]:
    """What the seeds leave open; ``of`` is what tests are over, "user" or "row"."""
    counts = [len(line.values) for line in lines]
    if max(counts) == 1:
        return [f"one seed a line: p tells whether other {of}s would show the same, not whether other seeds would"]
    if single := [line.name for line in lines if len(line.values) == 1]:
        return [f"one seed only, taken to vary as the line it is compared with: {', '.join(dict.fromkeys(single))}"]
    return []
