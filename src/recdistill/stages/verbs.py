"""What each verb does: the line up to a stop, and what is shown of it."""

from __future__ import annotations

import logging
import math
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from recdistill.errors import InputError
from recdistill.runs.atomic import read_json, write_json
from recdistill.stages.line import Line
from recdistill.stages.rerank import require_reranking, reranking_of
from recdistill.stages.watched import require_layers
from recdistill.stages.withheld import label_share

log = logging.getLogger(__name__)

SUMMARY, GRID = "summary.json", "grid.json"


def console() -> Console:
    """Standard output; 100 columns wide where it is a file or a pipe."""
    return Console(width=None if sys.stdout.isatty() else 100)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain containers, all interpolations resolved."""
    content: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    return content


def overrides() -> list[str]:
    from hydra.core.hydra_config import HydraConfig

    return [o for o in HydraConfig.get().overrides.task if not o.startswith("run.name=")]


def opened(cfg: dict[str, Any], folder: Path, max_steps: int = 0) -> Line:
    """The line of a config, whose data can be measured as it asks for: said before anything is trained.

    Raises:
        InputError: they can't, or a part of the line is at odds with another.
    """
    require_reranking(cfg)
    line = Line(cfg, folder, max_steps)
    line.task.require_evaluation(line.data, cfg["evaluation"]["metric"], cfg["evaluation"].get("sampled"))
    require_layers(line)
    reranking_of(cfg, line.data)  # says what the data lack
    return line


def run(cfg: DictConfig, folder: Path) -> int:
    """The whole line, then the table and the page."""
    from recdistill.reporting.write import print_summary, write_reports
    from recdistill.stages.export import EXPORT, export, require_formats
    from recdistill.stages.retrieve import measured_indexes, require_indexes
    from recdistill.stages.summary import command_line, summarise

    require_formats(plain(cfg))
    require_indexes(plain(cfg))
    started = time.monotonic()
    line = opened(plain(cfg), folder)
    summary = summarise(line, command_line(), overrides(), started)
    try:
        if line.cfg.get("index"):
            summary["indexes"] = measured_indexes(line.cfg, line.data, line.last)
        if line.cfg.get("export"):
            summary["exports"] = export(line.cfg, line.task, line.data, line.last, folder, summary)
            for name in line.cfg.get("export_also") or []:
                export(line.cfg, line.task, line.data, getattr(line, name), folder, summary, f"{EXPORT}_{name}")
    finally:  # what was measured is kept, also where a file does not answer as the model does
        write_reports(folder, summary)
        write_json(folder / SUMMARY, summary)
        print_summary(summary, console(), folder)
    return 0


def data(cfg: DictConfig, folder: Path) -> int:
    """Prepares the data and prints the report on it."""
    from recdistill.data.report import as_dict, render
    from recdistill.data.store import load
    from recdistill.stages.training import TRAINING_PARTS

    prepared = load(Line(plain(cfg), folder).data_folder, TRAINING_PARTS)
    console().print(render(prepared))
    write_json(folder / "data.json", as_dict(prepared))
    return 0


def train(cfg: DictConfig, folder: Path) -> int:
    """Trains the teacher, and tunes the baselines, and shows how they do on the validation part."""
    line = opened(plain(cfg), folder)
    baselines = {name: line.baseline(name) for name in line.cfg.get("baselines") or {} if label_share(line.cfg)}
    return show_models(line, {"teacher": line.teacher, **baselines}, "valid")


def distill(cfg: DictConfig, folder: Path) -> int:
    """Distils the student and shows it beside the teacher and the student alone, on the validation part."""
    line = opened(plain(cfg), folder)
    teacher = {"teacher": line.teacher} if line.cfg["teacher"].get("evaluated", True) else {}
    alone = {"student alone": line.alone} if label_share(line.cfg) else {}
    models = {**teacher, **alone, "student distilled": line.student}
    return show_models(line, models, "valid")


def compress(cfg: DictConfig, folder: Path) -> int:
    """Compresses the student and shows it after each pass, on the validation part."""
    line = opened(plain(cfg), folder)
    if not line.cfg.get("compression"):
        raise InputError("no compression is chosen", where="compression", fix="compression=[low_rank,quantize]")
    return show_models(line, {"student": line.student, **dict(line.compressed)}, "valid")


def evaluate(cfg: DictConfig, folder: Path) -> int:
    """Evaluates every model of the line on the test part."""
    from recdistill.stages.summary import entries

    line = opened(plain(cfg), folder)
    _ = line.data_with_test  # says at once if there is none
    return show_models(line, {entry.name: entry.folder for entry in entries(line)}, "test")


def show_models(line: Line, models: dict[str, Path], part: str) -> int:
    """Evaluates some models, prints a table of their metrics and writes ``metrics.json``.

    Args:
        part: "valid" or "test"; of the test part nothing is opened for the former.
    """
    from rich.table import Table

    from recdistill.export.bundle import model_info
    from recdistill.stages.evaluate import evaluate as evaluate_model
    from recdistill.stages.summary import provenance

    data = line.data_with_test if part == "test" else line.data
    ks, metric = line.cfg["evaluation"]["ks"], line.cfg["evaluation"]["metric"]
    ranks = line.task.unit == "user"
    more: dict[str, Any] = {"task": line.task, "metric": metric, "negatives": line.cfg["evaluation"].get("sampled")}
    results = {name: evaluate_model(line.store, at, data, ks, name, part, **more) for name, at in models.items()}
    shown = [metric, *line.task.metrics_known]
    if ranks:
        shown = [metric, f"ndcg@{ks[0]}", f"ndcg@{ks[-1]}", f"recall@{ks[-1]}", f"coverage@{ks[-1]}"]
    shown = [key for key in dict.fromkeys(shown) if any(key in result.means for result in results.values())]
    table = Table(title=f"{part} part, {'full catalogue' if ranks else 'all rows'}", title_justify="left")
    table.add_column("model")
    for key in shown:
        table.add_column(key, justify="right")
    means: dict[str, Any] = {}
    for name, result in results.items():
        where = models[name]
        weights = model_info(where)["hash"]
        means[name] = {"folder": str(where), "metrics": result.means, "weights_hash": weights, **result.info}
        table.add_row(name, *(f"{result.means.get(key, math.nan):.4f}" for key in shown))
    Console().print(table)
    for name, where in models.items():
        log.info("%s: %s", name, where)
    write_json(line.folder / "metrics.json", {"part": part, **provenance(line.cfg, data), "models": means})
    return 0


def recommend(cfg: DictConfig, folder: Path) -> int:
    """Writes top-k lists by the last model of the line, or the one that ``recommend.model`` names."""
    from recdistill.data.interactions import Dataset
    from recdistill.stages.newcomers import newcomers_of
    from recdistill.stages.nodes import encoders_of
    from recdistill.stages.recommend import write_recommendations
    from recdistill.stages.strangers import require_strangers

    require_strangers(plain(cfg))
    line = opened(plain(cfg), folder)
    if not isinstance(line.data, Dataset):
        raise InputError(f"{line.task.name} predicts rows, it ranks no items to recommend", where="task",
                         fix="task=ranking or task=sequence")  # fmt: skip
    newcomers = None
    if line.cfg["recommend"]["new_items"]:
        encoders = encoders_of(line.cfg["data"])
        newcomers = partial(newcomers_of, file=line.cfg["recommend"]["new_items"], data=line.data, encoders=encoders,
                            cache=line.store.root)  # fmt: skip
    where = write_recommendations(
        getattr(line, line.cfg["recommend"]["model"]),
        line.data,
        line.cfg["recommend"],
        folder,
        line.task,
        newcomers,
        reranking_of(line.cfg, line.data),
    )
    log.info("recommendations: %s", where)
    return 0


def report(cfg: DictConfig, folder: Path) -> int:  # noqa: ARG001
    """Shows a finished run or grid again and writes its tables and page anew."""
    from recdistill.reporting.write import print_summary, write_reports

    wanted = cfg.report.run
    where = Path(wanted) if wanted else newest_run(Path(cfg.run.root))
    if (where / GRID).is_file():
        from recdistill.stages.grid import finish

        finish(where)
        return 0
    if not (where / SUMMARY).is_file():
        meant = Path(cfg.run.root) / where
        there = any((meant / file).is_file() for file in (SUMMARY, GRID))
        fix = f"recdistill report {meant if there else 'outputs/NAME'}"
        raise InputError(f"no finished run in {where}", where="report.run", fix=fix)
    summary = read_json(where / SUMMARY)
    write_reports(where, summary)
    print_summary(summary, console(), where)
    return 0


def compare(cfg: DictConfig, folders: list[Path]) -> int:
    """Sets finished runs side by side."""
    from recdistill.stages.compare import compare as compare_runs

    return compare_runs(folders, plain(cfg), console())


def verify(cfg: DictConfig, folders: list[Path]) -> int:
    """Recomputes finished runs."""
    from recdistill.stages.verify import verify as verify_runs

    return verify_runs(folders, plain(cfg), console())


def refresh(cfg: DictConfig, words: list[Path]) -> int:
    """Updates an exported model."""
    from recdistill.stages.refresh import refresh as refresh_model

    return refresh_model(words, plain(cfg), console())


def download(cfg: DictConfig, folder: Path) -> int:  # noqa: ARG001
    """Fetches a public data set."""
    from recdistill.stages.download import fetch

    fetch(plain(cfg)["download"], console())
    return 0


def newest_run(root: Path) -> Path:
    """The folder of the run or grid that was finished last."""
    results = [*root.rglob(SUMMARY), *root.rglob(GRID)]
    if not results:
        raise InputError(f"no finished run below {root}", where="report.run", fix="recdistill run")
    return max(results, key=lambda file: file.stat().st_mtime).parent


def check(cfg: DictConfig, folder: Path) -> int:  # noqa: ARG001
    """Sends one step through every stage in a temporary folder, and leaves nothing."""
    from recdistill.export.bundle import count_parameters
    from recdistill.stages.export import require_formats
    from recdistill.stages.retrieve import require_indexes
    from recdistill.stages.summary import entries

    require_formats(plain(cfg))
    require_indexes(plain(cfg))
    with tempfile.TemporaryDirectory(prefix="recdistill-check-") as temporary:
        line = opened({**plain(cfg), "cache": temporary, "logger": None}, Path(temporary), max_steps=1)
        for entry in entries(line):
            count = count_parameters(entry.folder)["parameters"]
            print(f"{entry.name:24} {count:12,} parameters")
    return 0
