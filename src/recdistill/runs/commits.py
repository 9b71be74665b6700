"""Which code made a run: the commit of RecDistill itself, and that of the project it ran in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import recdistill


def commits(package: Path | None = None, project: Path | None = None) -> dict[str, str | None]:
    """Each with "+" where its checkout has changes, None where there is none.

    Args:
        package: folder of the code that runs; by default that of this package.
        project: folder of the user; by default the current one.

    Returns:
        ``commit`` of the package, where it is tracked there: a checkout that only has it installed somewhere below says
        nothing of it. ``project_commit``, where the folder belongs to another checkout.
    """
    package = package or Path(recdistill.__file__).resolve().parent
    own = _git(package, "rev-parse", "--show-toplevel") if _git(package, "ls-files", "__init__.py") else None
    theirs = _git(project or Path(), "rev-parse", "--show-toplevel")
    return {
        "commit": _commit(own) if own else None,
        "project_commit": _commit(theirs) if theirs and theirs != own else None,
    }


def _commit(checkout: str) -> str | None:
    return _git(Path(checkout), "describe", "--always", "--dirty=+", "--abbrev=12")


def _git(folder: Path, *words: str) -> str | None:
    """What git says in a folder; None where it says nothing or is not there."""
    try:
        found = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
