"""Stopping on a signal while there is something to save: training ends after the current step.

Elsewhere Ctrl-C and SIGTERM stop at once, as the command line has it; finished stages are whole either way.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from recdistill.errors import InterruptedByUser, RecDistillError, Terminated

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_received: int | None = None


def stop_requested() -> bool:
    """Whether a signal came in while it was deferred."""
    return _received is not None


def stop_error() -> RecDistillError:
    """The error for the signal that was received."""
    kind, word = (InterruptedByUser, "interrupted") if _received == signal.SIGINT else (Terminated, "terminated")
    return kind(f"{word}; what was finished is kept", fix="run the same command again to go on")


def _handle(number: int, _: FrameType | None) -> None:
    global _received
    again, _received = _received is not None, number
    if again:  # the user means it
        raise stop_error()


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """While the block runs, a first signal only sets the flag that :func:`stop_requested` reads."""
    global _received
    _received = None
    previous = {number: signal.signal(number, _handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
