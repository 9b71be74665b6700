"""Our models beside public implementations of the same, and beside minimal loops.

    python scripts/benchmark_models.py ranking als sequence ctr speed --data ../shared/data --peers /tmp/peers

Quality (``ranking``, ``als``, ``sequence``, ``ctr``): a prepared training part is exported, the peer trains on exactly
that in an environment of its own, its scores come back, and our evaluator measures both on the same test part
(``scripts/peers/cases.py`` says with what sizes). How an environment is made is said where it is missing. Speed: CPU
seconds that an epoch adds to a training of ours, and of the same in a minimal loop (``scripts/loops``), taken in turn.

What was found is kept below the folder of the peers, and so are their answers, which are asked for again only when the
question changes; so parts may be run one after another, and the page is written anew from all there is, to
``docs/results/DATE-models.md`` or --output. Peers and ours run on one thread.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from loops import LOOPS, Loop
from peers.cases import CASES, Case
from peers.exchange import Answer, ask, histories, pairs, table
from peers.page import page

from recdistill.config.compose import compose_config, hydra_session, resolve
from recdistill.config.locate import find_sources
from recdistill.evaluation.ctr import auc
from recdistill.evaluation.ranking import evaluable, rank_all
from recdistill.evaluation.significance import bootstrap_difference
from recdistill.export.bundle import load_model
from recdistill.stages.line import Line
from recdistill.stages.training import quiet_lightning

GROUPS = ("ranking", "als", "sequence", "ctr")
METRIC = "ndcg@10"
MARGIN = 0.002  # of an AUC


class Place(NamedTuple):
    """Folders: of the data, of the peers' environments and answers, and of what we train, which is not kept: a model of
    older code is no result."""

    data: Path
    peers: Path
    own: Path


def line_of(overrides: Sequence[str], place: Place, seed: int) -> Line:
    """The stops of a config on one CPU."""
    given = [override.replace("{data}", str(place.data)) for override in overrides]
    own = ["trainer=cpu", "logger=none", "run.name=models", f"cache={place.own / 'cache'}", f"seed={seed}"]
    with hydra_session(find_sources([], [])):
        cfg = resolve(compose_config([*given, *own]))
    return Line(cfg, place.own)


# Quality.


def compare(case: Case, place: Place) -> dict[str, Any]:
    """One row: both implementations, each by seed."""
    found = [one_seed(case, place, seed) for seed in range(1, case.seeds + 1)]
    ours, theirs, sizes, answers = (list(column) for column in zip(*found, strict=True))
    row: dict[str, Any] = {
        "ours": [float(np.mean(values)) for values in ours], "theirs": [float(np.mean(values)) for values in theirs],
        "seconds": statistics.median(answers[-1].seconds), "versions": answers[-1].versions,
        "parameters": [sizes[-1], answers[-1].parameters],
    }  # fmt: skip
    if case.group == "ctr":
        gap = statistics.mean(row["ours"]) - statistics.mean(row["theirs"])
        return row | {"gap": gap, "verdict": "below" if gap < -MARGIN else f"not more than {MARGIN} below"}
    difference = bootstrap_difference(np.stack(ours), np.stack(theirs))
    verdict = "below" if difference.high < 0 else "above" if difference.low > 0 else "within noise"
    return row | {"gap": difference.value, "low": difference.low, "high": difference.high, "verdict": verdict}


def one_seed(case: Case, place: Place, seed: int) -> tuple[np.ndarray, np.ndarray, int, Answer]:
    """The metric of ours and theirs, by user where it is a mean over users; the size of ours; what the peer gave."""
    line = line_of(case.overrides, place, seed)
    data: Any = line.data_with_test
    given = export(case, data, line)
    answer = ask(case.peer, {**case.theirs, "seed": seed}, given, place.peers, f"{case.slug}-{seed}")
    model = load_model(line.teacher, data.train)
    size = sum(tensor.numel() for tensor in model.state_dict().values())
    result = line.task.evaluate(model, data, "test", [10], name=case.name)
    if case.group == "ctr":
        return np.array([result.means()["auc"]]), np.array([auc(answer.scores, data.test.label)]), size, answer
    theirs = rank_all(
        lambda users: answer.scores[users], users=evaluable(data.test.csr), relevant=data.test.csr,
        seen=data.seen("test"), n_items=data.train.n_items, ks=[10], name=case.peer,
    )  # fmt: skip
    return result.per_user[METRIC].numpy(), theirs.per_user[METRIC].numpy(), size, answer


def export(case: Case, data: Any, line: Line) -> dict[str, Any]:
    """What the peer trains on."""
    if case.group == "ctr":
        return table(data)
    return histories(data, line.cfg["task"]["max_length"]) if case.group == "sequence" else pairs(data)


# Speed.


def race(loop: Loop, place: Place) -> dict[str, Any]:
    """Seconds per epoch of ours and of a minimal loop, taken in turn; the first turn is for warming up."""
    times = [(ours_per_epoch(loop, place, turn), loop_per_epoch(loop, place)) for turn in range(loop.turns + 1)][1:]
    ours, minimal = (statistics.median(column) for column in zip(*times, strict=True))
    return {"ours": ours, "minimal": minimal, "ratio": statistics.median(a / b for a, b in times), "turns": loop.turns}


def ours_per_epoch(loop: Loop, place: Place, turn: int) -> float:
    """What more epochs add to the CPU time of a training, so that starting and ending it are left out."""
    overrides = [*loop.overrides, "teacher.fit.validate_every=100"]
    few, many = (
        cpu_seconds(line_of([*overrides, f"teacher.fit.epochs={epochs}"], place, seed=turn))
        for epochs in (1, 1 + loop.epochs)
    )
    return (many - few) / loop.epochs


def cpu_seconds(line: Line) -> float:
    """Of training the teacher of a line whose data are ready."""
    line.data_folder  # noqa: B018
    start = time.process_time()
    line.teacher  # noqa: B018
    return time.process_time() - start


def loop_per_epoch(loop: Loop, place: Place) -> float:
    """The median epoch of the minimal loop."""
    line = line_of(loop.overrides, place, 1)
    return statistics.median(loop.run(line.data, line.cfg, 1 + loop.epochs)[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="ranking, als, sequence, ctr, speed; none: only the page again")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    somewhere = Path(tempfile.gettempdir(), "peers")
    parser.add_argument("--peers", type=Path, default=somewhere, help="folder of environments and answers")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--long", action="store_true", help="also what takes half an hour or more")
    parser.add_argument("--output", type=Path, default=Path(f"docs/results/{datetime.date.today()}-models.md"))
    options = parser.parse_args()
    if unknown := set(options.parts) - {*GROUPS, "speed"}:
        parser.error(f"unknown part {sorted(unknown)[0]!r}")
    torch.set_num_threads(1)
    quiet_lightning()
    logging.getLogger("recdistill").setLevel(logging.WARNING)
    rows = options.peers / "rows"
    rows.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as own:
        place = Place(options.data.resolve(), options.peers.resolve(), Path(own))
        for case in CASES:
            if case.group in options.parts and options.only in case.name and (options.long or not case.long):
                print(f"{case.name} ...", file=sys.stderr, flush=True)
                (rows / f"{case.slug}.json").write_text(json.dumps(compare(case, place)))
        for loop in LOOPS:
            if "speed" in options.parts and options.only in loop.name:
                print(f"speed of {loop.name} ...", file=sys.stderr, flush=True)
                (rows / f"speed-{loop.slug}.json").write_text(json.dumps(race(loop, place)))
    text = page(rows, CASES, LOOPS)
    options.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
