"""The words of a command line: the verb, our own flags, and what belongs to Hydra. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from recdistill.config.suggest import did_you_mean, listing
from recdistill.errors import InputError

VERBS = (
    "run", "data", "train", "distill", "compress", "evaluate", "recommend", "report", "compare", "verify",
    "refresh", "download", "serve", "ls", "check",
)  # fmt: skip
# Verbs that take words which are no key=value: how help calls them, and an example.
ARGUMENTS = {
    "compare": ("RUN [RUN ...]", "outputs/one outputs/two"),
    "verify": ("RUN [RUN ...]", "outputs/one"),
    "refresh": ("EXPORT EVENTS", "outputs/one/export events.jsonl"),
    "serve": ("RUN [NAME=RUN ...]", "outputs/one"),
}

# Verbs of which one plain word is the value of a key: what the word is, and the key.
_VALUES = {"download": ("data set", "download"), "report": ("run", "report.run")}

# What --config-dir replaces, and what unpickles a file.
_REFUSED = {
    "--config-path": "--config-dir DIR",
    "-cp": "--config-dir DIR",
    "--config-name": "experiment=NAME, or a config.yaml of your own in --config-dir DIR",
    "-cn": "experiment=NAME, or a config.yaml of your own in --config-dir DIR",
    "--experimental-rerun": "the overrides in the run folder's status.json",
    "--run": "nothing, it is the default",
    "-r": "nothing, it is the default",
}
# Hydra's flags, and how many words each takes besides itself.
_HYDRA_FLAGS = {
    "--multirun": 0,
    "-m": 0,
    "--resolve": 0,
    "--hydra-help": 0,
    "--cfg": 1,
    "-c": 1,
    "--package": 1,
    "-p": 1,
    "--info": 1,
    "-i": 1,
    "--shell-completion": 0,
    "-sc": 0,
}
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
_OWN = ("--config-dir", "-cd", "--plugin")
_QUIET = ("--cfg", "-c", "--info", "-i", "--hydra-help")


@dataclass
class Words:
    """A parsed command line.

    Args:
        verb: what to do; None when only a flag was given.
        overrides: the words that are ``key=value`` (``ls``: the groups).
        arguments: the other words, of a verb that takes some (:data:`ARGUMENTS`).
        hydra_flags: flags that are passed on to Hydra.
        config_dirs: folders given with ``--config-dir``, the winner first.
        plugins: folders given with ``--plugin``.
    """

    verb: str | None = None
    overrides: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    hydra_flags: list[str] = field(default_factory=list)
    config_dirs: list[str] = field(default_factory=list)
    plugins: list[str] = field(default_factory=list)
    help: bool = False
    version: bool = False

    @property
    def multirun(self) -> bool:
        return bool({"-m", "--multirun"} & set(self.hydra_flags))

    @property
    def completion(self) -> bool:
        return bool({"-sc", "--shell-completion"} & set(self.hydra_flags))

    @property
    def shows_only(self) -> bool:
        """Whether Hydra is asked to print something instead of running."""
        return any(flag in _QUIET for flag in self.hydra_flags)


def parse_words(argv: Sequence[str]) -> Words:
    """Parse a command line.

    Raises:
        InputError: an unknown verb or flag, or a flag without its value.
    """
    words, queue = Words(), list(argv)
    while queue:
        word = queue.pop(0)
        if word.startswith("-") and not word.startswith("-="):
            _flag(word, queue, words)
        elif words.verb is None and not words.completion:
            words.verb = _verb(word)
        elif words.verb in ARGUMENTS and _is_argument(word, words.verb):
            words.arguments.append(word)
        elif words.verb in _VALUES and "=" not in word:
            _choose(word, words.verb, words)
        else:
            words.overrides.append(word)
    return words


def _is_argument(word: str, verb: str) -> bool:
    if verb == "serve":  # RUN or NAME=RUN
        return not word.startswith("serve.")
    return "=" not in word or os.path.exists(word)


def _choose(name: str, verb: str, words: Words) -> None:
    """``recdistill download NAME`` is ``download=NAME``, and ``recdistill report RUN`` is ``report.run="RUN"``."""
    what, key = _VALUES[verb]
    if words.overrides and words.overrides[0].startswith(f"{key}="):
        fix = "recdistill compare RUN RUN sets runs side by side" if verb == "report" else f"recdistill {verb} {name}"
        raise InputError(f"recdistill {verb} takes one {what} at a time", where=name, fix=fix)
    words.overrides.insert(0, f"{key}={name}" if verb == "download" else f'{key}="{name}"')


def require_arguments(words: Words) -> None:
    """Raises InputError for a verb without the words that it needs."""
    if words.verb in ARGUMENTS and not (words.arguments or words.shows_only):
        name, example = ARGUMENTS[words.verb]
        raise InputError(
            f"recdistill {words.verb} needs {name.partition(' ')[0]}",
            where="the command line",
            fix=f"recdistill {words.verb} {example}",
        )


def _verb(word: str) -> str:
    if word in VERBS:
        return word
    hint = did_you_mean(word, VERBS)
    if "=" in word:
        hint = f"the verb comes first: recdistill run {word}"
    raise InputError(
        f"there is no verb {word!r}",
        where="the first word after recdistill",
        why=f"the verbs are: {', '.join(VERBS)}",
        fix=hint or "recdistill --help",
    )


def _flag(word: str, queue: list[str], words: Words) -> None:
    name, sep, value = word.partition("=")
    if name in ("-h", "--help"):
        words.help = True
    elif name in ("--version", "-V"):
        words.version = True
    elif name in _OWN:
        target = words.plugins if name == "--plugin" else words.config_dirs
        target.append(value if sep else _next(name, queue))
    elif name in _HYDRA_FLAGS:
        words.hydra_flags.append(word)
        words.hydra_flags += _values(name, sep, queue)
    else:
        raise _unknown_flag(name)


def _next(flag: str, queue: list[str]) -> str:
    if not queue:
        raise InputError(f"{flag} needs a value", fix=f"{flag} DIR" if flag in _OWN else f"{flag} job")
    return queue.pop(0)


def _values(flag: str, sep: str, queue: list[str]) -> list[str]:
    if sep or not _HYDRA_FLAGS[flag]:
        return []
    if flag in ("--info", "-i"):  # its value may be left out
        return [queue.pop(0)] if queue and queue[0] in _INFO else []
    return [_next(flag, queue)]


def _unknown_flag(name: str) -> InputError:
    if name in _REFUSED:
        return InputError(f"recdistill does not take {name}", fix=f"use {_REFUSED[name]}")
    known = [*_OWN, *_HYDRA_FLAGS, "--help", "--version"]
    return InputError(f"there is no flag {name}", why=f"the flags are: {listing(known)}", fix=did_you_mean(name, known))
