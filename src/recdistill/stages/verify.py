"""A finished run recomputed from its own config, data and weights, and every figure compared with what it says.

Nothing in the run folder is trusted or written to: its config passes the same gate as one that is typed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.errors import InputError
from recdistill.evaluation.cost import pinned_threads
from recdistill.export.bundle import WEIGHTS, count_parameters
from recdistill.reporting.finished import GRID, Run, finished_runs
from recdistill.reporting.grid import collect
from recdistill.reporting.verify import Check, print_checks
from recdistill.runs.atomic import file_digest, read_json
from recdistill.runs.store import Store
from recdistill.stages.agree import equal, figures_agree, users_agree
from recdistill.stages.evaluate import PER_USER, Evaluated, evaluate
from recdistill.stages.remake import Remade, remade_config, remade_data
from recdistill.stages.summary import config_hash, quality, versions

if TYPE_CHECKING:
    from rich.console import Console

# The source's place and bytes may differ where what was read does not; the hashes are looked at one by one.
_LEFT_OUT = ("source", "source_fingerprint", "parts", "catalogue")


def verify(folders: Sequence[Path], cfg: dict[str, Any], console: Console) -> int:
    """Recomputes every run in ``folders``, a grid's jobs one by one, and prints what agrees.

    Raises:
        InputError: something does not agree, or a run can't be recomputed.
    """
    runs, notes = finished_runs(folders)
    known: dict[str, Remade] = {}
    wrong = []
    for run in runs:
        config, place = remade_config(run.folder), cfg["verify"]["data"]
        node = remade_config(run.folder, place)["data"] if place else config["data"]
        data = remade_data(run, node, [cfg["cache"], config["cache"]], known)
        with tempfile.TemporaryDirectory(prefix="recdistill-verify-") as temporary, _threads(run):
            checks = list(checks_of(run, config, data, Store(Path(temporary))))
        print_checks(str(run.folder), checks, [*notes, data.origin, *version_notes(run)], console)
        wrong += [(run.name, check.what) for check in checks if not check.agrees]
        notes = []
    for folder in folders:
        if (folder / GRID).is_file():
            checks = [equal_grid(folder)]
            print_checks(str(folder / GRID), checks, [], console)
            wrong += [(folder.name, check.what) for check in checks if not check.agrees]
    if wrong:
        more = f"\nand {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise InputError(
            f"not verified: {len(wrong)} {'thing does' if len(wrong) == 1 else 'things do'} not agree",
            where="\n".join(f"{name}: {what}" for name, what in wrong[:5]) + more,
            why="data, weights or figures were changed after the run, or it was computed with other versions",
            fix="put back what was changed, or make the run again",
        )
    return 0


def checks_of(run: Run, config: dict[str, Any], data: Remade, store: Store) -> Iterator[Check]:
    """Config, data, weights, then figures and values of users, of each row."""
    summary = run.summary
    yield equal("config hash", summary.get("config_hash"), config_hash(config))
    yield from (equal(key, summary.get(key), config["evaluation"][key]) for key in ("metric", "ks"))
    yield equal("seed", summary.get("seed"), config["seed"])
    yield from _data_checks(summary, data)
    same_data = data.dataset.fingerprint == summary["data"].get("fingerprint")
    if not same_data:
        yield Check("figures of all rows", "of other data", "nothing", False)
    results: dict[str, Evaluated] = {}
    for row in summary["rows"]:
        check = equal(f"{row['name']}: weights", row.get("weights_hash"), file_digest(run.inside(row, WEIGHTS)))
        yield check
        if check.agrees and same_data:
            try:
                results[row["name"]] = evaluate(
                    store, run.inside(row), data.dataset, config["evaluation"]["ks"], row["name"],
                    metric=config["evaluation"]["metric"], negatives=config["evaluation"].get("sampled"),
                )  # fmt: skip
            except InputError as error:
                yield Check(f"{row['name']}: {error.what}", "a model", "none", False)
    if results:
        yield equal("users", summary.get("n_users"), next(iter(results.values())).info["n_users"])
    yield from _models(run)
    for row in summary["rows"]:
        if row["name"] in results:
            yield from _row_checks(run, row, results, config)


def _data_checks(summary: dict[str, Any], data: Remade) -> Iterator[Check]:
    stored, found = summary["data"], data.dataset
    manifest = stored.get("manifest") or {}
    for name, part in (manifest.get("parts") or {}).items():
        yield equal(f"{name} part", part, data.hashes.get(name))
    yield equal("users and items", manifest.get("catalogue"), data.hashes.get("catalogue"))
    for what in ("manifest", "report"):
        both = stored.get(what) or {}, getattr(found, what)
        kept = ({key: value for key, value in one.items() if key not in _LEFT_OUT} for one in both)
        yield from figures_agree(f"data {what}:", *kept)
    yield equal("data fingerprint", stored.get("fingerprint"), found.fingerprint)
    yield equal("split hash", summary.get("split_hash"), found.fingerprint)


def _models(run: Run) -> Iterator[Check]:
    """A folder of weights that no row names: a row was taken away."""
    named = sorted(str(run.inside(row).resolve().name) for row in run.summary["rows"])
    there = sorted(path.name for path in (run.folder / "models").iterdir() if path.is_dir())
    yield equal("rows and models", ", ".join(named), ", ".join(there))


def _row_checks(
    run: Run, row: dict[str, Any], results: dict[str, Evaluated], config: dict[str, Any]
) -> Iterator[Check]:
    name, folder = row["name"], run.inside(row)
    found: dict[str, Any] = {"metrics": results[name].means}
    if {"teacher", "student alone"} <= set(results):
        found = quality(name, str(row.get("role")), results, config["evaluation"]["ks"], config["evaluation"]["metric"])
    found |= {"parameters": count_parameters(folder), "bytes": (folder / WEIGHTS).stat().st_size}
    yield from figures_agree(f"{name}:", {key: row.get(key) for key in found}, found)
    yield from users_agree(f"{name}:", run.inside(row, PER_USER), results[name].folder / PER_USER)


def equal_grid(folder: Path) -> Check:
    """Whether the joint table is that of the jobs."""
    found = collect(folder)
    try:
        stored = dict(read_json(folder / GRID))
    except (ValueError, TypeError) as error:
        return Check(f"joint table: {GRID}", f"{error}", "a table", False)
    checks = list(figures_agree("joint table:", *({**grid, "folder": ""} for grid in (stored, found))))
    return next((check for check in checks if not check.agrees), checks[0])


def version_notes(run: Run) -> list[str]:
    """What the run was computed with that is another one here."""
    before, now = run.summary.get("versions") or {}, versions()
    changed = [name for name in before if before[name] != now.get(name)]
    different = [f"{name} {before[name]} there, {now.get(name)} here" for name in changed]
    return [f"other versions: {'; '.join(different)}"] if different else []


def _threads(run: Run) -> AbstractContextManager[None]:
    """As many as the run had, since sums of floats depend on it."""
    threads = (run.summary.get("machine") or {}).get("threads")
    most = os.cpu_count() or 1
    return pinned_threads(min(threads, most) if isinstance(threads, int) and threads > 0 else most)
