"""The command line on data so small that a whole run takes a second or two."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from stage_kit import words_of

from recdistill.cli import main
from recdistill.reporting import svg


@pytest.fixture(scope="module", autouse=True)  # the worker goes on with files of other folders
def light_charts() -> Iterator[None]:
    """Charts are painted, and not laid out and written as SVG, which the tests of reporting are about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(svg, "inline", lambda *given: f'<svg id="{given[1]}"></svg>')
        yield


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


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of this test alone: what is left there, it has left."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder
