"""How far a few epochs of LightGCN come on Gowalla, beside the published figures.

    python scripts/gowalla_curve.py --data ../shared/data/gowalla --epochs 3 --output docs/results/DATE-gowalla.md

The settings are those of ``experiment=gowalla/lightgcn64``; trained on the published training part, of which the file
``valid.txt`` is a share. The test part is shown after each epoch and chooses nothing. On a machine with a GPU,
``--epochs 1000 --trainer gpu`` is the whole run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path

PUBLISHED = {"recall@20": 0.183, "ndcg@20": 0.155}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/gowalla", help="folder of Gowalla")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help="epochs between the rows of the table")
    parser.add_argument("--trainer", default="cpu")
    parser.add_argument("--output", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        published_split(Path(options.data), Path(folder))
        words = [
            "train", "experiment=gowalla/lightgcn64", f"data.path={folder}", "data.users=null", "data.items=null",
            f"teacher.fit.epochs={options.epochs}", f"trainer={options.trainer}",
            f"teacher.fit.validate_every={options.every}", f"run.root={folder}", f"cache={folder}/cache", "logger=none",
        ]  # fmt: skip
        subprocess.run([sys.executable, "-m", "recdistill", *words], check=True)
        (found,) = Path(folder).glob("cache/teacher/*/history.json")
        history = json.loads(found.read_text())
    page = table(history, f"python scripts/gowalla_curve.py --epochs {options.epochs} --trainer {options.trainer}")
    print(page)
    if options.output:
        options.output.write_text(page, encoding="utf-8")


def published_split(data: Path, folder: Path) -> None:
    """Writes the published training part, and the test part under the name of the validation part."""
    rows: dict[str, list[str]] = {}
    for name in ("train.txt", "valid.txt"):
        for line in (data / name).read_text().splitlines():
            user, *items = line.split()
            rows.setdefault(user, []).extend(items)
    (folder / "train.txt").write_text("".join(f"{user} {' '.join(items)}\n" for user, items in rows.items()))
    for name in ("valid.txt", "test.txt"):
        (folder / name).write_text((data / "test.txt").read_text())


def table(history: list[dict[str, float]], command: str) -> str:
    """The curve as Markdown."""
    lines = [
        "# LightGCN on Gowalla: the start of the curve", "",
        f"{datetime.date.today()}, `{command}`. d=64, 3 layers, BPR with one negative, batch 2048, lr .001, l2 .0001.",
        f"Published after up to 1,000 epochs (He et al., SIGIR 2020, table 4): Recall@20 {PUBLISHED['recall@20']}, "
        f"NDCG@20 {PUBLISHED['ndcg@20']}.", "",
        "| epoch | loss | Recall@20 | NDCG@20 | seconds |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for row in history:
        if "valid/recall@20" in row:
            lines.append(
                f"| {row['epoch'] + 1:.0f} | {row['train/loss']:.4f} | {row['valid/recall@20']:.4f} | "
                f"{row['valid/ndcg@20']:.4f} | {row['seconds']:.0f} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
