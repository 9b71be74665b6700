"""The config groups and their options, read from the folders: what ``recdistill ls`` and ``--help`` show.

Nothing of Hydra is imported, so that it answers at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from recdistill.config.suggest import did_you_mean, listing
from recdistill.errors import InputError


def groups(folders: Iterable[Path]) -> dict[str, dict[str, Path]]:
    """Group -> option -> file; the first folder that has an option wins.

    Args:
        folders: config folders, the winner first.
    """
    found: dict[str, dict[str, Path]] = {}
    for folder in folders:
        for file in sorted(folder.rglob("*.yaml")):
            parts = file.relative_to(folder).parts
            if len(parts) == 1 or parts[0] == "hydra" or any(part.startswith(".") for part in parts):
                continue
            found.setdefault("/".join(parts[:-1]), {}).setdefault(file.stem, file)
    return dict(sorted(found.items()))


def describe(file: Path) -> str:
    """The first line of a YAML's header comment, without the ``#``; empty when it has none."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            text = line.strip().lstrip("#").strip()
            if line.startswith("#") and text and not text.startswith("@package"):
                return _printable(text)
            if text and not line.startswith("#"):
                return ""
    return ""


def _printable(text: str) -> str:
    # A file from elsewhere must not steer the terminal.
    return "".join(char if char.isprintable() else "?" for char in text)


def render_all(folders: Iterable[Path]) -> str:
    """Every group with its options and their descriptions."""
    found = groups(folders)
    return "\n\n".join(_render(group, options) for group, options in found.items())


def render_group(folders: Iterable[Path], group: str) -> str:
    """One group (and the groups below it).

    Raises:
        InputError: there is no such group.
    """
    found = groups(folders)
    chosen = {name: o for name, o in found.items() if name == group or name.startswith(f"{group}/")}
    if not chosen:
        raise InputError(
            f"there is no config group {group!r}",
            why=f"the groups are: {listing(found)}",
            fix=did_you_mean(group, found) or "recdistill ls",
        )
    return "\n\n".join(_render(name, options) for name, options in chosen.items())


def _render(group: str, options: dict[str, Path]) -> str:
    width = max(len(option) for option in options)
    lines = [f"  {option:<{width}}  {describe(file)}".rstrip() for option, file in options.items()]
    return "\n".join([group, *lines])
