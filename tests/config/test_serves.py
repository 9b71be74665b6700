"""What ``ls`` shows of options: the tasks that their classes serve, read without importing them; lines as wide as the
terminal."""

from __future__ import annotations

import os
import pty
import struct
import sys
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path
from subprocess import Popen, run
from termios import TIOCSWINSZ
from typing import Any

import pytest
from omegaconf import OmegaConf

from mini_conf import write_tree
from recdistill.config.compose import compose_config, hydra_session
from recdistill.config.importing import import_target
from recdistill.config.listing import groups, render_all, render_group
from recdistill.config.locate import Sources, find_sources
from recdistill.config.serves import target_of, tasks_of

SHIPPED = find_sources([], [])
OPTIONS = groups(SHIPPED.folders)
# Hydra takes seconds for all teachers: those that are written in a way of their own, and some that are not.
TEACHERS = ("bundle", "by_history", "ease", "ensemble", "families", "files", "folded", "ials", "mf", "rows", "sasrec")
GROUPS = {"distiller": [*OPTIONS["distiller"]], "model": [*OPTIONS["model"]], "objective": [*OPTIONS["objective"]],
          "teacher": [*TEACHERS], "student": ["dcnv2", "mf", "sasrec"]}  # fmt: skip


@pytest.fixture(scope="module")
def composed() -> Any:
    """Options of these groups, as Hydra composes them."""
    with hydra_session(SHIPPED):
        words = [f"+{group}@probe.{group}.{name}={name}" for group, names in GROUPS.items() for name in names]
        return OmegaConf.to_container(compose_config(words), resolve=False)["probe"]  # type: ignore[index, call-overload]


@pytest.mark.parametrize("group", GROUPS)
def test_tasks_are_those_of_the_classes(group: str, composed: Any) -> None:
    for name in GROUPS[group]:
        node = composed[group][name] or {}
        target = node.get(name, node.get("net", node)).get("_target_", "")
        assert target_of(group, name, OPTIONS) == target, name
        assert tasks_of(group, name, OPTIONS, SHIPPED.home) == tuple(
            import_target(target, name).tasks if target else ()
        )
    known = [name for name in OPTIONS[group] if tasks_of(group, name, OPTIONS, SHIPPED.home)]
    assert {*OPTIONS[group]} - {*known} <= {"none", "bundle"}


def test_a_baseline_s_tasks_are_those_of_its_teacher() -> None:
    text = render_group(SHIPPED.folders, "baselines", SHIPPED.home)
    assert "[ranking]" in next(line for line in text.splitlines() if line.startswith("  ease "))


PLUGIN = {
    "mine/__init__.py": "from mine.inner import Mine\n",
    "mine/base.py": "KINDS: tuple[str, ...] = ('ranking',)\nclass Base:\n    tasks = (*KINDS, 'ctr')\n",
    "mine/inner.py": "from typing import Generic\nfrom mine.base import Base as B\nclass Mine(Generic[int], B): ...\n",
    "broken.py": "class Mine(:\n",
    "conf/distiller/mine.yaml": "# Mine\nmine:\n  # why\n\n  weight: 1\n  _target_: mine.Mine\n",
    "conf/distiller/heir.yaml": "# Heir\ndefaults:\n  - mine\n  - _self_\n",
    "conf/distiller/broken.yaml": "# Broken\nbroken:\n  _target_: broken.Mine\n",
    "conf/distiller/away.yaml": "# Away\naway:\n  _target_: nowhere.at.All\n",
    "conf/distiller/loop.yaml": "# Loop\ndefaults:\n  - loop\n",
    "conf/distiller/plain.yaml": "# Plain\nx: 1\n",
}  # fmt: skip


@pytest.fixture
def plugged(tmp_path: Path, sources: Sources) -> Sources:
    return Sources(sources.conf, (write_tree(tmp_path / "p", PLUGIN) / "conf",), (tmp_path / "p",))


def test_plug_ins_are_read_and_not_run(plugged: Sources) -> None:
    text = render_group(plugged.folders, "distiller", plugged.home)
    assert "  mine        Mine [ranking, ctr]" in text
    for name in ("Broken", "Away", "Loop", "Plain"):
        assert next(line for line in text.splitlines() if name in line).endswith(name)
    assert "mine" not in sys.modules


@pytest.mark.parametrize("width", [20, 60, 100, 137])
def test_lines_fit(width: int) -> None:
    whole, cut = (render_all(SHIPPED.folders, SHIPPED.home, columns) for columns in (None, width))
    assert max(map(len, whole.splitlines())) > 137
    headings = {line for line in whole.splitlines() if not line.startswith(" ")}
    assert all(len(line) <= width for line in cut.splitlines() if line not in headings)
    assert "".join(cut.split()) == "".join(whole.split())


def test_a_terminal_is_wrapped_and_a_pipe_is_not() -> None:
    command = [sys.executable, "-c", "import sys; from recdistill.cli import main; sys.exit(main(['ls', 'distiller']))"]
    piped = run(command, capture_output=True, text=True, check=True).stdout
    assert max(map(len, piped.splitlines())) > 100
    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, struct.pack("4H", 50, 90, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    shown = b""
    with Popen(command, stdout=theirs, env=env) as process:
        os.close(theirs)
        with suppress(OSError):  # the end of a terminal
            while part := os.read(ours, 65536):
                shown += part
    os.close(ours)
    assert process.returncode == 0
    assert "".join(shown.decode().split()) == "".join(piped.split())
    assert max(map(len, shown.decode().splitlines())) <= 90
