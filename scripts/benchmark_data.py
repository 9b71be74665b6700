"""How long preparation takes, and how much memory, on a synthetic log of millions of rows; prints Markdown.

Try: python scripts/benchmark_data.py --rows 1_000_000 --users 100_000 --items 20_000

Every figure is of a process of its own. The bare pipeline does with polars alone what a data set needs at least: read,
number the ids, one event a pair, k-core, cut at two times, write; it checks, counts, hashes and reports nothing.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

K_CORE = 5
SHARES = (0.8, 0.9)
"""Where the rows, in the order of time, are cut."""


def main() -> None:
    args = parsed()
    if args.step:
        print(json.dumps(measured(args.step, Path(args.folder), args)))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        folder, busy = Path(temporary), os.getloadavg()[0]
        report(args, {step: child(step, folder, args) for step in STEPS}, busy)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, size in (("rows", 10_000_000), ("users", 1_000_000), ("items", 200_000)):
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument("--folder", help="where temporary files go")
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    return parser.parse_args()


def measured(step: str, folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """What a step gives, its seconds without imports, its CPU seconds, and the peak memory of its process in GiB."""
    for name in NEEDED[step]:
        importlib.import_module(name)
    started, cpu = time.monotonic(), time.process_time()
    result = STEPS[step](folder, args)
    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "cpu": cpu, "gib": peak, **result}


def child(step: str, folder: Path, args: argparse.Namespace) -> dict[str, float]:
    sizes = [f"--{name}={getattr(args, name)}" for name in ("rows", "users", "items")]
    command = [sys.executable, __file__, f"--step={step}", f"--folder={folder}", *sizes]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def make(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """A log with a long tail of items, and of users, whose interest in what is popular differs."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(0)
    columns = {}
    for name, size, exponent in (("user", args.users, 0.6), ("item", args.items, 0.8)):
        weight = np.arange(1, size + 1) ** -exponent
        bounds = np.cumsum(weight / weight.sum())
        drawn = np.searchsorted(bounds, rng.random(args.rows)).clip(max=size - 1)
        labels = pl.Series(rng.permutation(size)).cast(pl.String).str.zfill(14)
        columns[name] = (name[0].upper() + labels).gather(drawn)
    times = rng.integers(1_500_000_000, 1_700_000_000, args.rows)
    pl.DataFrame({**columns, "time": times}).write_parquet(folder / "log.parquet")
    return {"mib": (folder / "log.parquet").stat().st_size / 2**20}


def prepared(folder: Path, args: argparse.Namespace) -> dict[str, float]:  # noqa: ARG001
    """Read, filter, split, number, account, write."""
    from recdistill.data import store
    from recdistill.data.filters import Filters
    from recdistill.data.prepare import prepare
    from recdistill.data.sources.table import Table
    from recdistill.data.splits import GlobalTemporal

    found = prepare(Table(str(folder / "log.parquet"), time="time"), Filters(k_core=K_CORE), GlobalTemporal())
    store.save(found, folder / "prepared")
    filtered = found.report["filters"][-1]["rows"][1]
    return {"filtered": filtered} | {name: found.report[name] for name in ("users", "items", "rows")}


def bare(folder: Path, args: argparse.Namespace) -> dict[str, float]:  # noqa: ARG001
    """The same with polars alone."""
    import polars as pl

    events = pl.read_parquet(folder / "log.parquet")
    for side in ("user", "item"):
        events = events.with_columns(events[side].cast(pl.Enum(events[side].unique().sort())).to_physical())
    events = events.sort("user", "item", "time").unique(["user", "item"], keep="first", maintain_order=True)
    height = 0
    while height != events.height:
        height = events.height
        events = events.filter((pl.len().over("user") >= K_CORE) & (pl.len().over("item") >= K_CORE))
    events = events.sort("time")
    cuts = [0, *(int(events.height * share) for share in SHARES), events.height]
    for number in range(3):
        events[cuts[number] : cuts[number + 1]].write_parquet(folder / f"bare{number}.parquet")
    return {"rows": events.height}


def load(folder: Path, args: argparse.Namespace) -> dict[str, float]:  # noqa: ARG001
    """The second start: is the source the same, and the prepared form."""
    from recdistill.data import store
    from recdistill.data.sources.table import Table

    started = time.monotonic()
    Table(str(folder / "log.parquet"), time="time").fingerprint()
    hashed = time.monotonic()
    rows = len(store.load_pairs(folder / "prepared", ("train", "valid")).train)
    return {"hash": hashed - started, "load": time.monotonic() - hashed, "rows": rows}


def command(folder: Path, args: argparse.Namespace) -> dict[str, float]:  # noqa: ARG001
    """The command line, twice."""
    words = [
        sys.executable, "-m", "recdistill", "data", "data=parquet", f"data.path={folder}/log.parquet",
        "data.time=time", f"data.filters.k_core={K_CORE}", f"run.root={folder}/runs", f"cache={folder}/cache",
    ]  # fmt: skip
    seconds = []
    for name in ("first", "second"):
        started = time.monotonic()
        subprocess.run([*words, f"run.name={name}"], check=True, capture_output=True)
        seconds.append(time.monotonic() - started)
    return dict(zip(("first", "second"), seconds, strict=True))


STEPS = {"make": make, "bare": bare, "prepared": prepared, "load": load, "command": command}
OURS = ("recdistill.data.prepare", "recdistill.data.store", "recdistill.data.sources.table")
NEEDED = {"make": ("polars",), "bare": ("polars",), "prepared": OURS, "load": OURS, "command": ()}
"""What is imported before the clock starts."""


def report(args: argparse.Namespace, found: dict[str, dict[str, float]], busy: float) -> None:
    ours, plain, second, line = found["prepared"], found["bare"], found["load"], found["command"]
    if ours["filtered"] != plain["rows"]:
        raise SystemExit(f"the pipelines disagree: {ours['filtered']} and {plain['rows']} rows after the filters")
    today = datetime.datetime.now(datetime.UTC).date()
    print(f"{today}, {os.cpu_count()} cores, Python {platform.python_version()}; load average at the start {busy:.1f}.")
    print(
        f"{args.rows:,} rows of {args.users:,} users and {args.items:,} items, Parquet of {found['make']['mib']:.0f} "
        f"MiB, ids are text, {K_CORE}-core, global temporal split; {ours['rows']:,.0f} rows of {ours['users']:,.0f} "
        f"users and {ours['items']:,.0f} items are left.\n"
    )
    print("| what | seconds | CPU seconds | peak memory, GiB |")
    print("|---|---:|---:|---:|")
    for name, row in (("prepare and write", ours), ("bare polars pipeline", plain)):
        print(f"| {name} | {row['seconds']:.1f} | {row['cpu']:.1f} | {row['gib']:.2f} |")
    ratios = (f"{ours[key] / plain[key]:.2f}" for key in ("seconds", "cpu", "gib"))
    print(f"| ratio | {' | '.join(ratios)} |")
    print(f"| second start: hash of the source | {second['hash']:.2f} | | |")
    print(f"| second start: load | {second['load']:.2f} | | {second['gib']:.2f} |")
    for name in ("first", "second"):
        print(f"| `recdistill data`, {name} time, imports included | {line[name]:.1f} | | |")


if __name__ == "__main__":
    main()
