"""The command line on data so small that a whole run takes a second or two."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from stage_kit import words_of

from recdistill.cli import main


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """``main`` in this process and an empty folder, on the small config."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recdistill"])
    monkeypatch.setenv("COLUMNS", "200")
    for name in [n for n in os.environ if n.startswith("WANDB_")]:
        monkeypatch.delenv(name)

    def run(verb: str, *words: str) -> int:
        return main([verb, *words_of(words)])

    return run
