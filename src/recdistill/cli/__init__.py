"""The command line: ``recdistill VERB [overrides] [-m] [--config-dir DIR] [--plugin DIR]``.

Nothing heavy is imported before a verb needs it: help, ``ls`` and mistyped verbs answer without Hydra.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from types import FrameType

from recdistill.cli.words import VERBS, Words, parse_words, require_arguments
from recdistill.config.words import COMMAND
from recdistill.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_TERMINATED, InputError, RecDistillError, Terminated

_received: list[int] = []


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and give its exit code.

    Args:
        argv: the words after the program's name; default: those of this process.
    """
    _never_fail_to_print()
    _received.clear()
    os.environ[COMMAND] = shlex.join(["recdistill", *(sys.argv[1:] if argv is None else argv)])
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, _terminate)
    try:
        return _dispatch(parse_words(sys.argv[1:] if argv is None else list(argv)))
    except BrokenPipeError:  # recdistill ls | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        return EXIT_INTERRUPTED
    except RecDistillError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        # Hydra turns an exception that it did not expect into 1, the one of a signal too.
        return EXIT_TERMINATED if _received and code == 1 else code
    except (OSError, MemoryError) as error:
        return _resource(error)


def _dispatch(words: Words) -> int:
    if words.version:
        from recdistill import __version__

        print(f"recdistill {__version__}")
        return EXIT_OK
    if words.completion:
        return _complete(words)
    if words.help or words.verb is None:
        from recdistill.cli.text import help_text

        print(help_text(words))
        return EXIT_OK
    if words.verb == "ls":
        return _ls(words)
    if words.verb == "download" and not (words.overrides or words.shows_only):
        return _ls(replace(words, overrides=["download"]))
    require_arguments(words)
    if words.verb == "serve":
        return _serve(words)
    from recdistill.cli.launch import launch

    return launch(words)


def _ls(words: Words) -> int:
    from recdistill.config.listing import render_all, render_group
    from recdistill.config.locate import find_sources

    sources = find_sources(words.config_dirs, words.plugins)
    shown = (sources.home, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)
    for group in words.overrides:
        print(render_group(sources.folders, group.strip("/"), *shown))
    if not words.overrides:
        print(render_all(sources.folders, *shown))
    return EXIT_OK


def _serve(words: Words) -> int:
    """Without Hydra: what is served says its bundle, and a server has no use for what trains."""
    flags = [*words.hydra_flags, *(["--config-dir"] if words.config_dirs else [])]
    if flags:
        raise InputError(f"recdistill serve takes no {flags[0]}", where=flags[0], fix="recdistill serve --help")
    from recdistill.serving.server import serve

    return serve(words.arguments, words.overrides)


def _complete(words: Words) -> int:
    from recdistill.cli.completion import complete_line

    line = os.environ.get("COMP_LINE")
    if line is not None and "query" in " ".join(words.overrides):
        found = complete_line(line, words)
        if found is not None:
            print(" ".join(found))
            return EXIT_OK
    from recdistill.cli.launch import complete

    return complete(words)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    _received.append(EXIT_TERMINATED)
    raise Terminated("terminated by SIGTERM; what was finished is kept")


def _never_fail_to_print() -> None:
    # LANG=C and a user's item called "é" must not end a run.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _resource(error: BaseException) -> int:
    """An error outside of any run folder."""
    from recdistill.cli.job import exit_code

    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return exit_code(error)


__all__ = ["VERBS", "main"]
