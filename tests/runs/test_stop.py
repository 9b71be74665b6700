"""Signals wait for the end of a step."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from recdistill.errors import InterruptedByUser, Terminated
from recdistill.runs.stop import deferred, listen, stop_error, stop_requested


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, InterruptedByUser), (signal.SIGTERM, Terminated)])
def test_the_first_waits_the_second_does_not(number: int, kind: type[Exception]) -> None:
    before = signal.getsignal(number)
    with pytest.raises(kind), deferred():  # noqa: PT012
        assert not stop_requested()
        os.kill(os.getpid(), number)
        assert stop_requested()
        assert isinstance(stop_error(), kind)
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


def test_without_insistence_it_always_waits() -> None:
    with deferred(insistence=False):
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert isinstance(stop_error(), Terminated)


def test_listening_again() -> None:
    listen()  # outside of a block it changes nothing
    before = signal.getsignal(signal.SIGTERM)
    with deferred():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        listen()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop_requested()
    assert signal.getsignal(signal.SIGTERM) == before
    with deferred():
        assert not stop_requested()  # what came in a block before is forgotten


def test_in_a_thread_nothing_is_deferred() -> None:
    seen = []

    def work() -> None:
        with deferred():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
