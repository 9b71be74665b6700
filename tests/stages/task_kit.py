"""A small line of each task, and the command that runs it in this process."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np

from recdistill.cli import main

CLICKS = (
    "data=synthetic_clicks", "data.source.n_rows=610", "data.source.sizes={user_id: 20, item_id: 15, device: 3}",
)  # fmt: skip
LOG = ("data=synthetic", "data.source.n_users=50", "data.source.n_items=40", "data.source.niches=6")
IMAGES = ("data=mnist", "data.path=digits")
FIT = ("{role}.fit.epochs=3", "{role}.fit.batch_size=32", "{role}.fit.lr=0.01", "{role}.fit.validate_every=1")
LINES: dict[str, tuple[str, ...]] = {
    "sequence": (
        *LOG, "task.max_length=8", "teacher=sasrec", "teacher.net.dim=8", "teacher.net.layers=1",
        "teacher.net.dropout=0", "student=gru4rec", "student.net.dim=4", "student.net.hidden=4", "evaluation.ks=[5,10]",
    ),
    "ctr": (
        *CLICKS, "teacher=dcnv2", "teacher.net.dim=4", "teacher.net.cross_layers=1", "teacher.net.hidden=[8]",
        "teacher.net.dropout=0", "teacher.net.batch_norm=false", "student=fm", "student.net.dim=4",
    ),
    "rating": (*LOG, "teacher=biased_mf", "teacher.net.dim=6", "student=biased_mf", "student.net.dim=2"),
    "classification": (*IMAGES, "teacher=mlp", "teacher.net.hidden=[24]", "student=mlp", "student.net.hidden=[16]"),
}  # fmt: skip
UNIT = {"sequence": "user", "ctr": "row", "rating": "row", "classification": "row"}
METRIC = {"sequence": "ndcg@10", "ctr": "auc", "rating": "rmse", "classification": "accuracy"}


def words_of(task: str, *more: str) -> list[str]:
    """The line of a task, without what ``more`` replaces."""
    small = [word.format(role=role) for role in ("teacher", "student") for word in FIT]
    replaced = {word.partition("=")[0] for word in more}
    words = [word for word in (*LINES[task], *small, "logger=none", "trainer=cpu")
             if not replaced & {word.partition("=")[0], word.partition(".")[0]}]  # fmt: skip
    return [f"task={task}", *words, *more]


def command(verb: str, words: Sequence[str]) -> int:
    with patch.object(sys, "argv", ["recdistill"]), patch.dict(os.environ, COLUMNS="120"):
        return main([verb, *words])


def write_digits(folder: Path, n: int = 240, side: int = 4, classes: int = 3) -> None:
    """Images in IDX files: a bright row that tells the class, and noise."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, classes, n).astype(np.uint8)
    image = rng.integers(0, 150, (n, side, side)).astype(np.uint8)
    image[np.arange(n), label] += 90
    folder.mkdir()
    (folder / "t10k-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, n, side, side) + image.tobytes())
    (folder / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, n) + label.tobytes())
