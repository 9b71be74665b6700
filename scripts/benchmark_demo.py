"""Figures of the main job, as Markdown: time and memory of the demo, cost of --help, the two reference experiments.

    python scripts/benchmark_demo.py help demo citeulike=FOLDER ml100k=FOLDER

Each part runs in processes of its own with an empty cache. Times are wall-clock on this machine; ratios are between
processes of the same run, taken in turn.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from recdistill.reporting.headline import headline

RECDISTILL = Path(sys.executable).with_name("recdistill")
EXPERIMENTS = {"citeulike": "citeulike/bpr200_to_mf20", "ml100k": "ml100k/lightgcn256_to_mf16"}
EMPTY_HYDRA_APP = """
import hydra

@hydra.main(version_base="1.3", config_path=None)
def app(cfg):
    pass

app()
"""


def cpu_seconds(command: list[str], cwd: Path) -> float:
    """User and system time of a process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def help_cost(folder: Path, repeats: int = 9) -> None:
    app = folder / "app.py"
    app.write_text(EMPTY_HYDRA_APP)
    pairs = [
        (cpu_seconds([str(RECDISTILL), "--help"], folder), cpu_seconds([sys.executable, str(app), "--help"], folder))
        for _ in range(repeats + 1)
    ][1:]
    ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"`recdistill --help`: {ours:.2f} s of CPU, an empty Hydra app's `--help` {theirs:.2f} s;", end=" ")
    print(f"ratio {ratio:.2f} (median of {repeats} pairs)\n")


def timed(command: list[str], folder: Path) -> tuple[float, float]:
    """Runs a command; wall-clock seconds and the peak memory of its largest process in MiB."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed with status {status}")
    return time.perf_counter() - start, usage.ru_maxrss / (1024 if sys.platform == "linux" else 2**20)


def run(title: str, arguments: list[str], folder: Path, root: Path) -> None:
    seconds, peak = timed([str(RECDISTILL), "run", *arguments], folder)
    print(f"## {title}\n\n`recdistill run {' '.join(arguments)}`: {seconds:.0f} s, peak memory {peak:.0f} MiB\n")
    print((root / "table.md").read_text().strip() + "\n")
    # A grid leaves a joint table and one summary per job; what each job found is said in the headline of its page.
    for file in sorted(root.glob("summary.json")) or sorted(root.glob("*/summary.json")):
        summary = json.loads(file.read_text())
        print(f"- seed {summary['seed']}: {' '.join(headline(summary).sentences)}")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", metavar="PART", help="help, demo, citeulike=FOLDER, ml100k=FOLDER")
    parts = parser.parse_args().parts
    import torch

    print(f"# {datetime.date.today()}: `python scripts/benchmark_demo.py {' '.join(parts)}`\n")
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}\n"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for part in parts:
            name, _, data = part.partition("=")
            if name == "help":
                help_cost(folder)
            elif name == "demo":
                run("Demo", ["experiment=quickstart", "run.name=quickstart"], folder, folder / "outputs/quickstart")
            elif name in EXPERIMENTS and data:
                where = [f"experiment={EXPERIMENTS[name]}", f"data.path={Path(data).resolve()}", f"run.name={name}"]
                run(EXPERIMENTS[name], where, folder, folder / "outputs" / name)
            else:
                parser.error(f"unknown part {part!r}")


if __name__ == "__main__":
    main()
