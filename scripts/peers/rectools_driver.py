"""Trains SASRec of RecTools 0.19 on exported histories and writes its scores of the whole catalogue.

    python3 -m venv PEERS/rectools
    PEERS/rectools/bin/pip install -c constraints.txt torch
    PEERS/rectools/bin/pip install "rectools[torch]" torch==2.13.0
    PEERS/rectools/bin/python scripts/peers/rectools_driver.py GIVEN.npz SPEC.json OUT

Called by ``scripts/benchmark_models.py``, which makes both files. ``SPEC.json`` holds ``seed``, ``epochs`` and
``settings``, the arguments of ``SASRecModel``. It trains on the windows that the histories were cut into, each as a
session of its own, so that both see the same targets. Written are ``OUT.npy``, float32 ``[n_users, n_items]``, and
``OUT.json``, the CPU seconds of each epoch and the versions.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

CHUNK = 500  # users that are scored at once


class Clock(pl.Callback):
    """CPU seconds of each epoch, on one thread; of the class, as RecTools trains with a copy of its trainer."""

    seconds: ClassVar[list[float]] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        self.start = time.process_time()

    def on_train_epoch_end(self, *_: Any) -> None:
        self.seconds.append(time.process_time() - self.start)
        print(f"epoch {len(self.seconds)}: {self.seconds[-1]:.2f} s", file=sys.stderr, flush=True)


def dataset(user: np.ndarray, item: np.ndarray) -> Dataset:
    """Events in the order of their places, which stand for their times."""
    times = pd.Timestamp(0) + pd.to_timedelta(np.arange(len(user)), unit="s")
    return Dataset.construct(
        pd.DataFrame({Columns.User: user, Columns.Item: item, Columns.Weight: 1.0, Columns.Datetime: times})
    )


def score(model: SASRecModel, given: dict[str, np.ndarray]) -> np.ndarray:
    """Scores ``[n_users, n_items]`` from the histories; an item that trained nothing keeps the lowest of its user."""
    indptr, n_items = given["history_indptr"], int(given["n_items"])
    n_users = len(indptr) - 1
    users = np.repeat(np.arange(n_users), np.diff(indptr))
    known = dataset(users, given["history_item"])
    scores = np.full((n_users, n_items), np.nan, dtype=np.float32)
    for first in range(0, n_users, CHUNK):
        asked = np.arange(first, min(first + CHUNK, n_users))
        found = model.recommend(asked, known, k=n_items, filter_viewed=False, on_unsupported_targets="ignore")
        scores[found[Columns.User], found[Columns.Item]] = found[Columns.Score]
    lowest = np.nanmin(scores, axis=1, keepdims=True)
    return np.where(np.isnan(scores), lowest - 1, scores)


def main() -> None:
    given_file, spec_file, out = (Path(argument) for argument in sys.argv[1:])
    given, spec = dict(np.load(given_file)), json.loads(spec_file.read_text())
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    pl.seed_everything(spec["seed"], verbose=False)
    model = SASRecModel(
        get_trainer_func=lambda: pl.Trainer(
            max_epochs=spec["epochs"], accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[Clock()],
        ),
        **spec["settings"],
    )  # fmt: skip
    model.fit(dataset(given["session"], given["session_item"]))
    np.save(out.with_suffix(".npy"), score(model, given))
    versions = {name: version(name) for name in ("rectools", "torch", "pytorch-lightning", "numpy")}
    size = sum(parameter.numel() for parameter in model.torch_model.parameters())
    found = {"seconds": Clock.seconds, "versions": versions, "parameters": size}
    out.with_suffix(".json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
