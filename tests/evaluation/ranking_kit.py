"""Cases and a loop oracle for the ranking engine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from recdistill.data.csr import Csr
from recdistill.data.sources.synthetic import Synthetic
from recdistill.evaluation.ranking import RankingResult, rank_all

KS = [1, 5, 10, 20, 50]


def csr(pairs: Sequence[tuple[int, int]], n_users: int) -> Csr:
    table = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    return Csr.from_pairs(table[:, 0], table[:, 1], n_users)


def csr_of(sets: Sequence[Iterable[int]]) -> Csr:
    return csr([(u, i) for u, items in enumerate(sets) for i in items], len(sets))


def evaluate(scores: Tensor, relevant: Csr, seen: Csr | None = None, ks: Sequence[int] = KS, **kwargs) -> RankingResult:
    """Evaluates a whole table of scores ``[U, I]``."""
    n_users, n_items = scores.shape
    return rank_all(
        lambda users: scores[users], users=torch.arange(n_users), relevant=relevant,
        seen=seen or csr([], n_users), n_items=n_items, ks=ks, **kwargs,
    )  # fmt: skip


def given_split(folder: Path) -> list[str]:
    """A split as three files, and the words that choose it."""
    folder.mkdir()
    events = Synthetic(n_users=70, n_items=50, niches=6).read().events.select("user", "item")
    draw = pl.Series(torch.rand(events.height, generator=torch.Generator().manual_seed(0)).numpy())
    for name, low, high in (("train", 0, 0.7), ("valid", 0.7, 0.85), ("test", 0.85, 1)):
        events.filter((draw >= low) & (draw < high)).write_csv(folder / f"{name}.csv")
    return ["data=files", f"data.path={folder}"]


def random_case(seed: int, *, cold: int = 0) -> tuple[Tensor, Csr, Csr]:
    """Tie-free scores, relevant and seen items; some users have neither."""
    rng = np.random.default_rng(seed)
    n_users, n_items = int(rng.integers(1, 51)), int(rng.integers(2, 301))
    scores = torch.from_numpy(np.stack([rng.permutation(n_items) for _ in range(n_users)])).float()

    def pairs(mean: float, width: int) -> Csr:
        chosen = rng.random((n_users, width)) < mean / width
        return csr([(int(u), int(i)) for u, i in zip(*chosen.nonzero(), strict=True)], n_users)

    relevant = pairs(5, n_items + cold)
    if not relevant.indices.numel():
        relevant = csr([(0, 0)], n_users)
    return scores, relevant, pairs(10, n_items)


def oracle(scores: Sequence[float], relevant: set[int], seen: set[int], k: int) -> dict[str, float]:
    """One user by plain loops: the list with every tie resolved against the model."""
    shown = [i for i in range(len(scores)) if i not in seen and scores[i] > -math.inf]
    ranked = sorted(shown, key=lambda i: (-scores[i], i in relevant))[:k]
    places = [place for place, item in enumerate(ranked, 1) if item in relevant]
    ideal = sum(1 / math.log2(place + 1) for place in range(1, min(k, len(relevant)) + 1))
    return {
        f"ndcg@{k}": sum(1 / math.log2(place + 1) for place in places) / ideal,
        f"recall@{k}": len(places) / len(relevant),
        f"hr@{k}": float(bool(places)),
        f"mrr@{k}": 1 / places[0] if places else 0.0,
        f"map@{k}": sum(n / place for n, place in enumerate(places, 1)) / len(relevant),
        f"precision@{k}": len(places) / k,
    }
