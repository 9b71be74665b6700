"""The config groups and their options, read from the folders: what ``recdistill ls`` and ``--help`` show.

Nothing of Hydra is imported, so that it answers at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import wrap

from recdistill.config.serves import Home, target_of, tasks_of
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


def render_all(folders: Sequence[Path], home: Home = (), width: int | None = None) -> str:
    """Every group with its options, their descriptions and the tasks that they are for.

    Args:
        folders: config folders, the winner first.
        home: folders that the packages of classes lie in.
        width: of the terminal, None where lines may be as long as they are.
    """
    found = groups(folders)
    return "\n\n".join(_render(group, found, home, width) for group in found)


def render_group(folders: Sequence[Path], group: str, home: Home = (), width: int | None = None) -> str:
    """One group (and the groups below it). Args: see :func:`render_all`.

    Raises:
        InputError: there is no such group.
    """
    found = groups(folders)
    chosen = [name for name in found if name == group or name.startswith(f"{group}/")]
    if not chosen:
        raise InputError(
            f"there is no config group {group!r}",
            why=f"the groups are: {listing(found)}",
            fix=did_you_mean(group, found) or "recdistill ls",
        )
    return "\n\n".join(_render(name, found, home, width) for name in chosen)


def serving(group: str, task: str, folders: Sequence[Path], home: Home) -> list[str]:
    """The options of a group that are for a task. Args: see :func:`render_all`."""
    found = groups(folders)
    return [option for option in found.get(group, {}) if task in tasks_of(group, option, found, home)]


def alike(group: str, target: str, task: str, folders: Sequence[Path], home: Home) -> list[str]:
    """The options for a task that are named after an option of a class and it, as ``ensemble_ctr`` after ``ensemble``.

    Args:
        target: the class, as ``_target_`` has it.
        group, task, folders, home: see :func:`serving`.
    """
    found = groups(folders)
    named = {f"{option}_{task}" for option in found.get(group, {}) if target_of(group, option, found) == target}
    return [option for option in serving(group, task, folders, home) if option in named]


def _render(group: str, found: dict[str, dict[str, Path]], home: Home, width: int | None) -> str:
    names = max(len(option) for option in found[group])
    lines = [group]
    for option, file in found[group].items():
        tasks = ", ".join(tasks_of(group, option, found, home))
        line = f"  {option:<{names}}  {describe(file)}" + (f" [{tasks}]" if tasks else "")
        indent = " " * min(names + 4, (width or 0) // 2)
        lines += wrap(line, width, subsequent_indent=indent, break_on_hyphens=False) if width else [line.rstrip()]
    return "\n".join(lines)
