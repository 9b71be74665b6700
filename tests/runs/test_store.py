"""A stage is made once, by one process, and is whole when it has a name."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path

import pytest

from recdistill.runs.store import Store, stamp


def test_made_once(tmp_path: Path) -> None:
    store, calls = Store(tmp_path), []

    def make(folder: Path) -> None:
        calls.append(folder)
        (folder / "x").write_text("1")

    first = store.obtain("stage", {"a": 1}, make)
    assert store.obtain("stage", {"a": 1}, make) == first
    assert len(calls) == 1
    assert (first / "x").read_text() == "1"
    assert stamp(first)["depends_on"] == {"a": 1}
    assert store.obtain("stage", {"a": 2}, make) != first
    assert store.obtain("other", {"a": 1}, make) != first


def test_a_failed_one_is_made_again_from_what_is_there(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "checkpoint").write_text("half way")
        (folder / ".model.x.tmp").write_text("torn")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.obtain("stage", {}, fail)
    assert not store.folder("stage", {}).exists()

    def go_on(folder: Path) -> None:
        assert [p.name for p in folder.iterdir()] == ["checkpoint"]

    folder = store.obtain("stage", {}, go_on)
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoint", "stamp.json"]
    assert not folder.with_suffix(".partial").exists()


def test_the_seconds_of_broken_off_sittings_count(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(folder: Path) -> None:
        checkpoint = folder / "below" / "checkpoint"
        checkpoint.parent.mkdir(exist_ok=True)
        checkpoint.write_text("half way")
        later = time.time() + 100  # it was at work until then, and was killed
        os.utime(checkpoint, (later, later))
        raise RuntimeError

    for _ in range(2):
        with pytest.raises(RuntimeError):
            store.obtain("stage", {}, fail)
    folder = store.obtain("stage", {}, lambda _: None)
    assert stamp(folder)["seconds"] == pytest.approx(200, abs=5)
    assert not list(folder.parent.glob("*.sittings")), "of a finished stage nothing is left"
    assert stamp(store.obtain("stage", {"a": 1}, lambda _: None))["seconds"] < 5


def test_what_was_refused_at_once_leaves_no_trace_of_a_sitting(tmp_path: Path) -> None:
    def refuse(_: Path) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        Store(tmp_path).obtain("stage", {}, refuse)
    assert not list(tmp_path.rglob("*.sittings"))


@pytest.mark.parametrize("dies", [False, True])
def test_others_wait_and_a_dead_owner_does_not_block(
    dies: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """R18."""
    caplog.set_level(logging.INFO)
    store, made = Store(tmp_path), []
    read, write = os.pipe()

    def slow(_: Path) -> None:
        os.write(write, b"x")
        time.sleep(60 if dies else 0.6)

    child = os.fork()
    if not child:
        store.obtain("stage", {}, slow)
        os._exit(0)
    os.read(read, 1)
    if dies:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    folder = store.obtain("stage", {}, made.append)
    assert bool(made) == dies
    assert (folder / "stamp.json").is_file()
    assert ("waiting" in caplog.text) == (not dies)
    if not dies:
        os.waitpid(child, 0)
    os.close(read)
    os.close(write)
