"""What each pass costs and saves: bytes, quality and latency of teacher, student and the student after each pass.

    python scripts/benchmark_compression.py sequence ranking --data ../shared/data
    python scripts/benchmark_compression.py ctr --epochs 2 --output /tmp/tried.md

``sequence``: SASRec d=128 to GRU4Rec d=32; ``ranking``: LightGCN to MF d=32; ``ctr``: DCN-V2 to a narrow one. The
first two are on MovieLens-100K, the last on a part of Frappe, split at random. Each pass is fine-tuned under the teacher.
Bytes are those of the weights' file, the metric is that of the task on the test part, latencies are the median of one
request and of a batch of 256 in PyTorch, and of one in ONNX Runtime, with weights as they are stored and computed in 8
bits (dynamic): all in one run, on one thread. Of lists, `top-10` is the share of the student's ten best that are among
those of the compressed one. The page goes to ``docs/results/DATE-compression.md`` or --output.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recdistill.config.compose import compose_config, hydra_session, resolve
from recdistill.config.locate import find_sources
from recdistill.errors import InputError, ParityError
from recdistill.evaluation.cost import cpu_name
from recdistill.evaluation.ranking import overlap_at_k
from recdistill.export.bundle import load_model
from recdistill.export.onnx import Onnx
from recdistill.export.onnx_int8 import OnnxInt8
from recdistill.export.parity import TOP
from recdistill.stages.evaluate import costs
from recdistill.stages.export import subject_of
from recdistill.stages.line import Line
from recdistill.stages.training import quiet_lightning

TUNED = "{{_target_: recdistill.models.fit.Fit, epochs: {epochs}, batch_size: {batch}, lr: {lr}}}"
ML100K = ("data=ml100k", "data.path={data}/ml-100k")
CASES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "sequence": (
        ("task=sequence", *ML100K, "data/split=leave_one_out", "teacher=sasrec", "teacher.net.dim=128",
         "student=gru4rec", "student.net.dim=32", "student.net.hidden=32", "temperature=1.0",
         "student.fit.queries=2048",
         *(f"{role}.fit.{word}" for role in ("teacher", "student") for word in ("epochs=40", "schedule=cosine"))),
        {"batch": 128, "lr": 0.002},
    ),
    "ranking": ((*ML100K, "teacher=lightgcn", "student=mf", "student.net.dim=32"), {"batch": 1024, "lr": 0.002}),
    "ctr": (
        ("task=ctr", "data=frappe", "data.path={data}/frappe/nfm_libfm/frappe.validation.libfm", "data/split=random",
         "teacher=dcnv2", "teacher.fit.weight_decay=0.0", "teacher.fit.epochs=8", "student=dcnv2", "temperature=1.0",
         "student.net.dim=16", "student.fit.batch_size=1024"),
        {"batch": 1024, "lr": 0.0005},
    ),
}  # fmt: skip
CHAINS: dict[str, tuple[str, ...]] = {
    "fp16": ("compression=[quantize]", "compression.quantize.bits=16"),
    "int8, not tuned": ("compression=[quantize]",),
    "int8": ("compression=[quantize]",),
    "int4": ("compression=[quantize]", "compression.quantize.bits=4"),
    "pruned 50 %": ("compression=[prune]", "compression.prune.sparsity=0.5"),
    "pruned 90 %": ("compression=[prune]", "compression.prune.sparsity=0.9"),
    "pruned 90 %, gradually": (
        "compression=[prune]", "compression.prune.sparsity=0.9", "compression.prune.until=0.7"),
    "pruned 90 %, movement": (
        "compression=[prune]", "compression.prune.sparsity=0.9", "compression.prune.method=movement"),
    "structured, l2": ("compression=[prune_structured]",),
    "structured, taylor": ("compression=[prune_structured]", "compression.prune_structured.importance=taylor"),
    "low rank": ("compression=[low_rank]", "compression.low_rank.rank=null", "compression.low_rank.energy=0.8"),
    "structured + int8": ("compression=[prune_structured,quantize]",),
    "low rank + int4": ("compression=[low_rank,quantize]", "compression.low_rank.rank=null",
                        "compression.low_rank.energy=0.8", "compression.quantize.bits=4"),
}  # fmt: skip
HEADER = ("model", "bytes", "× smaller", "metric", "share", "top-10", "p50 ms", "p50 of 256", "ONNX", "ONNX int8")


def line_of(overrides: Sequence[str], folder: Path) -> Line:
    with hydra_session(find_sources([], [])):
        composed = compose_config([*overrides, "trainer=cpu", "logger=none", f"cache={folder / 'cache'}"])
        return Line(dict(resolve(composed)), folder)


def models(case: str, data: Path, folder: Path, epochs: int | None) -> Iterator[tuple[str, Line, Path]]:
    """Teacher, student and the student after each chain of passes."""
    words, settings = CASES[case]
    common = [word.format(data=data) for word in words]
    if epochs:
        common += [f"{role}.fit.epochs={epochs}" for role in ("teacher", "student")]
    plain = line_of([*common, "compression=none"], folder)
    yield "teacher", plain, plain.teacher
    yield "student alone", plain, plain.alone
    yield "student", plain, plain.student
    tuned = TUNED.format(epochs=epochs or 10, **settings)
    for name, chain in CHAINS.items():
        passes = chain[0].removeprefix("compression=[").rstrip("]").split(",")
        tuning = [f"compression.{one}.finetune={tuned}" for one in passes if "not tuned" not in name]
        line = line_of([*common, *chain, *tuning], folder)
        yield name, line, line.last


def in_runtime(line: Line, at: Path) -> list[str]:
    """The median latency of one request in ONNX Runtime, with weights as they are stored and computed in 8 bits."""
    found = []
    for form in (Onnx(k=TOP), OnnxInt8(k=TOP, floor=0.0)):
        with tempfile.TemporaryDirectory() as temporary:
            try:
                (said,) = form.write(subject_of(line.task, line.data, at), Path(temporary))
                found.append(f"{said['latency']['p50_ms']:.3f}")
            except (InputError, ParityError) as error:
                logging.warning("%s: %s", at, error.what)
                found.append("–")
    return found


def rows(case: str, data: Path, folder: Path, epochs: int | None) -> Iterator[list[str]]:
    whole: tuple[int, float] | None = None
    lists: Tensor | None = None
    for name, line, at in models(case, data, folder, epochs):
        cost = costs(at, line.data, task=line.task)
        metric = line.cfg["evaluation"]["metric"]
        ks = line.cfg["evaluation"]["ks"]
        result = line.task.evaluate(load_model(at, line.data.train), line.data_with_test, "test", ks, name=name)
        value = float(result.means()[metric])
        whole = whole or (cost["bytes"], value)
        top = getattr(result, "top", None)
        lists = top if name == "student" else lists
        same = "–" if lists is None or top is None else f"{overlap_at_k(top, lists, TOP).mean():.3f}"
        times = [f"{batch['p50_ms']:.3f}" for batch in cost["latency"].values()]
        row = [name, f"{cost['bytes']:,}", f"{whole[0] / cost['bytes']:.1f}", f"{value:.4f}",
               f"{value / whole[1]:.1%}", same, *times[:2], *in_runtime(line, at)]  # fmt: skip
        print(" | ".join(row), flush=True)
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="*", help="sequence, ranking, ctr; all by default")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--epochs", type=int, help="of every training; those of the configs by default")
    parser.add_argument("--output", type=Path, help="the page")
    parser.add_argument("--cache", type=Path, help="folder to keep trainings in; a temporary one by default")
    chosen = parser.parse_args()
    if unknown := set(chosen.cases) - set(CASES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    quiet_lightning()
    torch.set_num_threads(1)
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    command = " ".join(["scripts/benchmark_compression.py", *chosen.cases])
    tried = f" Only {chosen.epochs} epochs each: a try." if chosen.epochs else ""
    lines = [f"# Compression, {today}", "", f"`{command}`, one run on one thread of {cpu_name()}.{tried}"]
    with tempfile.TemporaryDirectory() as temporary:
        for case in chosen.cases or CASES:
            lines += ["", f"## {case}", "", "| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
            found = rows(case, chosen.data.resolve(), chosen.cache or Path(temporary), chosen.epochs)
            lines += ["| " + " | ".join(row) + " |" for row in found]
    output = chosen.output or Path(__file__).parents[1] / "docs" / "results" / f"{today}-compression.md"
    output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(output)


if __name__ == "__main__":
    main()
