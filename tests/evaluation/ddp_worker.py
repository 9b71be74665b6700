"""One process of the distributed test: ``python ddp_worker.py RANK FOLDER WORLDS USERS``; rank 0 prints JSON.

WORLDS and USERS are comma-separated: the process takes part in all worlds that are larger than its rank.
"""

from __future__ import annotations

import json
import sys

import torch
import torch.distributed as dist

from recdistill.data.csr import Csr
from recdistill.evaluation.classification import ClassificationMetrics
from recdistill.evaluation.ctr import CtrMetrics
from recdistill.evaluation.metrics import RankingMetrics
from recdistill.evaluation.ranking import rank_batch
from recdistill.evaluation.rating import RatingMetrics

N_ITEMS, KS, BATCH = 40, (1, 5, 10), 3


def evaluate(n_users: int, rank: int = 0, world: int = 1) -> tuple[RankingMetrics, dict[str, float]]:
    """The metrics of ``n_users`` random users, of which this process ranks every ``world``-th."""
    generator = torch.Generator().manual_seed(n_users)
    scores = torch.randn(n_users, N_ITEMS, generator=generator)
    item = torch.randint(N_ITEMS, (n_users, 6), generator=generator)
    user = torch.arange(n_users).unsqueeze(1).expand(-1, 3)
    relevant = Csr.from_pairs(user.flatten(), item[:, :3].flatten(), n_users)
    seen = Csr.from_pairs(user.flatten(), item[:, 3:].flatten(), n_users)
    metrics = RankingMetrics(N_ITEMS, KS)
    for users in torch.arange(n_users)[rank::world].split(BATCH):
        metrics.update(rank_batch(scores[users], users, relevant, seen, KS))
    return metrics, {name: float(value) for name, value in metrics.compute().items()}


def evaluate_rows(n_rows: int, rank: int = 0, world: int = 1) -> dict[str, float]:
    """The metrics of the other tasks on ``n_rows`` random rows, of which this process has every ``world``-th."""
    generator = torch.Generator().manual_seed(n_rows)
    value, logits = torch.rand(n_rows, generator=generator), torch.randn(n_rows, 3, generator=generator)
    label, user = torch.arange(n_rows) % 3, torch.arange(n_rows) % 2
    ctr, rating, classes = CtrMetrics(users=True), RatingMetrics(n_users=2), ClassificationMetrics(3)
    for rows in torch.arange(n_rows)[rank::world].split(BATCH):
        ctr.update(value[rows], (label[rows] == 0).long(), user[rows])
        rating.update(value[rows], label[rows].float(), user[rows])
        classes.update(logits[rows], label[rows])
    found = ctr.compute() | rating.compute() | classes.compute()
    return {name: float(number) for name, number in found.items()}


def main() -> None:
    rank, folder = int(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    out = []
    for world in (int(size) for size in sys.argv[3].split(",") if int(size) > rank):
        dist.init_process_group("gloo", init_method=f"file://{folder}/{world}", rank=rank, world_size=world)
        for n_users in map(int, sys.argv[4].split(",")):
            metrics, means = evaluate(n_users, rank, world)
            with metrics.sync_context():
                sums, counted = metrics.sums.tolist(), int(metrics.n_users)
            rows = evaluate_rows(n_users, rank, world)
            out.append(
                {"world": world, "users": n_users, "counted": counted, "sums": sums, "means": means, "rows": rows}
            )
        dist.destroy_process_group()
    if rank == 0:
        print(json.dumps(out))


if __name__ == "__main__":
    main()
