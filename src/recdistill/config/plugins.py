"""The folders of code that the user enabled with ``--plugin``, known to every process of a run."""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

VARIABLE = "RECDISTILL_PLUGINS"


def enable(folders: Sequence[Path]) -> None:
    """Put the folders on the import path, here and in the processes that this one starts."""
    os.environ[VARIABLE] = os.pathsep.join(str(folder.resolve()) for folder in folders)
    extend_path()


def plugin_folders() -> list[Path]:
    return [Path(folder) for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]


def extend_path() -> None:
    """In a process that was started by another: the folders of :func:`enable` come first on the import path."""
    for folder in reversed(plugin_folders()):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


def plugin_modules() -> tuple[str, ...]:
    """Top-level modules and packages of the folders; a ``_target_`` may name what is in them."""
    return tuple(module.name for module in pkgutil.iter_modules([str(folder) for folder in plugin_folders()]))
