"""Lists for many users that training need not know, in bounded memory: seconds, users per second, peak resident set.

    python scripts/benchmark_recommend.py [--users 10000 1000000] [--items 1000] [--events 10] [--k 10]

Trains a small student on synthetic data once, writes a Parquet file of random histories for each number of users, and
runs `recdistill recommend recommend.histories=...` on it in a process of its own. They are strangers: their vectors are
folded in. What stays from one number of users to another is the framework, the model and what is held at a time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from recdistill.evaluation.cost import cpu_name
from recdistill.runs.streams import write_parts

PART = 50_000  # users whose histories are made at a time


def histories(users: int, items: int, events: int) -> Iterator[pl.DataFrame]:
    rng = np.random.default_rng(0)
    for first in range(0, users, PART):
        n = min(PART, users - first)
        names = np.char.add("s", np.arange(first, first + n).astype(str))
        item = (rng.random(n * events) ** 2 * items).astype(int)
        yield pl.DataFrame({
            "user": names.repeat(events), "item": [f"i{at:05}" for at in item], "time": np.tile(np.arange(events), n)
        })  # fmt: skip


def recommended(folder: Path, *words: str) -> tuple[float, float]:
    """Seconds and the largest resident set in MB of one command."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    code = ("import resource, sys; from recdistill.cli import main; code = main(sys.argv[1:]);"
            "print('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)")  # fmt: skip
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, "recommend", *words], cwd=folder, capture_output=True, text=True,
                          env=environment, check=False)  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.monotonic() - start, int(done.stdout.rsplit("PEAK", 1)[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--users", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--events", type=int, default=10)
    parser.add_argument("--k", type=int, default=10)
    given = parser.parse_args()
    print(f"{cpu_name()}, 1 thread, {given.items} items, {given.events} events a user, top {given.k}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = ["data=synthetic", f"data.source.n_items={given.items}", "data.source.n_users=1000", "student=mf",
                 "student.net.dim=16", "student.fit.epochs=2", "distiller=none", "recommend.model=alone", "logger=none",
                 "trainer=cpu", f"recommend.k={given.k}"]  # fmt: skip
        recommended(folder, *words)
        for users in given.users:
            file = folder / f"{users}.parquet"
            write_parts(histories(users, given.items, given.events),
                        {"user": pl.String, "item": pl.String, "time": pl.Int64}, file)  # fmt: skip
            output = folder / f"lists-{users}.parquet"
            seconds, peak = recommended(folder, *words, f"recommend.histories={file}", f"recommend.output={output}")
            rows = pl.scan_parquet(output).select(pl.len()).collect().item()
            print(f"{users:9,} users  {seconds:7.1f} s  {users / seconds:9,.0f} users/s  peak {peak:6.0f} MB"
                  f"  {rows:11,} rows, {output.stat().st_size / 1e6:.1f} MB", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
