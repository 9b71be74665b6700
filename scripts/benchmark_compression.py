"""What each pass costs and saves: bytes, quality and latency of teacher, student and the student after each pass.

    python scripts/benchmark_compression.py sequence ranking --data ../shared/data
    python scripts/benchmark_compression.py ctr --epochs 2 --output /tmp/tried.md

``sequence``: SASRec d=128 to GRU4Rec d=32; ``ranking``: LightGCN d=256 to MF d=32; ``ctr``: a large DCN-V2 to a
small one. The first two are on MovieLens-100K, the last on a part of Frappe, split at random. Each pass is fine-tuned
under the teacher but for int8, which is there without that, too.

Bytes are those of the weights' file, the metric is that of the task on the test part. Of lists, ``top-10`` is the share
of the student's ten best that are among those of the compressed one. Latencies, on one thread, are of one request and
of 256 in PyTorch, in ONNX Runtime with weights as they are stored, and in it computed in 8 bits (dynamic). All models
take turns, some requests at a time, since a shared machine has slow seconds: a latency is the median over the turns of
the median of one. How many times faster: the median over the turns of the teacher's, in ONNX Runtime or in PyTorch, by
the model's own in ONNX Runtime, the quicker of both. The page goes to ``docs/results/DATE-compression.md`` or --output.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recdistill.config.compose import compose_config, hydra_session, resolve
from recdistill.config.locate import find_sources
from recdistill.errors import InputError, ParityError
from recdistill.evaluation.cost import cpu_name
from recdistill.evaluation.ranking import overlap_at_k
from recdistill.export.bundle import WEIGHTS, load_model
from recdistill.export.onnx import Onnx, session
from recdistill.export.onnx_int8 import OnnxInt8
from recdistill.export.parity import TOP
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
    "ranking": (
        ("experiment=ml100k/lightgcn256_to_mf16", "data.path={data}/ml-100k", "student.net.dim=32"),
        {"batch": 64, "lr": 0.002},
    ),
    "ctr": (
        ("task=ctr", "data=frappe", "data.path={data}/frappe/nfm_libfm/frappe.validation.libfm", "data/split=random",
         "teacher=dcnv2", "model@teacher.net=dcnv2_large", "teacher.fit.weight_decay=0.0", "teacher.fit.epochs=8",
         "student=dcnv2", "student.net.dim=16", "student.fit.batch_size=1024", "temperature=1.0"),
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
PYTORCH, ONNX, INT8 = "PyTorch", "ONNX", "ONNX int8"
BATCH, TURNS, CALLS = 256, 40, 25
HEADER = ("model", "bytes", "× smaller", "metric", "share", "top-10",
          *(f"{form}{of}" for form in (PYTORCH, ONNX, INT8) for of in (", ms", ", ms of 256")),
          "× faster", "× PyTorch")  # fmt: skip
Call = Callable[[int], object]
"""Answers the n-th request, or the n-th batch of them."""


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


def calls_of(line: Line, at: Path, folder: Path) -> dict[tuple[str, int], Call]:
    """What is timed of a model: each form with one request and with a batch. A form that can't hold it is left out."""
    subject = subject_of(line.task, line.data, at)
    request, _ = line.task.request(load_model(at, line.data.train), line.data, TOP)
    pool = torch.randperm(subject.queries.count, generator=torch.Generator().manual_seed(0))[:BATCH]
    parts = {1: torch.split(pool, 1), BATCH: (pool,)}
    found: dict[tuple[str, int], Call] = {}
    for batch, some in parts.items():
        found[PYTORCH, batch] = lambda n, some=some: request(some[n % len(some)])  # type: ignore[misc]
    for name, form in ((ONNX, Onnx(k=TOP)), (INT8, OnnxInt8(k=TOP, floor=0.0))):
        (folder / name).mkdir(parents=True)
        try:
            (said,) = form.write(subject, folder / name)
        except (InputError, ParityError) as error:
            logging.warning("%s: %s", at, error.what)
            continue
        answer = session(folder / name / said["file"])
        for batch, some in parts.items():
            inputs = [subject.queries.inputs(part) for part in some]
            found[name, batch] = lambda n, answer=answer, inputs=inputs: answer(inputs[n % len(inputs)])  # type: ignore[misc]
    return found


def in_turns(models: dict[str, dict[tuple[str, int], Call]]) -> dict[str, dict[tuple[str, int], list[float]]]:
    """Milliseconds of every call of every model, a median for each turn."""
    taken: dict[str, dict[tuple[str, int], list[float]]] = {
        name: {key: [] for key in own} for name, own in models.items()
    }
    with torch.inference_mode():
        for turn in range(TURNS + 1):  # the first warms up
            for name, own in models.items():
                for key, call in own.items():
                    n_calls = CALLS if key[1] == 1 else 1
                    times = [timed(call, turn * CALLS + n) for n in range(n_calls)]
                    if turn:
                        taken[name][key].append(statistics.median(times))
    return taken


def timed(call: Call, n: int) -> float:
    start = time.perf_counter_ns()
    call(n)
    return (time.perf_counter_ns() - start) / 1e6


def rows(case: str, data: Path, folder: Path, epochs: int | None) -> Iterator[list[str]]:
    shown: dict[str, list[str]] = {}
    calls: dict[str, dict[tuple[str, int], Call]] = {}
    whole: tuple[int, float] | None = None
    lists: Tensor | None = None
    with tempfile.TemporaryDirectory() as temporary:
        for name, line, at in models(case, data, folder, epochs):
            size = (at / WEIGHTS).stat().st_size
            evaluation = line.cfg["evaluation"]
            model = load_model(at, line.data.train)
            result = line.task.evaluate(model, line.data_with_test, "test", evaluation["ks"], name=name)
            value = float(result.means()[evaluation["metric"]])
            whole = whole or (size, value)
            top = getattr(result, "top", None)
            lists = top if name == "student" else lists
            same = "–" if lists is None or top is None else f"{overlap_at_k(top, lists, TOP).mean():.3f}"
            shown[name] = [name, f"{size:,}", f"{whole[0] / size:.1f}", f"{value:.4f}", f"{value / whole[1]:.1%}", same]
            calls[name] = calls_of(line, at, Path(temporary) / str(len(calls)))
            print(" | ".join(shown[name]), flush=True)
        taken = in_turns(calls)
    for name, own in taken.items():
        yield [*shown[name], *(cell(own.get((form, batch))) for form in (PYTORCH, ONNX, INT8) for batch in (1, BATCH)),
               *(faster(taken["teacher"].get((form, 1)), own) for form in (ONNX, PYTORCH))]  # fmt: skip


def cell(turns: Sequence[float] | None) -> str:
    return "–" if turns is None else f"{statistics.median(turns):.3f}"


def faster(teacher: Sequence[float] | None, own: dict[tuple[str, int], list[float]]) -> str:
    """The teacher's time for one request by the model's own in ONNX Runtime."""
    forms = [own[form, 1] for form in (ONNX, INT8) if (form, 1) in own]
    if not forms or teacher is None:
        return "–"
    quicker = min(forms, key=statistics.median)
    return f"{statistics.median(a / b for a, b in zip(teacher, quicker, strict=True)):.1f}"


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
