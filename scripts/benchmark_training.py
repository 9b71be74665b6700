"""What the training loop costs over a bare one: a BPR step of a matrix factorisation, ML-1M sizes, random data.

    python scripts/benchmark_training.py [--steps 200] [--repeats 7]

(a) a bare PyTorch loop over the same epoch plan; (b) SupervisedModule through Lightning, one batch an epoch, with all
checks, seeds and sums; (c) Lightning's automatic optimisation, one batch a step. Each repeat runs all three after one
another on the same plan; what is printed are medians over repeats of the time per step, and of the ratios to (a).
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings

import pytorch_lightning as pl
import torch
from torch.nn import functional as F

from recdistill.data.interactions import Dataset, Interactions, Schema
from recdistill.models.fit import Fit
from recdistill.models.mf import MF
from recdistill.modules.supervised import StudentModule
from recdistill.tasks.batches import RankingEpoch
from recdistill.tasks.objectives import BPR
from recdistill.tasks.ranking import Ranking

USERS, ITEMS, DIM, BATCH = 6040, 3706, 64, 2048


def random_data(steps: int) -> Dataset:
    rng = torch.Generator().manual_seed(0)
    user = torch.randint(USERS, (steps * BATCH,), generator=rng)
    item = torch.randint(ITEMS, (steps * BATCH,), generator=rng)
    part = Interactions(user, item, USERS, ITEMS)
    return Dataset(part, part, part, None, None, {}, {}, "")  # type: ignore[arg-type]


def new_model() -> MF:
    torch.manual_seed(0)
    return MF(Schema(n_users=USERS, n_items=ITEMS), dim=DIM)


def bare(plan: RankingEpoch) -> float:
    """Seconds per step of a loop without anything around it."""
    model = new_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    start = time.perf_counter()
    for step in range(plan.steps):
        batch = plan.batch(step)
        scores = model.scores(batch.user, torch.cat([batch.item.unsqueeze(1), batch.negative], 1))
        loss = F.softplus(scores[:, 1:] - scores[:, :1]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (time.perf_counter() - start) / plan.steps


class Timed(StudentModule):
    """Times its epochs, the making of the plan left out as for the others."""

    seconds = 0.0

    def training_step(self, *_: int) -> None:
        self.task.epoch = lambda *_, **__: self.plan  # type: ignore[method-assign]
        start = time.perf_counter()
        super().training_step(0, 0)
        self.seconds = time.perf_counter() - start


class Automatic(pl.LightningModule):
    """The usual way to write it."""

    def __init__(self, plan: RankingEpoch):
        super().__init__()
        self.model, self.plan = new_model(), plan

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.0, fused=True)

    def train_dataloader(self) -> range:
        return range(self.plan.steps)

    def training_step(self, step: int, _: int) -> torch.Tensor:
        batch = self.plan.batch(step)
        scores = self.model.scores(batch.user, torch.cat([batch.item.unsqueeze(1), batch.negative], 1))
        return F.softplus(scores[:, 1:] - scores[:, :1]).mean()

    def on_train_epoch_start(self) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self) -> None:
        self.seconds = time.perf_counter() - self.start


def lightning(module: pl.LightningModule, plan: RankingEpoch) -> float:
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(module)
    return float(module.seconds) / plan.steps  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="of an epoch")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    data, objective = random_data(options.steps), BPR()
    plan = Ranking().epoch(data.train, objective, seed=1, epoch=0, batch_size=BATCH, queries=0)
    times: dict[str, list[float]] = {"a bare loop": [], "b SupervisedModule": [], "c automatic": []}
    for turn in range(options.repeats + 1):
        ours = Timed(new_model(), objective, Fit(epochs=1, batch_size=BATCH), data, seed=1, ks=[10])
        ours.plan = plan
        found = (bare(plan), lightning(ours, plan), lightning(Automatic(plan), plan))
        for name, seconds in zip(times, found, strict=True):
            if turn:  # the first is for warming up
                times[name].append(seconds)
    reference = times["a bare loop"]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.steps} steps an epoch")
    for name, values in times.items():
        ratio = statistics.median(v / r for v, r in zip(values, reference, strict=True))
        print(f"{name:20} {1e6 * statistics.median(values):8.0f} µs a step   x {ratio:.3f}")


if __name__ == "__main__":
    main()
