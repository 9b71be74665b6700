"""Connections: how many there may be, and how long each may take."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

BUSY = {"what": "too many connections", "fix": "ask again in a second"}
SLOW = {"what": "the request took too long", "fix": "send it in one go"}
WRONG = {"what": "this is no HTTP request", "fix": "POST JSON with a Content-Length, with fewer headers"}


class Limited(H11Protocol):
    """A connection whose requests end in time. Of too many, those that wait for the rest of a request go first."""

    limit = 1000
    seconds = 10.0
    began: float | None = None  # when the request began that is read or answered; None between requests

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.began = self.loop.time()
        if len(self.connections) > self.limit:
            others: set[Any] = self.connections - {self}
            waiting = [other for other in others if not other.works]
            if waiting:
                min(waiting, key=lambda other: other.began or 0.0).end(503, BUSY)
            else:
                self.end(503, BUSY)

    @property
    def works(self) -> bool:
        """Whether a request is whole and not yet answered."""
        return self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self.began is None:
            self.began = self.loop.time()
        super().data_received(data)

    def on_response_complete(self) -> None:
        self.began = None
        super().on_response_complete()
        if not self.cycle.response_complete:  # the next one had been sent already
            self.began = self.loop.time()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        self.end(400, WRONG)

    def check(self, now: float) -> None:
        """Ends a request that takes too long."""
        if self.began is not None and now - self.began > self.seconds:
            self.end(408, SLOW)

    def end(self, status: int, said: dict[str, str]) -> None:
        """Closes the connection, with a word to who has not been answered at all."""
        answered = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        if self.transport.is_closing() or answered:
            self.transport.abort()
            return
        body = json.dumps({"error": said}).encode()
        head = f"HTTP/1.1 {status} \r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        self.transport.close()


def limited(limit: int, seconds: float) -> type[Limited]:
    """The protocol with these limits."""
    return type("Limited", (Limited,), {"limit": limit, "seconds": seconds})


async def sweep(connections: set[Any], every: float = 0.5) -> None:
    """Ends what takes too long, for ever."""
    while True:
        await asyncio.sleep(every)
        now = asyncio.get_running_loop().time()
        for connection in list(connections):
            connection.check(now)
