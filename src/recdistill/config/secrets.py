"""Keeps passwords out of configs, since a config is copied into every run folder and log."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from recdistill.errors import InputError

_SECRET_KEY = re.compile(r"(^|[_.])(api_?key|password|passwd|secret|(access|auth|api)_?token)$", re.IGNORECASE)
_URL_WITH_PASSWORD = re.compile(r"\b[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@", re.IGNORECASE)


def refuse_secrets(tree: Any, prefix: str = "") -> None:
    """Refuse a literal secret in an unresolved config; the message never repeats it.

    Raises:
        InputError: a key such as ``api_key`` with a literal value, a URL with a password, or the value
            of an environment variable that holds a key.
    """
    known = _secrets_of_environment()
    for key, value in _leaves(tree, prefix):
        if "${" in value:
            continue
        named = bool(_SECRET_KEY.search(key)) and value not in ("", "???")
        if named or _URL_WITH_PASSWORD.search(value) or any(secret in value for secret in known):
            raise InputError(
                f"{key} holds a secret in clear text",
                where=key,
                why="a config is copied into the run folder and the logs",
                fix=f"put it into an environment variable and write {key}=\\${{oc.env:NAME}}",
            )


def redact(text: str) -> str:
    """The text without passwords in URLs and without the keys of the environment."""
    text = _URL_WITH_PASSWORD.sub(lambda m: m[0].split("://")[0] + "://***@", text)
    for secret in _secrets_of_environment():
        text = text.replace(secret, "***")
    return text


def _secrets_of_environment() -> list[str]:
    return [v for k, v in os.environ.items() if _SECRET_KEY.search(k) and len(v) >= 8]


def _leaves(tree: Any, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _leaves(value, f"{prefix}[{index}]")
    elif isinstance(tree, str):
        yield prefix, tree
