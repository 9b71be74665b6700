"""A finished run recomputed from its own config, data and weights, and every figure compared with what it says.

Nothing in the run folder is trusted or written to: its config passes the same gate as one that is typed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recdistill.errors import InputError
from recdistill.evaluation.cost import pinned_threads
from recdistill.export.bundle import WEIGHTS
from recdistill.models.build import instantiate
from recdistill.reporting.finished import GRID, Run, finished_runs
from recdistill.reporting.grid import collect
from recdistill.reporting.grid_report import grid_page, grid_table
from recdistill.reporting.page import run_page, without_charts
from recdistill.reporting.table import Table, summary_table
from recdistill.reporting.verify import Check, print_checks
from recdistill.reporting.write import PAGE, texts
from recdistill.runs.atomic import file_digest, read_json
from recdistill.runs.store import Store
from recdistill.stages.agree import equal, figures_agree
from recdistill.stages.cold import cold_note
from recdistill.stages.evaluate import evaluate
from recdistill.stages.grid import difference_p
from recdistill.stages.recount import plan_checks, row_checks
from recdistill.stages.remake import Remade, remade_config, remade_data
from recdistill.stages.rerank import reranking_in
from recdistill.stages.results import Evaluated
from recdistill.stages.summary import (
    FORMAT,
    config_hash,
    data_name,
    notes,
    planned,
    recipe_hash,
    source_name,
    versions,
)
from recdistill.stages.withheld import report_on
from recdistill.tasks.base import Task

if TYPE_CHECKING:
    from rich.console import Console

# The source's place and bytes may differ where what was read does not; the hashes are looked at one by one.
_LEFT_OUT = ("source", "source_fingerprint", "parts", "catalogue")
_DATA = ("name", "fingerprint", "report", "manifest")
_CHECKED = (
    "format", "task", "seed", "config_hash", "recipe_hash", "split_hash", "data", "metric", "ks", "n_users", "n_rows",
    "rows", "notes", "transfer",
)  # fmt: skip
UNCHECKED = (
    "command", "run", "created", "seconds", "commit", "project_commit", "versions", "machine", "overrides", "exports",
    "indexes",
)  # fmt: skip
NOT_CHECKED = (
    "not checked: that the weights come from this training, what trials reached, latency and seconds, command,"
    " overrides, commits, dates, versions and machine, histories, charts of the page, exported files and"
    " indexes"
)


def verify(folders: Sequence[Path], cfg: dict[str, Any], console: Console) -> int:
    """Recomputes every run in ``folders``, a grid's jobs one by one, and prints what agrees.

    Raises:
        InputError: something does not agree, or a run can't be recomputed.
    """
    runs, left_out = finished_runs(folders)
    known: dict[str, Remade] = {}
    wrong = []
    for run in runs:
        config, place = remade_config(run.folder), cfg["verify"]["data"]
        node = remade_config(run.folder, place)["data"] if place else config["data"]
        data = remade_data(run, node, [cfg["cache"], config["cache"]], known)
        with tempfile.TemporaryDirectory(prefix="recdistill-verify-") as temporary, _threads(run):
            checks = list(checks_of(run, config, data, Store(Path(temporary))))
        print_checks(str(run.folder), checks, [*left_out, data.origin, *version_notes(run), NOT_CHECKED], console)
        wrong += [(run.name, check.what) for check in checks if not check.agrees]
        left_out = []
    for folder in folders:
        if (folder / GRID).is_file():
            checks = [equal_grid(folder), *_grid_files(folder)]
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
    """Config, data, weights, then figures and values of users of each row, and the tables made from them."""
    task: Task = instantiate(config["task"])
    yield from _summary_checks(run.summary, config, task)
    dataset = task.adapt(data.dataset)
    yield from _data_checks(run.summary, data, report_on(config, dataset))
    yield from plan_checks(run, config)
    same_data = data.dataset.fingerprint == run.summary["data"].get("fingerprint")
    if not same_data:
        yield Check("figures of all rows", "of other data", "nothing", False)
    results: dict[str, Evaluated] = {}
    roles = dict(planned(config))
    for row in (row for row in run.summary["rows"] if row["name"] in roles):
        check = equal(f"{row['name']}: weights", row.get("weights_hash"), file_digest(run.inside(row, WEIGHTS)))
        yield check
        if check.agrees and same_data:
            try:
                results[row["name"]] = evaluate(
                    store, run.inside(row), dataset, config["evaluation"]["ks"], row["name"], task=task,
                    metric=config["evaluation"]["metric"], negatives=config["evaluation"].get("sampled"),
                    **reranking_in(row["name"], config, dataset),
                )  # fmt: skip
            except InputError as error:
                yield Check(f"{row['name']}: {error.what}", "a model", "none", False)
    if results:
        info = next(iter(results.values())).info
        units = f"{task.unit}s"
        yield equal(units, run.summary.get(f"n_{units}"), info[f"n_{units}"])
        said = notes(config, dataset, info["n_cold"], run.folder) + cold_note(run.summary["rows"])
        yield equal("notes", run.summary.get("notes"), said)
    yield from row_checks(run, results, config, dataset)
    yield from file_checks(run.folder, lambda: (summary_table(run.summary), run_page(run.summary, None)))


def _summary_checks(summary: dict[str, Any], config: dict[str, Any], task: Task) -> Iterator[Check]:
    """What follows from the config alone, and that nothing stands there that a run does not write."""
    yield equal("config hash", summary.get("config_hash"), config_hash(config))
    yield equal("recipe hash", summary.get("recipe_hash"), recipe_hash(config))
    yield equal("task", summary.get("task"), task.name)
    yield equal("metric", summary.get("metric"), config["evaluation"]["metric"])
    yield equal("ks", summary.get("ks"), config["evaluation"]["ks"] if task.unit == "user" else [])
    yield equal("seed", summary.get("seed"), config["seed"])
    yield equal("format", summary.get("format"), FORMAT)
    yield equal("data name", summary["data"].get("name"), data_name(config["data"]))
    yield equal("transfer", summary.get("transfer"), source_name(config))
    unknown = [key for key in summary if key not in (*_CHECKED, *UNCHECKED)]
    unknown += [f"data.{key}" for key in summary["data"] if key not in _DATA]
    yield from (Check(f"key {key}", "there", "not of a run", False) for key in unknown)


def file_checks(folder: Path, render: Callable[[], tuple[Table, str]]) -> Iterator[Check]:
    """Whether tables and page are what ``render`` makes of the figures; charts are left out."""
    try:
        table, page = render()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        yield Check("tables and page", "figures of an odd shape", type(error).__name__, False)
        return
    for name, text in {**texts(table), PAGE: without_charts(page)}.items():
        try:
            there = (folder / name).read_bytes().decode()
        except (OSError, ValueError):
            yield Check(name, "nothing", "a file", False)
            continue
        agrees = text == (without_charts(there) if name == PAGE else there)
        yield Check(name, "as written" if agrees else "other text", "rendered anew", agrees)


def _data_checks(summary: dict[str, Any], data: Remade, report: dict[str, Any]) -> Iterator[Check]:
    stored, found = summary["data"], data.dataset
    manifest = stored.get("manifest") or {}
    for name, part in (manifest.get("parts") or {}).items():
        yield equal(f"{name} part", part, data.hashes.get(name))
    yield equal("users and items", manifest.get("catalogue"), data.hashes.get("catalogue"))
    for what, content in (("manifest", found.manifest), ("report", report)):
        both = stored.get(what) or {}, content
        kept = ({key: value for key, value in one.items() if key not in _LEFT_OUT} for one in both)
        yield from figures_agree(f"data {what}:", *kept)
    yield equal("data fingerprint", stored.get("fingerprint"), found.fingerprint)
    yield equal("split hash", summary.get("split_hash"), found.fingerprint)


def equal_grid(folder: Path) -> Check:
    """Whether the joint table is that of the jobs."""
    found = collect(folder, difference_p)
    try:
        stored = dict(read_json(folder / GRID))
    except (ValueError, TypeError) as error:
        return Check(f"joint table: {GRID}", f"{error}", "a table", False)
    checks = list(figures_agree("joint table:", *({**grid, "folder": ""} for grid in (stored, found))))
    return next((check for check in checks if not check.agrees), checks[0])


def _grid_files(folder: Path) -> Iterator[Check]:
    try:
        grid = dict(read_json(folder / GRID))
    except (ValueError, TypeError):
        return  # said of the joint table
    yield from file_checks(folder, lambda: (grid_table(grid), grid_page(grid, drawn=False)))


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
