"""The configs of models, as plain nodes: what class one names, what it depends on, one merged over another."""

from __future__ import annotations

from typing import Any

from recdistill.config.importing import import_target
from recdistill.config.plugins import plugin_modules
from recdistill.config.suggest import did_you_mean
from recdistill.errors import InputError
from recdistill.models.item_init import content_of


def target_of(node: dict[str, Any], where: str) -> Any:
    """The class that a config names."""
    return import_target(node["_target_"], where, plugin_modules())


def given_vectors(depends_on: dict[str, Any], where: str) -> dict[str, Any]:
    """The content of the files that item tables start from, which their paths alone do not tell.

    Raises:
        InputError: there is no such file.
    """
    nodes = [depends_on.get("node"), *depends_on.get("choices", ())]
    files = sorted({str(file) for node in nodes if node and (file := (node.get("fit") or {}).get("item_init"))})
    return {"item_init": [content_of(file, f"{where}.fit.item_init") for file in files]} if files else {}


def merged(node: dict[str, Any], changes: dict[str, Any], key: str = "alone") -> dict[str, Any]:
    """``node`` with some of its values replaced.

    Raises:
        InputError: a change has no place in ``node``.
    """
    result = dict(node)
    for name, value in changes.items():
        if name not in node:
            raise InputError(
                f"{key}.{name} replaces nothing: the student has {', '.join(node)}", where=key,
                fix=did_you_mean(name, node),
            )  # fmt: skip
        result[name] = merged(node[name], value, f"{key}.{name}") if isinstance(value, dict) else value
    return result
