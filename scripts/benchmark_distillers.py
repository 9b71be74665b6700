"""What every distiller costs: CPU seconds that an epoch of the student takes with it, over those without.

    python scripts/benchmark_distillers.py --data ../shared/data [--only rrd,hint] [--output PAGE.md]

Lists and vectors: CiteULike (5,219 users, 25,181 items), BPR-MF d=200 to MF d=20 with its own settings, and the same
student with BPR; sequences: ML-100K, SASRec to a smaller one; clicks: Frappe, DCNv2 to DNN. The teacher is trained
for one epoch, since its quality costs nothing; its signals are computed before the clock starts. One thread; with and
without are timed in turn. Of the epochs of a training the mean is taken, without the first and the last.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from recdistill.config.compose import compose_config, hydra_session, resolve
from recdistill.config.locate import find_sources
from recdistill.distillers.base import Distiller
from recdistill.errors import InputError
from recdistill.models.build import instantiate
from recdistill.modules.supervised import SupervisedModule
from recdistill.stages.line import Line
from recdistill.stages.training import fit, quiet_lightning

BAR, WIDE_BAR = 1.5, 3.0
WIDE = ("de", "htd")  # whose bar is the wider one
EPOCHS = 10
BESIDE = "logit_mse"


class Place(NamedTuple):
    """A task, a data set, a teacher and a student."""

    name: str
    task: str
    overrides: tuple[str, ...]


CITEULIKE = ("data=citeulike", "data.path={data}/citeulike-loo/topology", "teacher=mf", "teacher.net.dim=200",
             "student=mf", "student.net.dim=20")  # fmt: skip
BPR = ("objective@student.objective=bpr", "student.fit.batch_size=1024", "student.fit.lr=0.001")
PLACES = (
    Place("CiteULike, softmax", "ranking", CITEULIKE),
    Place("CiteULike, BPR", "ranking", (*CITEULIKE, *BPR)),
    Place("ML-100K, sequences", "sequence", ("task=sequence", "data=ml100k", "data.path={data}/ml-100k",
                                             "data/split=user_temporal", "teacher=sasrec", "student=sasrec")),
    Place("Frappe, clicks", "ctr", ("task=ctr", "data=frappe", "data.path={data}/frappe/nfm_libfm", "teacher=dcnv2",
                                    "student=dnn")),
)  # fmt: skip


starts: list[float] = []  # CPU seconds of this process when an epoch began
began = SupervisedModule.on_train_epoch_start


def note_start(module: SupervisedModule) -> None:
    starts.append(time.process_time())
    began(module)


def config(overrides: Sequence[str]) -> dict[str, Any]:
    with hydra_session(find_sources([], [])):
        return dict(resolve(compose_config(list(overrides))))


def options() -> list[str]:
    """The distillers there are."""
    folder = find_sources([], []).conf / "distiller"
    return sorted(file.stem for file in folder.glob("*.yaml") if file.stem != "none")


def distiller_of(option: str) -> Distiller:
    made: Distiller = instantiate(config([f"+distiller@probe={option}"])["probe"][option])
    return made


def teaches(option: str) -> bool:
    return distiller_of(option).teaches


def line(place: Place, option: str, epochs: int, data: Path, own: Path) -> Line:
    given = [override.replace("{data}", str(data)) for override in place.overrides]
    common = ["trainer=cpu", "logger=none", "run.name=cost", f"cache={own}", "teacher.fit.epochs=1",
              "student.fit.validate_every=1000", f"student.fit.epochs={epochs}"]  # fmt: skip
    return Line(config([*given, *common, f"distiller={option}"]), own)


def seconds(place: Place, option: str, turn: int, epochs: int, data: Path, own: Path) -> float:
    """CPU seconds of an epoch: the mean over so many, of a training of two more, whose first and last are left out."""
    with tempfile.TemporaryDirectory(dir=own) as scratch:
        made = line(place, option, epochs + 2 + turn, data, own / "cache")  # that of a turn is in no cache yet
        if made.distillers:
            made.signals  # noqa: B018
        starts.clear()
        fit(made.spec("cost", Path(scratch), role="student", node=made.cfg["student"], **made.soft_spec))
    return (starts[epochs + 1] - starts[1]) / epochs


def rows(place: Place, chosen: Sequence[str], turns: int, data: Path, own: Path) -> list[str]:
    """Lines of the table, the student alone first."""
    found = []
    for option in chosen:
        # What teaches nothing by itself is measured beside what does.
        both, alone = (option, "none") if teaches(option) else (f"[{BESIDE},{option}]", BESIDE)
        epochs = max(getattr(distiller_of(option), "every", EPOCHS), EPOCHS)  # with one look at the student's lists
        try:
            pairs = [(seconds(place, both, turn, epochs, data, own), seconds(place, alone, turn, EPOCHS, data, own))
                     for turn in range(turns)]  # fmt: skip
        except InputError as error:  # it needs what these data have not
            found.append(f"| {place.name} | {option} | – | – | – | – | not timed: {error.what} |")
            print(found[-1], file=sys.stderr, flush=True)
            continue
        spent, without = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        bar = WIDE_BAR if option in WIDE else BAR
        verdict = "within" if ratio <= bar else "above the bar"
        found.append(f"| {place.name} | {option} | {without:.2f} | {spent:.2f} | {ratio:.2f} | {bar:g} | {verdict} |")
        print(found[-1], file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--only", default="", help="distillers, comma separated")
    parser.add_argument("--places", default="", help="rows of places whose name contains this")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path(f"docs/results/{datetime.date.today()}-distiller-cost.md"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    SupervisedModule.on_train_epoch_start = note_start  # type: ignore[method-assign]
    quiet_lightning()
    logging.getLogger("recdistill").setLevel(logging.WARNING)
    chosen = asked.only.split(",") if asked.only else options()
    serves = {option: distiller_of(option).tasks for option in chosen}
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for place in PLACES:
            if asked.places in place.name:
                mine = [option for option in chosen if place.task in serves[option]]
                lines += rows(place, mine, asked.turns, asked.data.resolve(), Path(folder))
    text = "\n".join([
        f"# {datetime.date.today()}: `python scripts/benchmark_distillers.py --turns {asked.turns}`", "",
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}.",
        f"CPU seconds of an epoch, on one thread: means of {EPOCHS} epochs, and medians over turns of with and without",
        "after one another. Signals are stored before. The bar is 1.5, and 3 for DE and HTD.", "",
        "| place | distiller | alone | with it | ratio | bar | |", "|:--|:--|--:|--:|--:|--:|:--|", *lines, "",
    ])  # fmt: skip
    asked.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
