"""R11 from the command line: what processes share of a distillation, its weights of queries and looked-up lists."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file
from stage_kit import finish, history, models, start

# As many are drawn as the lists are long, so that chance has no say; the items of dcd are those of a process's lists.
DCD = tuple(
    f"distiller.dcd.{word}" for word in ("k=10", "pool=10", "users=5", "user_pool=5", "item_weight=0", "every=1")
)
WORDS = (
    "distiller=[soft_label,dcd]", *DCD, "weighting=confidence", "weighting.k=20", "signals=live",
    "student.fit.every=1", "student.fit.epochs=2", "student.fit.clip=0.5", "logger=csv", "run.name=x",
)  # fmt: skip


def test_two_processes_share_weights_and_lists(tmp_path: Path) -> None:
    """Weights of mean 1 over both processes, and lists that each looks up at the start of an epoch."""
    runs = {
        "one": start(tmp_path, "distill", *WORDS, "cache=one", "run.root=r1"),
        "two": start(tmp_path, "distill", *WORDS, "cache=two", "run.root=r2", "trainer=ddp_cpu", "trainer.devices=2"),
    }
    for name, process in runs.items():
        code, output = finish(process, 200)
        assert code == 0, (name, output)
    one, two = (models(tmp_path / name, "student") for name in runs)
    assert len(one) == len(two) == 2  # alone, and distilled
    terms = set()
    for a, b in zip(one, two, strict=True):
        for name, tensor in load_file(a / "model.safetensors").items():
            other = load_file(b / "model.safetensors")[name]
            assert float((tensor - other).abs().max()) < 1e-4, name
        for row, same in zip(history(a), history(b), strict=True):
            terms |= set(row)
            # The deviation of the weights is that of a process's own queries.
            shared = [key for key in row if not key.endswith("weighting.sd")]
            assert [row[key] for key in shared] == pytest.approx([same[key] for key in shared], abs=1e-4)
    assert {"train/soft_label", "train/dcd"} < terms
    assert {"train/soft_label.weighted", "train/dcd.weighted", "train/weighting.sd"} < terms
