"""Micro-batches: requests that wait at the same time are run in one call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Generic, TypeVar

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


class BusyError(Exception):
    """More requests wait than may."""


class Batcher(Generic[Ask, Answer]):
    """Collects requests of one event loop.

    A model that is quicker than a change of threads is run on the loop itself: what arrived in the same turn of the
    loop is together. A slower one runs in a thread of its own, so that others are read meanwhile, for the next.

    Args:
        run: from requests to answers, in their order.
        max_batch: requests that are run together.
        max_wait: seconds that the first of a batch waits for others.
        max_queue: requests that wait.
        inline: whether it runs on the loop.
        watch: is told how many ran, and how many seconds that took.
    """

    def __init__(
        self, run: Callable[[Sequence[Ask]], Sequence[Answer]], *, max_batch: int = 64, max_wait: float = 0.0,
        max_queue: int = 1024, inline: bool = True, watch: Callable[[int, float], None] = lambda _n, _seconds: None,
    ):  # fmt: skip
        self._run, self._watch = run, watch
        self._max_batch, self._max_wait, self._max_queue = max_batch, max_wait, max_queue
        self._queue: deque[tuple[Ask, asyncio.Future[Answer]]] = deque()
        self._timer: asyncio.Handle | None = None
        self._thread = None if inline else ThreadPoolExecutor(1, "recdistill-model")
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._queue)

    async def ask(self, ask: Ask) -> Answer:
        """The answer to one request.

        Raises:
            BusyError: too many wait.
        """
        if len(self._queue) >= self._max_queue:
            raise BusyError
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._queue.append((ask, future))
        if self._max_wait and len(self._queue) == self._max_batch and self._timer is not None:
            self._timer.cancel()
            self._timer = loop.call_soon(self._flush)
        elif self._timer is None and self._task is None:
            later = loop.call_later(self._max_wait, self._flush) if self._max_wait else loop.call_soon(self._flush)
            self._timer = later
        return await future

    def _flush(self) -> None:
        self._timer = None
        if self._thread is None:
            self._finish(*self._timed(self._take()))
            if self._queue and self._timer is None:
                self._timer = asyncio.get_running_loop().call_soon(self._flush)
        elif self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work(self._thread))

    async def _work(self, thread: ThreadPoolExecutor) -> None:
        try:
            while self._queue:
                batch = self._take()
                self._finish(*await asyncio.get_running_loop().run_in_executor(thread, self._timed, batch))
        finally:
            self._task = None

    def _take(self) -> list[tuple[Ask, asyncio.Future[Answer]]]:
        batch: list[tuple[Ask, asyncio.Future[Answer]]] = []
        while self._queue and len(batch) < self._max_batch:
            ask, future = self._queue.popleft()
            if not future.done():  # whoever asked is gone
                batch.append((ask, future))
        return batch

    def _timed(
        self, batch: list[tuple[Ask, asyncio.Future[Answer]]]
    ) -> tuple[list[tuple[Ask, asyncio.Future[Answer]]], Sequence[Answer] | Exception, float]:
        started = perf_counter()
        if not batch:
            return batch, [], 0.0
        try:
            answers: Sequence[Answer] | Exception = self._run([ask for ask, _ in batch])
        except Exception as error:
            answers = error
        return batch, answers, perf_counter() - started

    def _finish(
        self, batch: list[tuple[Ask, asyncio.Future[Answer]]], answers: Sequence[Answer] | Exception, seconds: float
    ) -> None:
        if batch:
            self._watch(len(batch), seconds)
        for at, (_, future) in enumerate(batch):
            if future.done():
                continue
            if isinstance(answers, Exception):
                future.set_exception(answers)
            else:
                future.set_result(answers[at])
