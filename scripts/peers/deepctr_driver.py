"""Trains a model of DeepCTR-Torch 0.3 on exported rows and writes its probabilities of the test rows.

    python3 -m venv PEERS/deepctr
    PEERS/deepctr/bin/pip install -c constraints.txt torch scikit-learn tqdm requests
    PEERS/deepctr/bin/pip install --no-deps deepctr-torch
    PEERS/deepctr/bin/python scripts/peers/deepctr_driver.py GIVEN.npz SPEC.json OUT

Called by ``scripts/benchmark_models.py``, which makes both files. ``SPEC.json`` holds ``model`` (DeepFM or DCN),
``seed``, ``dim``, ``epochs``, ``batch_size``, ``lr`` and ``settings`` (the model's own arguments). Written are
``OUT.npy``, float64 ``[rows]``, and ``OUT.json``, the CPU seconds of each epoch and the versions.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepctr_torch.callbacks import Callback
from deepctr_torch.inputs import SparseFeat
from deepctr_torch.models import DCN, DeepFM

MODELS = {"DeepFM": DeepFM, "DCN": DCN}


class Clock(Callback):
    """CPU seconds of each epoch, on one thread."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self.start = time.process_time()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(time.process_time() - self.start)
        print(f"epoch {epoch + 1}: {self.seconds[-1]:.2f} s, {logs}", file=sys.stderr, flush=True)


def main() -> None:
    given_file, spec_file, out = (Path(argument) for argument in sys.argv[1:])
    given, spec = dict(np.load(given_file)), json.loads(spec_file.read_text())
    torch.set_num_threads(1)
    names = [f"field_{place}" for place in range(len(given["sizes"]))]
    fields = [SparseFeat(name, int(n), spec["dim"]) for name, n in zip(names, given["sizes"], strict=True)]
    model = MODELS[spec["model"]](fields, fields, seed=spec["seed"], **spec["settings"])
    torch.manual_seed(spec["seed"])  # of the order of the rows
    model.compile(torch.optim.Adam(model.parameters(), lr=spec["lr"]), "binary_crossentropy")
    rows = {part: dict(zip(names, given[part].T, strict=True)) for part in ("train", "test")}
    clock = Clock()
    model.fit(
        rows["train"], given["label"], batch_size=spec["batch_size"], epochs=spec["epochs"], verbose=0,
        callbacks=[clock],
    )  # fmt: skip
    np.save(out.with_suffix(".npy"), model.predict(rows["test"], 8192).ravel())
    versions = {name: version(name) for name in ("deepctr-torch", "torch", "numpy")}
    size = sum(parameter.numel() for parameter in model.parameters())
    found = {"seconds": clock.seconds, "versions": versions, "parameters": size}
    out.with_suffix(".json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
