"""The stage cache: one folder per distinct piece of work, named by the hash of all that it depends on."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from recdistill import __version__
from recdistill.runs.atomic import digest, make_folder, read_json, sweep_temporaries, write_json

log = logging.getLogger(__name__)

STAMP = "stamp.json"


class Store:
    """Folders under ``root``, one per stage and key. What has a name is whole.

    Args:
        root: the cache folder; created when first written to.
    """

    def __init__(self, root: Path):
        self.root = root

    def folder(self, stage: str, depends_on: Mapping[str, Any]) -> Path:
        """Where the output for these dependencies is, or will be."""
        return self.root / stage / digest({"version": __version__, **depends_on})

    def obtain(self, stage: str, depends_on: Mapping[str, Any], make: Callable[[Path], None], title: str = "") -> Path:
        """The folder of a stage's output; ``make(folder)`` fills it unless it is there already.

        A process that wants what another one is making waits for it. ``make`` works in a folder of its own name
        which survives a kill, so that it can go on from a checkpoint it finds there.
        """
        folder = self.folder(stage, depends_on)
        if (folder / STAMP).exists():
            log.info("%s: from cache (%s)", title or stage, folder.name)
            return folder
        make_folder(folder.parent)
        with _locked(folder.with_suffix(".lock"), title or stage):
            if (folder / STAMP).exists():
                log.info("%s: from cache (%s)", title or stage, folder.name)
                return folder
            partial = folder.with_suffix(".partial")
            make_folder(partial)
            sweep_temporaries(partial)
            sittings, start = folder.with_suffix(".sittings"), time.monotonic()
            before = _seconds_before(sittings, partial)
            write_json(sittings, {"before": before, "since": time.time()})
            try:
                make(partial)
            finally:
                if not any(partial.iterdir()):  # refused: there is nothing to go on from
                    sittings.unlink()
            write_json(
                partial / STAMP,
                {"stage": stage, "key": folder.name, "depends_on": dict(depends_on), "version": __version__,
                 "seconds": round(before + time.monotonic() - start, 3)},
            )  # fmt: skip
            partial.replace(folder)
            sittings.unlink(missing_ok=True)
        return folder


def _seconds_before(sittings: Path, partial: Path) -> float:
    """What earlier sittings worked on the stage, each up to its newest file: one that was killed tells no end."""
    if not sittings.exists():
        return 0.0
    last = read_json(sittings)
    newest = max((path.stat().st_mtime for path in partial.rglob("*")), default=0.0)
    return float(last["before"] + max(0.0, newest - last["since"]))


@contextlib.contextmanager
def _locked(path: Path, title: str) -> Iterator[None]:
    """Holds a file lock, which the system frees when its owner dies."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%s: another process is making it; waiting", title)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def stamp(folder: Path) -> dict[str, Any]:
    """What a finished stage says of itself: stage, key, dependencies, version, seconds of all sittings."""
    content: dict[str, Any] = read_json(folder / STAMP)
    return content
