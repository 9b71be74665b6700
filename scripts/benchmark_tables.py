"""Kinds of tables at about equal bytes, as Markdown: quality of an MF student on the test part, trained in each form,
put into it afterwards, and beside them narrower plain students in 32, 8 and 4 bits.

    python scripts/benchmark_tables.py ml100k=FOLDER
    python scripts/benchmark_tables.py ml100k=FOLDER --shares 8 16 32 --seeds 1 2 3

Every row has the same few combinations of learning rate and decay to choose from, by the validation part. Bytes are
those of the file. A kind's settings are the largest that fit into a share of the bytes of the plain tables.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from recdistill.config.compose import compose_config, hydra_session, resolve
from recdistill.config.locate import find_sources
from recdistill.export.bundle import load_model, model_info
from recdistill.models.build import instantiate
from recdistill.stages.line import Line
from recdistill.stages.training import quiet_lightning

DIM = 64
METRIC = "ndcg@10"
TRIALS = [(0.03, 0.3), (0.1, 0.3), (0.03, 0.03)]  # learning rate, decay
COMMON = ["data=ml100k", "data/split=user_temporal", "teacher=ease", "student=mf", "trainer=cpu", "logger=none"]


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: for people.
        words: overrides, without learning rate and decay.
        tuned: key of the settings whose ``lr`` and ``weight_decay`` are tried out; of a pass the student before it is
            the first. "" where nothing is trained.
    """

    name: str
    words: tuple[str, ...]
    tuned: str = "student.fit"


SETTINGS: dict[str, list[dict[str, Any]]] = {
    "hashing": [{"share": n / 256} for n in range(1, 200)],
    "qr": [{"share": n / 256} for n in range(1, 200)],
    "pq": [{"parts": 16, "codes": n} for n in (*range(4, 32, 2), *range(32, 257, 8))],
    "tt": [{"rank": n} for n in range(1, 65)],
    "mixed": [{"lengths": [min(1.0, n / DIM / 2**band) for band in range(4)]} for n in range(1, 257)],
    "md": [{"serve": n / DIM} for n in range(1, 65)],
}


def fitting(kind: str, rows: Sequence[int], budget: float) -> dict[str, Any]:
    """The settings with the most bytes within a budget for tables of these rows."""

    def size(settings: dict[str, Any]) -> int:
        node = {"_target_": TARGETS[kind], "_partial_": True, **settings}
        with torch.device("meta"):
            return sum(instantiate(node)(rows=n, dim=DIM, init_std=0.1).nbytes for n in rows)

    sizes = [(size(settings), at) for at, settings in enumerate(SETTINGS[kind])]
    return SETTINGS[kind][max((found for found in sizes if found[0] <= budget), default=min(sizes))[1]]


TARGETS = {
    "hashing": "recdistill.models.tables.hashing.Hashing", "qr": "recdistill.models.tables.qr.QR",
    "pq": "recdistill.models.tables.pq.PQ", "tt": "recdistill.models.tables.tt.TT",
    "mixed": "recdistill.models.tables.mixed.Mixed", "md": "recdistill.models.tables.md.MD",
}  # fmt: skip


def rows_of(share: int, sizes: Sequence[int]) -> Iterator[Row]:
    """All rows at 1 / share of the bytes of the plain tables."""
    whole = 4 * DIM * sum(sizes)
    for bits in (32, 8, 4):
        dim = max(1, round(DIM * 32 / bits / share))
        quantize = () if bits == 32 else ("compression=[quantize]", f"compression.quantize.bits={bits}")
        if dim <= DIM:
            yield Row(f"plain, d={dim}, {'float32' if bits == 32 else f'int{bits}'}",
                      (f"student.net.dim={dim}", *quantize))  # fmt: skip
    for kind in TARGETS:
        settings = fitting(kind, sizes, whole / share)
        shown = ", ".join(f"{key}={value}" for key, value in rounded(settings).items())
        trained = [f"table@student.net.table={kind}", *keys("student.net.table", settings)]
        yield Row(f"{kind}, trained in ({shown})", (f"student.net.dim={DIM}", *trained))
        name = f"embedding_{kind}"
        put = [f"student.net.dim={DIM}", f"compression=[{name}]", *keys(f"compression.{name}.table", settings)]
        yield Row(f"{kind}, fit and fine-tuned", tuple(put), f"compression.{name}.finetune")
        yield Row(f"{kind}, fit alone", (*put, f"compression.{name}.finetune=null"), "")
        wide = fitting(kind, sizes, 3.7 * whole / share)
        shown = ", ".join(f"{key}={value}" for key, value in rounded(wide).items())
        words = [f"table@student.net.table={kind}", *keys("student.net.table", wide), "compression=[quantize]"]
        yield Row(f"{kind}, trained in, then int8 ({shown})", (f"student.net.dim={DIM}", *words))


def keys(prefix: str, settings: dict[str, Any]) -> list[str]:
    return [f"{prefix}.{key}={value}".replace(" ", "") for key, value in settings.items()]


def rounded(settings: dict[str, Any]) -> dict[str, Any]:
    short = {key: f"{value:.3g}" if isinstance(value, float) else value for key, value in settings.items()}
    return {key: value[0] if isinstance(value, list) else value for key, value in short.items()}


def measure(row: Row, words: Sequence[str], folder: Path) -> tuple[float, int, str]:
    """Test metric, bytes and learning rate and decay of the combination that is best on the validation part."""
    best: tuple[float, Line, str] | None = None
    for lr, decay in TRIALS if row.tuned else TRIALS[:1]:
        first = dict(zip(("lr", "weight_decay"), TRIALS[0], strict=True))
        tried = {f"student.fit.{key}": value for key, value in first.items()}
        tried |= {f"{row.tuned}.lr": lr, f"{row.tuned}.weight_decay": decay} if row.tuned else {}
        chosen = [f"{key}={value}" for key, value in tried.items()]
        with hydra_session(SOURCES):
            cfg = resolve(compose_config([*COMMON, *words, *row.words, *chosen]))
        line = Line(cfg, folder)
        value = quality(line, "valid")
        if best is None or value > best[0]:
            best = value, line, f"{lr:g}, {decay:g}" if row.tuned else "–"
    assert best is not None
    return quality(best[1], "test"), model_info(best[1].last)["bytes"], best[2]


def quality(line: Line, part: str) -> float:
    data = line.data if part == "valid" else line.data_with_test
    model = load_model(line.last, data.train)
    return float(line.task.evaluate(model, data, part, line.cfg["evaluation"]["ks"], name="student").means()[METRIC])


SOURCES = find_sources([], [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="ml100k=FOLDER")
    parser.add_argument("--shares", nargs="+", type=int, default=[8, 16], help="1 / share of the plain bytes")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--cache", help="folder that trainings are kept in, so that a run that was stopped goes on")
    parser.add_argument("--only", help="rows whose name has this in it")
    args = parser.parse_args()
    quiet_lightning()
    path = args.folder.partition("=")[2]
    print(f"# {datetime.date.today()}: `{shlex.join(['python', 'scripts/benchmark_tables.py', *sys.argv[1:]])}`\n")
    print(f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}; {' '.join(COMMON)}\n", flush=True)
    print("| form | lr, decay | bytes | NDCG@10 | of d=64 float32 |\n|:--|:--|--:|--:|--:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        words = [f"data.path={Path(path).resolve()}", f"cache={args.cache or folder}", f"run.root={folder}"]
        with hydra_session(SOURCES):
            train = Line(resolve(compose_config([*COMMON, *words])), Path(folder)).data.train
        sizes = (train.n_users, train.n_items)
        whole = Row(f"plain, d={DIM}, float32", (f"student.net.dim={DIM}",))
        base: list[float] = []
        for row in itertools.chain([whole], *(rows_of(share, sizes) for share in args.shares)):
            if row is not whole and args.only and args.only not in row.name:
                continue
            found = [measure(row, [*words, f"seed={seed}"], Path(folder)) for seed in args.seeds]
            values = [value for value, _, _ in found]
            base = base or values
            spread = f" ±{stdev(values):.4f}" if len(values) > 1 else ""
            print(f"| {row.name} | {found[0][2]} | {found[0][1]:,} | {mean(values):.4f}{spread} "
                  f"| {mean(values) / mean(base):.1%} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
