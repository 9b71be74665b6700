"""Whose fault it is: parts know their own keys, such as ``net.dim``; a message names what somebody has to type."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from recdistill.errors import InputError

# net.dim, fit.item_init=..., objective; not teacher.net.dim, and not the words of a sentence.
_KEY = re.compile(r"(?<![\w./])(net|fit|objective)(?=\.[a-z_]|=)")
_NET_KEY = re.compile(r"(?<![\w./])net\.([a-z_]+)")
# data.time=..., data/split=random, data=csv; not transfer.data, and not the words of a sentence.
_DATA_KEY = re.compile(r"(?<![\w./@])data((?:/[a-z_]+)*)(?=(\.[a-z_]|=))")


@contextlib.contextmanager
def keys_below(where: str, node: Mapping[str, Any]) -> Iterator[None]:
    """Inside, an InputError about ``net``, ``fit`` or ``objective`` is about those of the node at the key ``where``.

    Args:
        where: key of the node.
        node: config of a model.
    """
    try:
        yield
    except InputError as error:
        if error.where in ("net", "fit", "objective"):
            error.where = f"{where}.{error.where}"
        for name in ("where", "why", "fix"):
            if text := getattr(error, name):
                text = _NET_KEY.sub(lambda key: key_of_net(where, node, key[1]), text)
                setattr(error, name, _KEY.sub(rf"{where}.\1", text))
        raise


@contextlib.contextmanager
def keys_of_source() -> Iterator[None]:
    """Inside, an InputError about ``data`` is about ``transfer.data``, those of another domain."""
    try:
        yield
    except InputError as error:
        if error.where == "data" or (error.where or "").startswith("data."):
            error.where = f"transfer.{error.where}"
        if error.fix:
            error.fix = _DATA_KEY.sub(_of_source, error.fix)
        raise


def _of_source(key: re.Match[str]) -> str:
    groups, chosen = key[1], key[2] == "="
    package = f"transfer.data{groups.replace('/', '.')}"
    return f"data{groups}@{package}" if chosen else package


def key_of_net(where: str, node: Mapping[str, Any], name: str) -> str:
    """The key of an argument of the net: where the node itself has one of this name and value, as ``path`` of
    ``teacher=files``, the net takes it from there.

    Args:
        where: key of the node.
        node: config of a model.
        name: of the argument.
    """
    net = node.get("net") or {}
    return f"{where}.{name}" if name in node and node[name] == net.get(name) else f"{where}.net.{name}"
