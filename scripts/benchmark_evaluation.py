"""What full-catalogue evaluation costs over a bare ranking, and that it streams; random factors, one line a case.

    python scripts/benchmark_evaluation.py [--sizes 6040x3706 29858x40981] [--dim 64] [--repeats 7] [--threads 1]

Bare: for the same chunks of users, matmul, seen items set to -inf in place, torch.topk with k = 50 and a gather of
which of these items are relevant; no metric, no tie, no check. Ours: rank_all with ks 5, 10, 20, 50, that is all
metrics by user, pessimistic ties, lists in a defined order, tie rates and coverage. Both are run in turn on the same
tensors; what is printed are medians over repeats of CPU seconds, and the median of the ratios. On one thread these are
the seconds of an idle machine, whatever else runs.
Beyond accuracy and slices are timed apart, on the same result. Peak memory is the growth of the resident set while
the evaluation runs, against the bytes of one chunk of scores and of all scores; each case is a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.evaluation.beyond import Catalogue, beyond
from recdistill.evaluation.cost import cpu_name
from recdistill.evaluation.ranking import CPU_CHUNK, RankingResult, rank_all
from recdistill.evaluation.slices import slices

KS = (5, 10, 20, 50)


class Case:
    """Random factors, histories of about ``n_seen`` items with a long tail, and ``n_relevant`` items to find."""

    def __init__(self, n_users: int, n_items: int, dim: int, n_seen: int = 60, n_relevant: int = 10):
        rng = torch.Generator().manual_seed(0)
        self.n_items, self.users = n_items, torch.arange(n_users)
        self.user_factors = torch.randn(n_users, dim, generator=rng)
        self.item_factors = torch.randn(n_items, dim, generator=rng)
        self.chunk = max(1, CPU_CHUNK // (4 * n_items))

        def pairs(each: int) -> Csr:
            item = (torch.rand(n_users * each, generator=rng) ** 3 * n_items).long()
            return Csr.from_pairs(self.users.repeat_interleave(each), item, n_users)

        self.seen, self.relevant = pairs(n_seen), pairs(n_relevant)

    def score(self, users: Tensor) -> Tensor:
        return self.user_factors[users] @ self.item_factors.T

    @torch.inference_mode()
    def bare(self) -> Tensor:
        hits = []
        for part in torch.split(self.users, self.chunk):
            scores = self.score(part)
            scores[self.seen.rows(part)] = -torch.inf
            top = scores.topk(max(KS), dim=1).indices
            liked = torch.zeros(scores.shape, dtype=torch.bool)
            liked[self.relevant.rows(part)] = True
            hits.append(liked.gather(1, top))
        return torch.cat(hits)

    def ours(self) -> RankingResult:
        return rank_all(
            self.score, users=self.users, relevant=self.relevant, seen=self.seen, n_items=self.n_items, ks=KS,
            chunk=self.chunk,
        )  # fmt: skip


def timed(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def growth(call: Callable[[], object]) -> int:
    """By how many bytes the resident set grows at most while ``call`` runs, looked at every millisecond."""
    before, highest, done = resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.001):
            highest = max(highest, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    call()
    done.set()
    watcher.join()
    return max(highest, resident()) - before


def compare(n_users: int, n_items: int, options: argparse.Namespace) -> str:
    torch.set_num_threads(options.threads)
    case = Case(n_users, n_items, options.dim)
    case.bare(), case.ours()
    times = [(timed(case.bare), timed(case.ours)) for _ in range(options.repeats)]
    bare, ours = (statistics.median(side) for side in zip(*times, strict=True))
    ratio = statistics.median(mine / theirs for theirs, mine in times)
    result, catalogue = case.ours(), Catalogue(case.seen, n_items, case.seen)
    closer = timed(lambda: beyond(result, 10, catalogue))
    parts = timed(lambda: slices(result, ["ndcg@10", "recall@10"], case.relevant, catalogue))
    return f"| {n_users:,} x {n_items:,} | {bare:.3f} | {ours:.3f} | {ratio:.2f} | {closer:.2f} | {parts:.2f} |"


def memory(n_users: int, n_items: int, options: argparse.Namespace) -> str:
    torch.set_num_threads(options.threads)
    case = Case(n_users, n_items, options.dim, n_seen=20, n_relevant=5)
    rank_all(
        case.score,
        users=case.users[:64],
        relevant=case.relevant,
        seen=case.seen,
        n_items=n_items,
        ks=KS,
        chunk=case.chunk,
    )
    grown = growth(case.ours)
    chunk, whole = 4 * case.chunk * n_items, 4 * n_users * n_items
    kept = n_users * (4 * max(KS) + 8 * (6 * len(KS) + 2))  # the lists and the values by user, which are the result
    sizes = " | ".join(f"{size / 1e6:,.0f} MB" for size in (grown, kept, chunk, whole))
    return f"| {n_users:,} x {n_items:,} | {sizes} |"


def apart(work: Callable[[int, int, argparse.Namespace], str], sizes: list[str], options: argparse.Namespace) -> None:
    for size in sizes:
        n_users, n_items = map(int, size.split("x"))
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.apply(work, (n_users, n_items, options)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", default=["6040x3706", "29858x40981"], help="USERSxITEMS that are timed")
    parser.add_argument("--stream", nargs="*", default=["10000x20000", "100000x20000"], help="whose memory is watched")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    print(f"{cpu_name()}, torch {torch.__version__}, {options.threads} threads, d={options.dim}, chunks of 8 MB\n")
    print(
        "CPU seconds:\n\n| users x items | bare | ours | ratio | beyond accuracy | slices |\n|--:|--:|--:|--:|--:|--:|"
    )
    apart(compare, options.sizes, options)
    print("\nMemory:\n\n| users x items | peak growth | the result | one chunk | all scores |\n|--:|--:|--:|--:|--:|")
    apart(memory, options.stream, options)


if __name__ == "__main__":
    main()
