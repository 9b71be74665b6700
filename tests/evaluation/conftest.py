"""The kits of these tests and of the stages; the command line on data so small that a run takes a second or two."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "stages"))

from stage_kit import words_of

from recdistill.cli import main


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """``main`` in this process and an empty folder, on the small config."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recdistill"])
    monkeypatch.setenv("COLUMNS", "200")
    return lambda verb, *words: main([verb, *words_of(words)])
