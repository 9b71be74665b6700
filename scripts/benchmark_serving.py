"""What ``recdistill serve`` costs: requests for each second of the server's CPU, latency at half load, memory.

    python scripts/benchmark_serving.py                      # a small run of its own
    python scripts/benchmark_serving.py --run outputs/mine   # of an exported run

The load comes from another process, over raw sockets that stay open, on loopback. CPU is what the kernel counted for
the server (``/proc/PID/stat``), so that a busy machine matters less; latency is what the client saw, and says how busy
the machine was. Linux. A page with the table goes to ``docs/results/DATE-serving.md`` or --output.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import multiprocessing
import os
import platform
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BAR_RATE, BAR_TAIL, BAR_MEMORY = 1500, 10.0, 250
ROUNDS = 8  # at half load
SMALL = (
    "data.source.n_users=2000", "data.source.n_items=1500", "teacher=mf", "teacher.fit.epochs=2", "student=mf",
    "student.fit.epochs=2", "compression=[quantize]", "logger=none", "export=[bundle,onnx]", "run.name=served",
)  # fmt: skip


@dataclass
class Load:
    """What a client saw, and what it cost the server."""

    requests: int
    errors: int
    seconds: float
    cpu: float
    waited: float
    times: list[float]

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    @property
    def rate_per_core(self) -> float:
        return self.requests / self.cpu

    def at(self, share: float) -> float:
        """A quantile of the latency, in ms."""
        ordered = sorted(self.times)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def waited_seconds(pid: int) -> float:
    """How long a process could have run and had no core."""
    return sum(int(task.read_text().split()[1]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def _connection(port: int, bodies: list[bytes], end: float, pace: float, seen: list[tuple[float, bool]]) -> None:
    """One connection that asks again and again; with a pace, at times drawn from an exponential distribution."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    rng = random.Random()
    due = time.perf_counter() + (rng.expovariate(pace) if pace else 0.0)
    while True:
        if pace:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            due = max(due + rng.expovariate(pace), time.perf_counter())
        started = time.perf_counter()
        if started > end:
            break
        writer.write(rng.choice(bodies))
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.I)
        assert length is not None
        await reader.readexactly(int(length[1]))
        seen.append((time.perf_counter() - started, head.startswith(b"HTTP/1.1 200")))
    writer.close()


def _client(port: int, bodies: list[bytes], connections: int, seconds: float, rate: float, answer: Any) -> None:
    seen: list[tuple[float, bool]] = []

    async def all_of_them() -> None:
        end = time.perf_counter() + seconds
        pace = rate / connections
        await asyncio.gather(*(_connection(port, bodies, end, pace, seen) for _ in range(connections)))

    started = time.perf_counter()
    asyncio.run(all_of_them())
    answer.send((seen, time.perf_counter() - started))


def load(pid: int, port: int, bodies: list[bytes], *, connections: int, seconds: float, rate: float = 0.0) -> Load:
    """Loads the server from a process of its own; ``rate`` 0 asks as fast as it answers."""
    parent, child = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_client, args=(port, bodies, connections, seconds, rate, child))
    before, idle = cpu_seconds(pid), waited_seconds(pid)
    process.start()
    seen, took = parent.recv()
    spent, waited = cpu_seconds(pid) - before, waited_seconds(pid) - idle
    process.join()
    return Load(len(seen), sum(not good for _, good in seen), took, spent, waited, [one for one, _ in seen])


def users_of(bundle: Path, count: int) -> list[str]:
    import polars as pl

    found = pl.read_parquet(bundle / "users.parquet")["user"].cast(pl.String).to_list()
    return random.Random(0).sample(found, min(count, len(found)))


def request(user: str, k: int) -> bytes:
    body = json.dumps({"user": user, "k": k}).encode()
    head = f"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def made(folder: Path) -> Path:
    """A small run."""
    words = [sys.executable, "-m", "recdistill", "run", *SMALL]
    subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder / "outputs" / "served"


def measured(bundle: Path, asked: argparse.Namespace) -> tuple[dict[str, Load], float, float]:
    """The loads, and memory before and after them."""
    words = [sys.executable, "-m", "recdistill", "serve", str(bundle), "serve.port=0"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        assert server.stdout is not None
        said = ""
        for line in server.stdout:
            said += line
            if line.startswith("ready"):
                break
        found = re.search(r"http://\S+?:(\d+)/", said)
        assert found is not None, said
        port, pid = int(found[1]), server.pid
        bodies = [request(user, asked.k) for user in users_of(bundle, 500)]
        load(pid, port, bodies, connections=4, seconds=1)
        start = resident_mib(pid)
        full = load(pid, port, bodies, connections=asked.connections, seconds=asked.seconds)
        one = load(pid, port, bodies, connections=1, seconds=asked.seconds)
        more = {"connections": asked.connections, "seconds": asked.seconds / ROUNDS, "rate": full.rate / 2}
        halves = [load(pid, port, bodies, **more) for _ in range(ROUNDS)]
        rest = {f"half, round {number}": half for number, half in enumerate(halves, 1)}
        loads = {"one connection": one, "full": full, **rest}
        return loads, start, resident_mib(pid)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


def page(loads: dict[str, Load], memory: tuple[float, float], bundle: Path, asked: argparse.Namespace) -> str:
    manifest = json.loads((bundle / "manifest.json").read_text())
    size = manifest["files"]["model.onnx"]["bytes"]
    busy = os.getloadavg()[0]
    rate = loads["full"].rate_per_core
    half = min((one for name, one in loads.items() if "half" in name), key=lambda one: one.waited / one.seconds)
    tail = half.at(0.99) / half.at(0.5)
    errors = sum(one.errors for one in loads.values())
    rows = "\n".join(
        f"| {name} | {one.requests:,} | {one.rate:,.0f} | {one.rate_per_core:,.0f} "
        f"| {1000 * one.cpu / one.requests:.3f} | {one.at(0.5):.2f} | {one.at(0.95):.2f} | {one.at(0.99):.2f} "
        f"| {one.waited / one.seconds:.0%} | {one.errors} |"
        for name, one in loads.items()
    )  # fmt: skip
    bars = "\n".join(
        f"| {name} | {value} | {bar} | {'within' if right else '**missed**'} |"
        for name, value, bar, right in (
            ("requests for a second of the server's CPU", f"{rate:,.0f}", f"{BAR_RATE:,}", rate >= BAR_RATE),
            ("p99 / p50 at half load", f"{tail:.1f}", f"{BAR_TAIL:.0f}", tail <= BAR_TAIL),
            ("resident memory, MiB", f"{memory[1]:.0f}", f"{BAR_MEMORY}", memory[1] <= BAR_MEMORY),
            ("errors", str(errors), "0", errors == 0),
        )
    )
    return f"""# {datetime.date.today()}: `python scripts/benchmark_serving.py {" ".join(sys.argv[1:])}`

{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load average {busy:.1f}
(other work ran beside it: CPU is what the kernel counted for the server, latency is what the client saw).
{manifest["model"]}, `model.onnx` of {size:,} bytes, lists of {asked.k}, {asked.connections} connections that
stay open, one user a request, on loopback; the client is a process of its own on the same cores. Half load: that many
a second, at random times. *Waited*: share of the time in which the server could have run and had no core, which is
others' work; of the rounds at half load the one with the least of it is set against the bar.

| load | requests | a second | for a CPU second | CPU ms | p50 ms | p95 ms | p99 ms | waited | errors |
|:--|--:|--:|--:|--:|--:|--:|--:|--:|--:|
{rows}

| | measured | bar | |
|:--|--:|--:|:--|
{bars}

Memory was {memory[0]:.0f} MiB before the load and {memory[1]:.0f} after it.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="folder of an exported run; by default a small one is made")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path(f"docs/results/{datetime.date.today()}-serving.md"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = asked.run or made(Path(folder))
        bundle = run / "export" if (run / "export").is_dir() else run
        loads, start, end = measured(bundle, asked)
        text = page(loads, (start, end), bundle, asked)
    asked.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
