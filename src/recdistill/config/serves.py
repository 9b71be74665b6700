"""Which tasks the class of an option serves, read from its source: ``recdistill ls`` imports no class."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

Options = Mapping[str, Mapping[str, Path]]
Home = tuple[Path, ...]
"""Folders that modules are looked for in, the first the winner's."""


def tasks_of(group: str, option: str, options: Options, home: Home) -> tuple[str, ...]:
    """Names of the tasks that an option is for; empty where its class has none, or cannot be found.

    Args:
        group, option: such as ``distiller`` and ``rrd``.
        options: group -> option -> file, of :func:`~recdistill.config.listing.groups`.
        home: folders that packages lie in.
    """
    target = target_of(group, option, options)
    module, _, name = target.rpartition(".")
    found = _value(module, name, home)
    return _tasks(found[0], found[1], home) if found and isinstance(found[1], ast.ClassDef) else ()


def target_of(group: str, option: str, options: Options) -> str:
    """The ``_target_`` of an option, of its net, or of what its defaults take them from; empty where there is none."""
    file = options.get(group, {}).get(option)
    if file is None:
        return ""
    text, name = file.read_text(encoding="utf-8", errors="replace"), re.escape(option)
    own = re.search(rf"^(?:(?:net|{name}):[^\n]*\n(?:[ #][^\n]*\n|\n)*?  )?_target_: (\S+)", text, re.MULTILINE)
    if own:
        return own[1]
    default = rf"^  - (?:/([\w/]+)@(?:net|_here_|{name}): (\w+)|/([\w/]+)/(\w+)@{name}|(\w+))\s*(?:#.*)?$"
    for line in re.finditer(default, text, re.MULTILINE):
        other = (line[1] or line[3] or group, line[2] or line[4] or line[5])
        if other not in ((group, "_self_"), (group, option)):
            return target_of(*other, options)
    return ""


@cache
def _names(module: str, home: Home) -> dict[str, ast.stmt]:
    """What a module defines, or imports from another, by name."""
    parts = Path(*module.split("."))
    files = [folder / file for folder in home for file in (parts.with_suffix(".py"), parts / "__init__.py")]
    file = next((file for file in files if file.is_file()), None)
    try:
        return dict(_defined(ast.parse(file.read_text(encoding="utf-8")).body)) if file else {}
    except (SyntaxError, ValueError, OSError):  # somebody's plug-in: said where it is chosen
        return {}


def _defined(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            yield statement.name, statement
        elif isinstance(statement, ast.ImportFrom):
            yield from ((alias.asname or alias.name, statement) for alias in statement.names)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            yield from ((target.id, statement) for target in targets if isinstance(target, ast.Name))


def _value(module: str, name: str, home: Home) -> tuple[str, ast.stmt] | None:
    """The module where a name is defined, and the statement that does so."""
    found = _names(module, home).get(name) if module else None
    if not isinstance(found, ast.ImportFrom):
        return (module, found) if found else None
    (original,) = {alias.name for alias in found.names if (alias.asname or alias.name) == name}
    return _value(found.module, original, home) if found.module and not found.level else None


def _tasks(module: str, node: ast.ClassDef, home: Home) -> tuple[str, ...]:
    own = dict(_defined(node.body)).get("tasks")
    if isinstance(own, ast.Assign | ast.AnnAssign) and own.value is not None:
        return tuple(_strings(module, own.value, home))
    for base in node.bases:
        found = _value(module, base.id, home) if isinstance(base, ast.Name) else None
        if found and isinstance(found[1], ast.ClassDef) and (tasks := _tasks(found[0], found[1], home)):
            return tasks
    return ()


def _strings(module: str, value: ast.expr, home: Home) -> Iterator[str]:
    """Of a tuple of strings and of other such tuples, ``(*LISTS, "ctr")``."""
    if isinstance(value, ast.Constant):
        yield str(value.value)
    elif isinstance(value, ast.Tuple):
        for part in value.elts:
            yield from _strings(module, part.value if isinstance(part, ast.Starred) else part, home)
    elif isinstance(value, ast.Name) and (found := _value(module, value.id, home)):
        named = getattr(found[1], "value", None)  # of an assignment
        yield from _strings(found[0], named, home) if named is not None else ()
