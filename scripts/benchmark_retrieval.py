"""Exact top-k over a large table of items against the bandwidth of memory and against torch; one line a case.

    python scripts/benchmark_retrieval.py [--items 1000000] [--dim 64] [--k 10] [--rounds 41] [--queries 200]
        [--approximate] [--output docs/results/retrieval.json]

Bound: the fastest of three ways to read the float32 table once and do next to nothing with it. Torch: the better of
topk(W @ u) and topk(u @ W.T). All are run in turn, round by round, on one thread, each round with another query, so
that what else the machine does falls on all alike; what is printed are medians over rounds, and medians of the ratios
within a round. Overlap is that of the lists with torch's, over all queries. Vectors are random and normal, which is
hard for 8 bits: the best of a million lie close together.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

from recdistill.evaluation.cost import cpu_name
from recdistill.retrieval import kernels
from recdistill.retrieval.base import Searcher, table_of
from recdistill.retrieval.exact import Exact
from recdistill.retrieval.exact_int8 import ExactInt8
from recdistill.retrieval.hnsw import Hnsw
from recdistill.retrieval.ivf_sq8 import IvfSq8

Array = np.ndarray[Any, Any]


@numba.njit(fastmath=True, boundscheck=False)
def read(numbers: Array) -> float:
    total = np.float32(0)
    for at in range(len(numbers)):
        total += numbers[at]
    return total


@numba.njit(fastmath=True, boundscheck=False)
def read_words(words: Array) -> int:
    total = np.int64(0)
    for at in range(len(words)):
        total += words[at]
    return total


def cases(table: Array, k: int, indexes: dict[str, Searcher]) -> dict[str, Callable[[Array], object]]:
    """What is timed, by name; each gets a query ``[1, d]``."""
    weights = torch.from_numpy(table).clone()  # where torch would put it
    flat = table_of(table).reshape(-1)
    words = flat.view(np.int64)
    return {
        "read as float32": lambda _: read(flat),
        "read as int64": lambda _: read_words(words),
        "read by torch": lambda _: weights.view(-1).sum(),
        "torch W @ u": lambda query: torch.topk(weights @ torch.from_numpy(query[0]), k),
        "torch u @ W.T": lambda query: torch.topk(torch.from_numpy(query) @ weights.T, k),
        **{name: lambda query, index=index: index.search(query, k) for name, index in indexes.items()},
    }  # fmt: skip


def timed(found: dict[str, Callable[[Array], object]], queries: Array, rounds: int) -> dict[str, Array]:
    """Seconds of each case and round."""
    taken: dict[str, list[float]] = {name: [] for name in found}
    for number in range(-2, rounds):
        query = queries[number % len(queries)][None]
        for name, call in found.items():
            start = time.perf_counter()
            call(query)
            if number >= 0:
                taken[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in taken.items()}


def best_of(taken: dict[str, Array], beginning: str) -> Array:
    """Seconds by round of the case with the lowest median among those of a kind."""
    return min((v for name, v in taken.items() if name.startswith(beginning)), key=lambda v: float(np.median(v)))


def measure(items: int, dim: int, k: int, rounds: int, n_queries: int, approximate: bool) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    table = rng.standard_normal((items, dim), dtype=np.float32)
    queries = rng.standard_normal((n_queries, dim), dtype=np.float32)
    kinds = {"exact": Exact(), "exact_int8": ExactInt8(), "exact_int8, no re-scoring": ExactInt8(rescore=0)}
    kinds |= {"ivf_sq8": IvfSq8(), "hnsw": Hnsw()} if approximate else {}
    indexes: dict[str, Searcher] = {}
    rows: dict[str, Any] = {}
    for name, index in kinds.items():
        start = time.perf_counter()
        indexes[name] = index.build(table)
        rows[name] = {"built_s": time.perf_counter() - start, "bytes": indexes[name].nbytes}
    taken = timed(cases(table, k, indexes), queries, rounds)
    bound, torchs = best_of(taken, "read"), best_of(taken, "torch")
    expected = torch.topk(torch.from_numpy(queries) @ torch.from_numpy(table).T, k).indices.numpy()
    for name, seconds in taken.items():
        rows.setdefault(name, {})
        p50, p99 = np.percentile(1e3 * seconds, [50, 99])
        rows[name] |= {"p50_ms": float(p50), "p99_ms": float(p99), "of_bound": float(np.median(bound / seconds)),
                       "of_torch": float(np.median(torchs / seconds))}  # fmt: skip
    for name, index in indexes.items():
        lists = np.concatenate([index.search(query[None], k).items for query in queries])
        same = (lists[:, :, None] == expected[:, None, :]).any(2).mean()
        rows[name]["overlap"] = float(same)
    gigabytes = table.nbytes / float(np.median(bound)) / 1e9
    return {"created": datetime.now(UTC).isoformat(timespec="seconds"), "cpu": cpu_name(), "threads": 1,
            "python": platform.python_version(), "numba": numba.__version__, "torch": torch.__version__,
            "items": items, "dim": dim, "k": k, "rounds": rounds, "queries": n_queries, "bound_gb_s": gigabytes,
            "rows": rows}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--approximate", action="store_true", help="ivf_sq8 and hnsw too; built in minutes")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    assert kernels.BLOCK
    found = measure(given.items, given.dim, given.k, given.rounds, given.queries, given.approximate)
    print(f"{found['created']}  {found['cpu']}, 1 thread, {found['items']:,} × {found['dim']}, top {found['k']}, "
          f"bound {found['bound_gb_s']:.1f} GB/s")  # fmt: skip
    print(f"{'':28}{'p50 ms':>9}{'p99 ms':>9}{'of bound':>10}{'× torch':>9}{'overlap':>9}{'MB':>7}{'built s':>9}")
    for name, row in found["rows"].items():
        more = [f"{row['overlap']:9.4f}{row['bytes'] / 2**20:7.0f}{row['built_s']:9.1f}"] if "overlap" in row else []
        print(f"{name:28}{row['p50_ms']:9.2f}{row['p99_ms']:9.2f}{row['of_bound']:10.2f}{row['of_torch']:9.2f}", *more,
              sep="")  # fmt: skip
    if given.output:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
