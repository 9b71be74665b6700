"""The overrides of a command line: parsed, and a sweep taken apart into single configs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    Quote,
    QuotedString,
    Sweep,
)
from hydra.errors import HydraException, OverrideParseException

from recdistill.errors import InputError

MAX_CONFIGS = 64


def parse(overrides: Sequence[str]) -> list[Override]:
    """Parse overrides with Hydra's own grammar.

    Raises:
        InputError: one of them is not ``key=value``.
    """
    parser = OverridesParser.create()
    parsed = []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except (OverrideParseException, HydraException) as error:
            raise _syntax_error(text, error) from error
    return parsed


def _syntax_error(text: str, error: Exception) -> InputError:
    key, sep, value = text.partition("=")
    if not sep:
        why, fix = "an override is written key=value", f"{text}=VALUE"
    else:
        why = str(error).splitlines()[0] if str(error) else "the value cannot be read"
        # Two layers: single quotes for the shell, double ones for Hydra.
        fix = f"quote the value: '{quoted(key, value)}'"
    return InputError(f"cannot read the override {text!r}", where=text, why=why, fix=fix)


def key_of(override: Override) -> str:
    """The key without ``+``, ``~`` and ``@package``."""
    return str(override.key_or_group)


def place_of(override: Override) -> str:
    """Where the value stands in the config: ``alpha`` of ``+schedule@alpha=linear``, and of others the key."""
    return override.package or key_of(override)


def values(override: Override) -> list[Any]:
    """The value as plain Python; a sweep gives each of its choices."""
    value = override.value()
    if isinstance(value, ChoiceSweep):
        return [plain(choice) for choice in value.list]
    return [] if isinstance(value, Sweep) else [plain(value)]


def plain(value: Any) -> Any:
    """Take Hydra's quoted strings out of a parsed value."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, dict):
        return {str(plain(k)): plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def singles(override: Override) -> list[str]:
    """The override as one text for each choice; itself when it is no sweep."""
    assert override.input_line is not None
    if not override.is_sweep_override():
        return [override.input_line]
    key = override.get_key_element()
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [f"{key}={value.start}"]
    if isinstance(value, Sweep) and not override.is_discrete_sweep():
        return []
    try:
        return [f"{key}={text}" for text in override.sweep_string_iterator()]
    except (AssertionError, HydraException):
        return []  # glob(...) needs the config folders; each of its jobs is checked when it starts


def expand(parsed: Sequence[Override]) -> list[list[str]]:
    """The configs of a sweep that are worth checking: each choice once, with the first of the others.

    At most ``MAX_CONFIGS``: every job is checked again when it starts.
    """
    choices = [found for found in (singles(override) for override in parsed) if found]
    first = [found[0] for found in choices]
    configs = [first]
    for index, found in enumerate(choices):
        configs += [[*first[:index], choice, *first[index + 1 :]] for choice in found[1:]]
    return configs[:MAX_CONFIGS]


def quoted(key: str, value: str) -> str:
    """``key="value"`` with everything escaped, for values with spaces, ``=`` or commas."""
    return f"{key}={QuotedString(text=value, quote=Quote.double).with_quotes()}"
