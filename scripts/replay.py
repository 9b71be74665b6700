"""Quality over time: a student that is refreshed with each slice of events against one that stays as it is.

    python scripts/replay.py [--slices 5] [--start 0.5] [--log LOG.csv] [--epochs 5]

The log is cut by time: a student is distilled on the first part and exported; then one slice of events after another
goes through `recdistill refresh`. On the newest events of each slice, which none of them has seen, are compared the
student as it was at the start (frozen, over the users whom it knows), the one in use when the slice came (before), and
the one after it (both over the users whom the former knows). All rank the whole catalogue of that moment; items
that a student does not know are on none of its lists. Without a log: a synthetic one, whose items have seasons.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from recdistill.data.interactions import Dataset
from recdistill.data.sources.synthetic import Synthetic
from recdistill.export.bundle import load_model
from recdistill.runs.atomic import read_json
from recdistill.stages.refresh import EXPORT, REFRESH, Before, OnlyKnown, Refreshed, start_of


def recdistill(folder: Path, *words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "recdistill", *words], cwd=folder, capture_output=True, text=True,
                          check=False)  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


def quality(before: Before, folder: Path, cache: Path) -> float:
    """The metric of the first student on the newest events of a refresh, over the users whom it knows."""
    line = Refreshed({**read_json(folder / "config.json"), "cache": str(cache)}, folder, before)
    data, metric, (users, items) = line.data_with_test, line.cfg["evaluation"]["metric"], line.rows
    assert isinstance(data, Dataset)
    model = load_model(line.started(before.models["last"]), data.train)
    more: dict[str, Any] = {"reranking": OnlyKnown(items.known)}
    found = line.task.evaluate(model, data, "test", line.cfg["evaluation"]["ks"], **more)
    return float(found.per_user[metric][users.known[found.users]].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--slices", type=int, default=5)
    parser.add_argument("--start", type=float, default=0.5, help="share of the log that the first student has")
    parser.add_argument("--log", type=Path, help="CSV with user, item, time")
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args()
    made_up = Synthetic(n_users=400, n_items=200, interactions_per_user=30, niches=16)
    ids = {"user": pl.String, "item": pl.String}
    events = pl.read_csv(given.log, schema_overrides=ids) if given.log else made_up.read().events
    events = events.select("user", "item", "time").sort("time")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shares = [given.start + (1 - given.start) * at / given.slices for at in range(given.slices + 1)]
        cut = [int(len(events) * share) for share in shares]
        events[: cut[0]].write_csv(folder / "log.csv")
        recdistill(folder, "run", "data=csv", f"data.path={folder / 'log.csv'}", "data.time=time", "run.name=a",
                   "data/split=global_temporal", "teacher=mf", "teacher.net.dim=32", "teacher.fit.epochs=20",
                   "student=mf", "student.net.dim=8", "student.fit.epochs=20", "student.fit.batch_size=64",
                   "distiller=soft_label", "trainer=cpu", "logger=none", "export=[bundle]")  # fmt: skip
        run = folder / "outputs" / "a"
        first = start_of(run / EXPORT, run)
        print(f"{'slice':>5} {'events':>7} {'frozen':>8} {'before':>8} {'refreshed':>9}  accepted", flush=True)
        for at in range(given.slices):
            events[cut[at] : cut[at + 1]].write_ndjson(folder / "events.jsonl")
            recdistill(folder, "refresh", str(run / EXPORT), "events.jsonl", f"refresh.epochs={given.epochs}")
            step = run / REFRESH / f"{at + 1:04}"
            said = read_json(step / "decision.json")
            frozen = quality(first, step, folder / "outputs" / "cache")
            print(f"{at + 1:5} {said['events']:7} {frozen:8.4f} {said['old']:8.4f} {said['new']:9.4f}"
                  f"  {'yes' if said['accepted'] else 'no'}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
