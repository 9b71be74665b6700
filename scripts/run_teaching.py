"""The experiments of teaching articles on distillation, as Markdown: our numbers beside theirs.

    python scripts/run_teaching.py                                  the two worked examples alone
    python scripts/run_teaching.py mnist=FOLDER ml100k=FOLDER       and all experiments, over the seeds in their YAML

Each experiment is one command, which is printed. They start in an empty folder and share what they have in common,
such as the teacher of the two with dense layers.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recdistill.distillers.response import combined_loss
from recdistill.errors import InputError

RECDISTILL = Path(sys.executable).with_name("recdistill")
MODELS = ("teacher", "student alone", "student distilled")
FULL_MNIST = "train-images-idx3-ubyte"


@dataclass(frozen=True)
class Experiment:
    """One command.

    Attributes:
        name: below ``experiment=teaching/``.
        data: name of the folder on the command line.
        claim: what the articles say.
        differs: what they do and we do not.
    """

    name: str
    data: str
    claim: str
    differs: str


EXPERIMENTS = (
    Experiment(
        "mnist_mlp512_256_to_mlp256", "mnist", "accuracy about 98 %",
        "The article trains on 60,000 images, and its code on soft labels of the test images.",
    ),
    Experiment(
        "mnist_dense64_to_dense32", "mnist", "no figure that we could check",
        "The same network sizes; soft labels of the training images.",
    ),
    Experiment(
        "mnist_combined_loss", "mnist", "no figure but those of the worked examples",
        "The cross-entropy's gradient is the divergence's, so the student is that of the experiment above.",
    ),
    Experiment(
        "ml100k_mf_rating", "ml100k", "MAE, without a figure that we could check",
        "A random split, as theirs.",
    ),
)  # fmt: skip
EXAMPLES = (
    ([0.1, 0.3, 0.4, 0.1], [0.2, 0.35, 0.3, 0.15], 0.183),
    ([0.1, 0.3, 0.2, 0.2, 0.2], [0.2, 0.2, 0.3, 0.2, 0.1], 0.455),
)


def worked_examples() -> str:
    """Both worked examples of the combined loss."""
    lines = [
        "## Combined loss, worked examples", "",
        "`recdistill.distillers.response.combined_loss(p, q, alpha)` in nats; alpha: share of the cross-entropy.", "",
        "| p | q | cross-entropy, article | cross-entropy | KL | alpha = 0.7 |", "|:--|:--|--:|--:|--:|--:|",
    ]  # fmt: skip
    for p, q, claim in EXAMPLES:
        try:
            found = [float(combined_loss(torch.tensor([p]), torch.tensor([q]), alpha)) for alpha in (1.0, 0.0, 0.7)]
            ours = " | ".join(f"{value:.4f}" for value in found)
        except InputError as error:
            ours = f"refused: {error.what} | – | –"
        lines.append(f"| {p} | {q} | {claim} | {ours} |")
    return "\n".join([*lines, ""])


def run(experiment: Experiment, data: Path, folder: Path) -> tuple[str, str]:
    """Runs one experiment; its row of the summary and its section, which name the data as the command line does."""
    there = str(data.resolve())
    words = [f"experiment=teaching/{experiment.name}", f"data.path={there}", f"run.name={experiment.name}"]
    if any(data.glob(f"{FULL_MNIST}*")):
        words.append("data/split=given")
    start = time.perf_counter()
    subprocess.run([RECDISTILL, "run", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    out = folder / "outputs" / experiment.name
    grid = json.loads((out / "grid.json").read_text(encoding="utf-8"))
    row = f"| {experiment.name} | {experiment.claim} | " + " | ".join(cells(grid)) + " |"
    section = [
        f"## {experiment.name}", "", f"`{shlex.join(['recdistill', 'run', *words])}`: {seconds:.0f} s", "",
        f"Articles: {experiment.claim}. {experiment.differs}", "",
        (out / "table.md").read_text(encoding="utf-8").strip(), "",
    ]  # fmt: skip
    return row, "\n".join(section).replace(there, str(data))


def cells(grid: dict[str, Any]) -> list[str]:
    """The metric, mean and standard deviation over seeds, of teacher, student alone and distilled."""
    metric, rows = grid["metric"], {row["name"]: row for row in grid["rows"]}
    values = [rows[name]["metrics"][metric] for name in MODELS]
    return [metric, *(f"{value['mean']:.4f} ±{value['sd']:.4f}" for value in values)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", help="mnist=FOLDER, ml100k=FOLDER")
    folders = dict(word.split("=", 1) for word in parser.parse_args().folders)
    print(f"# {datetime.date.today()}: `{shlex.join(['python', 'scripts/run_teaching.py', *sys.argv[1:]])}`\n")
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        found = [
            run(experiment, Path(folders[experiment.data]), Path(folder))
            for experiment in EXPERIMENTS if experiment.data in folders
        ]  # fmt: skip
    if found:
        print("| experiment | articles | metric | teacher | student alone | student distilled |")
        print("|:--|:--|:--|--:|--:|--:|")
        print("\n".join(row for row, _ in found) + "\n")
    print("\n".join([*(section for _, section in found), worked_examples()]))


if __name__ == "__main__":
    main()
