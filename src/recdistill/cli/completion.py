"""What the shell completes: verbs and the groups of ``ls`` here, overrides by Hydra."""

from __future__ import annotations

import glob
import os

from recdistill.cli.words import ARGUMENTS, VERBS, Words
from recdistill.config.listing import groups
from recdistill.config.locate import find_sources
from recdistill.errors import RecDistillError

_FLAGS = ("--config-dir", "--plugin", "--help", "--multirun", "--cfg", "--version")
_TAKES_VALUE = ("--config-dir", "-cd", "--plugin")


def complete_line(line: str, words: Words) -> list[str] | None:
    """The completions of a command line, or None when Hydra knows them.

    Hydra reads every word after the program as an override: for it the verb and our flags are taken out of
    ``COMP_LINE``, and our flags are put into ``words``.
    """
    parts = line.split()
    current = "" if line.endswith(" ") else parts.pop()
    program, rest = parts[:1], _take_flags(parts[1:], words)
    if current.startswith("-"):
        return [flag for flag in _FLAGS if flag.startswith(current)]
    verb = next((part for part in rest if not part.startswith("-")), None)
    if verb is None:
        return [name for name in VERBS if name.startswith(current)]
    if verb == "ls":
        return _group_names(current, words)
    overrides = [part for part in rest if part != verb and not part.startswith("-")]
    if verb == "download":
        if "=" not in current and (known := _downloads(current, words)):
            return known
        overrides = [part for part in overrides if "=" in part]
    if verb == "serve":
        return _folders(current) or _serve_keys(current)
    if verb in (*ARGUMENTS, "report"):
        overrides = [part for part in overrides if "=" in part]
        if "=" not in current and (found := _folders(current)):
            return found
    os.environ["COMP_LINE"] = " ".join([*(program or ["recdistill"]), *overrides, current])
    return None


def _take_flags(parts: list[str], words: Words) -> list[str]:
    left, queue = [], list(parts)
    while queue:
        part = queue.pop(0)
        name, sep, value = part.partition("=")
        if name not in _TAKES_VALUE:
            left.append(part)
            continue
        given = value if sep else (queue.pop(0) if queue else "")
        (words.plugins if name == "--plugin" else words.config_dirs).append(given)
    return left


def _folders(current: str) -> list[str]:
    return sorted(f"{found}{os.sep}" for found in glob.glob(f"{glob.escape(current)}*") if os.path.isdir(found))


def _serve_keys(current: str) -> list[str]:
    from recdistill.serving.settings import PREFIX, Settings

    return [f"{PREFIX}{name}=" for name in Settings.model_fields if f"{PREFIX}{name}=".startswith(current)]


def _downloads(current: str, words: Words) -> list[str]:
    try:
        known = groups(find_sources(words.config_dirs, words.plugins).folders).get("download", {})
    except RecDistillError:
        return []
    return [*(name for name in known if name.startswith(current)), *(["download."] if not current else [])]


def _group_names(current: str, words: Words) -> list[str]:
    try:
        folders = find_sources(words.config_dirs, words.plugins).folders
    except RecDistillError:
        return []
    return [group for group in groups(folders) if group.startswith(current)]
