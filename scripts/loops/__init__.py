"""Minimal training loops of some of our models: what one would write for one model and nothing else.

They are written for speed, as ours are: fused Adam, all negatives of an epoch at once, sparse rows in CSR. There is no
checkpoint, log, check, resuming, schedule or validation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peers.cases import BPR, FRAPPE, GRU4REC, LIGHTGCN, ML1M, ML100K, NEUMF, SASREC, SEQUENCE, WIDTHS

from loops import ranking, sequence, tables


@dataclass(frozen=True)
class Loop:
    """A race between ours and a minimal loop.

    Attributes:
        name: of model and data.
        overrides: that choose data and our teacher.
        run: the minimal loop: data, config and a number of epochs to the CPU seconds of each.
        epochs: that are measured in a turn.
        turns: that are measured.
        peer: slug of the case whose seconds stand beside.
    """

    name: str
    overrides: tuple[str, ...]
    run: Callable[[Any, dict[str, Any], int], list[float]]
    epochs: int
    turns: int
    peer: str

    @property
    def slug(self) -> str:
        """A name for files."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.name.lower()).split())


def _fit(batch_size: int) -> tuple[str, ...]:
    plain = "weight_decay=0", "schedule=constant", "warmup=0", "patience=0", "clip=0", "lr=0.001"
    return tuple(f"teacher.fit.{setting}" for setting in (*plain, f"batch_size={batch_size}"))


LOOPS = (
    Loop("BPR, ML-1M", (*ML1M, *BPR, *_fit(2048)), ranking.mf, 2, 5, "bpr-ml-1m"),
    Loop("LightGCN, ML-100K", (*ML100K, *LIGHTGCN, *_fit(2048)), ranking.lightgcn, 2, 5, "lightgcn-ml-100k"),
    Loop("NeuMF, ML-1M", (*ML1M, *NEUMF, *_fit(2048)), ranking.neumf, 1, 2, "neumf-ml-1m"),
    Loop("SASRec, ML-100K", (*SEQUENCE, *SASREC, *_fit(64)), sequence.sasrec, 2, 5, "sasrec-ml-100k"),
    Loop("GRU4Rec, ML-100K", (*SEQUENCE, *GRU4REC, *_fit(52)), sequence.gru4rec, 2, 5, "gru4rec-ml-100k"),
    Loop("DeepFM, Frappe", (*FRAPPE, "teacher=deepfm", *WIDTHS, *_fit(1024)), tables.deepfm, 3, 5, "deepfm-frappe"),
    Loop(
        "DCNv2, Frappe", (*FRAPPE, "teacher=dcnv2", "teacher.net.cross_layers=2", *WIDTHS, *_fit(1024)), tables.dcnv2,
        3, 5, "dcnv2-frappe",
    ),
)  # fmt: skip
