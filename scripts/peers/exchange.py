"""What goes to a peer and what comes back: arrays in a file, a driver in the peer's own environment, scores."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recdistill.data.interactions import Dataset, TableDataset
from recdistill.data.rows import Rows
from recdistill.tasks.timeline import Timeline
from recdistill.tasks.windows import Sequences

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Answer:
    """What a peer gave.

    Attributes:
        scores: float ``[n_users, n_items]``, or probabilities ``[rows]``.
        seconds: of each epoch.
        versions: of the peer and what it ran on.
        parameters: numbers in the model.
    """

    scores: Tensor
    seconds: list[float]
    versions: dict[str, str]
    parameters: int


def pairs(data: Dataset) -> dict[str, Any]:
    """The pairs of the training part, each once."""
    user, item = data.train.csr.rows(torch.arange(data.train.n_users))
    return {"user": user.numpy(), "item": item.numpy(), "n_users": data.train.n_users, "n_items": data.train.n_items}


def histories(data: Dataset, max_length: int) -> dict[str, Any]:
    """The events of the training part by user in the order of time; the same in the windows that we train on, each a
    session of its own, for peers that read the end of a history alone; and what is known of users before the test."""
    known, given = Timeline.of(data.train, data.valid), Sequences.of(data.train, torch.device("cpu"), max_length)
    lengths = given.count + 1  # the last event is a target only
    session = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    place = torch.arange(len(session)) - (lengths.cumsum(0) - lengths)[session]
    return {
        "user": given.timeline.users(torch.arange(len(given))).numpy(), "item": given.timeline.item.numpy(),
        "n_users": data.train.n_users, "n_items": data.train.n_items,
        "session": session.numpy(), "session_item": given.timeline.item[given.first[session] + place].numpy(),
        "history_indptr": known.indptr.numpy(), "history_item": known.item.numpy(),
    }  # fmt: skip


def table(data: TableDataset) -> dict[str, Any]:
    """Codes of the categorical fields, and the labels that are trained on."""
    sizes = data.schema.features["categorical"]
    return {
        "sizes": np.array([sizes[name] for name in sorted(sizes)]),
        "train": Rows.of(data.train.features, len(data.train)).categorical.numpy(),
        "label": data.train.label.numpy(),
        "test": Rows.of(data.test.features, len(data.test)).categorical.numpy(),
    }


def ask(peer: str, spec: dict[str, Any], given: dict[str, Any], root: Path, name: str) -> Answer:
    """Runs the peer's driver, or reads what it gave before to the same question.

    Args:
        peer: folder of its environment below ``root``; ``scripts/peers/PEER_driver.py`` is run there.
        spec: what it is to do, in plain values.
        given: arrays.
        root: folder that environments and answers go below.
        name: of the answer.
    """
    answers = root / "answers"
    answers.mkdir(parents=True, exist_ok=True)
    out, known = answers / name, answers / f"{name}.question.json"
    question = {"peer": peer, "spec": spec, "given": digest(given)}
    if not (known.exists() and json.loads(known.read_text()) == question):
        known.unlink(missing_ok=True)
        given_file, spec_file = out.with_suffix(".npz"), out.with_suffix(".spec.json")
        np.savez(given_file, **given)
        spec_file.write_text(json.dumps(spec))
        run_driver(peer, [given_file, spec_file, out], root)
        given_file.unlink()
        spec_file.unlink()
        known.write_text(json.dumps(question))
    found = json.loads(out.with_suffix(".json").read_text())
    return Answer(torch.from_numpy(np.load(out.with_suffix(".npy"))), **found)


def digest(given: dict[str, Any]) -> str:
    """Of the content of arrays."""
    whole = hashlib.sha256()
    for name in sorted(given):
        array = np.ascontiguousarray(given[name])
        whole.update(f"{name} {array.dtype} {array.shape}".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()


def run_driver(peer: str, arguments: list[Path], root: Path) -> None:
    """One thread, so that seconds compare.

    Raises:
        SystemExit: there is no such environment, with how to make it; or the driver failed.
    """
    python, driver = root / peer / "bin" / "python", HERE / f"{peer}_driver.py"
    if not python.exists():
        sys.exit(f"{python} is not there. To make it:\n\n" + how_to_make(driver).replace("PEERS", str(root)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory() as folder:  # some leave logs where they are started
        subprocess.run([python, "-W", "ignore", driver, *arguments], check=True, env=environment, cwd=folder)


def how_to_make(driver: Path) -> str:
    """The commands in the driver's docstring, but for the last, which runs it."""
    _, docstring, _ = driver.read_text(encoding="utf-8").split('"""', 2)
    commands = [line for line in docstring.splitlines() if line.startswith("    ")]
    return "\n".join(commands[:-1])
