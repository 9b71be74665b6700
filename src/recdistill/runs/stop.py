"""Stopping on a signal while there is something to save: training ends after the current step.

Elsewhere Ctrl-C and SIGTERM stop at once, as the command line has it; finished stages are whole either way.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from recdistill.errors import InterruptedByUser, RecDistillError, Terminated

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_received: int | None = None
_insistence = True
_previous: dict[int, Any] = {}  # handlers outside of the running block


def stop_requested() -> bool:
    """Whether a signal came in while it was deferred."""
    return _received is not None


def stop_error() -> RecDistillError:
    """The error for the signal that was received."""
    kind, word = (InterruptedByUser, "interrupted") if _received == signal.SIGINT else (Terminated, "terminated")
    return kind(f"{word}; what was finished is kept", fix="run the same command again to go on")


def _handle(number: int, _: FrameType | None) -> None:
    global _received
    again, _received = _received == number, number
    if again and _insistence:  # the user means it
        raise stop_error()


def listen() -> None:
    """Puts the handlers of the running :func:`deferred` block back, where a library has put its own in front."""
    if _previous:
        for number in SIGNALS:
            signal.signal(number, _handle)


@contextlib.contextmanager
def deferred(insistence: bool = True) -> Iterator[None]:
    """While the block runs, a first signal only sets the flag that :func:`stop_requested` reads.

    Args:
        insistence: whether the same signal a second time stops at once.
    """
    global _received, _insistence
    if threading.current_thread() is not threading.main_thread():  # Python takes no handlers there
        yield
        return
    _received, _insistence = None, insistence
    _previous.update({number: signal.signal(number, _handle) for number in SIGNALS})
    try:
        yield
    finally:
        for number, handler in _previous.items():
            signal.signal(number, handler)
        _previous.clear()
