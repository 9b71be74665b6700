"""The miniature conf for the tests of this folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mini_conf import PLUGIN, make_conf, write_tree
from recdistill.config import locate
from recdistill.config.locate import Sources, find_sources


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    conf = make_conf(tmp_path / "conf")
    plugin = write_tree(tmp_path / "plug", {"miniparts.py": PLUGIN})
    monkeypatch.setattr(locate, "conf_dir", lambda: conf)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("RECDISTILL_PLUGINS", "")
    monkeypatch.delitem(sys.modules, "miniparts", raising=False)
    found = find_sources([], [str(plugin)])
    found.enable_plugins()
    return found
