"""The YAML files of folders that a user gave: looked at before Hydra reads them.

Hydra's loader is a safe one, but it expands aliases and has no size cap, and its own messages name no row.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from recdistill.errors import InputError

MAX_BYTES = 1_000_000
MAX_NODES = 100_000
STANDARD_TAG = "tag:yaml.org,2002:"
PYTHON_TAG = "tag:yaml.org,2002:python"


def scan_folders(folders: Iterable[Path]) -> None:
    """Refuse what a config file must not hold.

    Raises:
        InputError: too large, not UTF-8, broken YAML, a tag that builds objects, aliases that multiply,
            or a ``searchpath`` (it would bring in folders that nobody looked at).
    """
    for folder in folders:
        for pattern in ("*.yaml", "*.yml"):
            for file in sorted(folder.rglob(pattern)):
                scan_file(file)


def scan_file(file: Path) -> None:
    """Check one file; see :func:`scan_folders`."""
    size = file.stat().st_size
    if size > MAX_BYTES:
        raise InputError(
            f"the config file has {size:,} bytes, the most allowed is {MAX_BYTES:,}",
            where=str(file),
            fix="keep data out of configs and give its path instead",
        )
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise InputError("the config file is not UTF-8", where=f"{file}: byte {error.start}") from error
    except yaml.YAMLError as error:
        raise yaml_error(error, file) from error
    except RecursionError as error:
        raise InputError("the config file is nested too deeply", where=str(file)) from error
    if node is not None:
        _check_nodes(node, file)


def yaml_error(error: yaml.YAMLError, file: Path | None = None) -> InputError:
    """A YAML error with its ``file:row:column``."""
    mark = getattr(error, "problem_mark", None)
    name = str(file) if file else (mark.name if mark else "")
    where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
    return InputError("the config file is not valid YAML", where=where, why=getattr(error, "problem", None))


def _check_nodes(root: yaml.Node, file: Path) -> None:
    count = _expanded(root, {}, set(), file)
    if count > MAX_NODES:
        raise InputError(
            f"the config file's aliases expand to {count:,} values, the most allowed is {MAX_NODES:,}",
            where=str(file),
            fix="write fewer aliases (*name)",
        )


def _expanded(node: yaml.Node, sizes: dict[int, int], open_nodes: set[int], file: Path) -> int:
    """How many values a node has once its aliases are expanded; each node is walked once."""
    if id(node) in sizes:
        return sizes[id(node)]
    if id(node) in open_nodes:
        raise InputError("an alias in the config file holds itself", where=_mark(node, file))
    _check_tag(node, file)
    open_nodes.add(id(node))
    total = 1 + sum(_expanded(child, sizes, open_nodes, file) for child in _children(node, file))
    open_nodes.discard(id(node))
    sizes[id(node)] = total
    return total


def _children(node: yaml.Node, file: Path) -> Iterable[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in ("searchpath", "hydra.searchpath"):
                raise InputError(
                    "a config file must not set a search path",
                    where=_mark(key, file),
                    fix="give the folder on the command line: --config-dir DIR",
                )
            yield from (key, value)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _check_tag(node: yaml.Node, file: Path) -> None:
    if not node.tag.startswith(STANDARD_TAG) or node.tag.startswith(PYTHON_TAG):
        raise InputError(
            f"the tag {node.tag.replace(STANDARD_TAG, '!!')} is not allowed in a config",
            where=_mark(node, file),
            why="a tag can build any Python object",
            fix="write plain values",
        )


def _mark(node: yaml.Node, file: Path) -> str:
    return f"{file}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
