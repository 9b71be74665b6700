"""What stands before the application: limits, the token, counts, and a line of log for each request."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from recdistill.serving.metrics import Metrics
from recdistill.serving.settings import Settings

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("recdistill.serving")
OPEN = frozenset({"/", "/docs", "/openapi.json", "/healthz", "/readyz"})  # what is the same for everybody
DISCARDED = 2**26  # bytes of too large a body that are read and thrown away, so that who sends it hears the answer
LOCAL = ("localhost", "127.0.0.1", "[::1]")


class Guard:
    """An ASGI application around another.

    Args:
        app: what answers.
        settings: of the service.
        token: that requests must show; None for none.
        metrics: is told of each request.
        paths: that are counted by their name; others together.
    """

    def __init__(self, app: App, settings: Settings, token: str | None, metrics: Metrics, paths: Iterable[str]):
        self._app, self._metrics, self._paths = app, metrics, frozenset(paths)
        self._max_body, self._max_head = settings.max_body_kb * 1024, settings.max_header_kb * 1024
        self._token = None if token is None else _digest(token.encode())
        self._local = settings.loopback and token is None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._guarded(scope, receive, told)
        finally:
            seconds = time.perf_counter() - started
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.request(path, status, seconds)
            if log.isEnabledFor(logging.DEBUG):
                said = {"path": path, "method": str(scope["method"])[:10], "status": status,
                        "ms": round(1000 * seconds, 3), "client": (scope.get("client") or ("",))[0]}  # fmt: skip
                log.debug("%s", json.dumps(said))

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        refused = self._refused(scope, headers)
        if refused is not None:
            await answer(send, *refused)
            return
        if scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        body = await self._body(headers, receive)
        if body is None:
            await self._too_large(receive, send)
            return
        given = False

        async def whole() -> Message:
            nonlocal given
            if given:
                return {"type": "http.disconnect"}
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, whole, send)

    def _refused(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, dict[str, str], dict[str, str]] | None:
        """Status, words and headers for who may not ask."""
        size = len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(a) + len(b) for a, b in scope["headers"])
        if size > self._max_head:  # the parser counts what comes in parts alone
            return 431, {"what": f"the head has more than {self._max_head // 1024} KB"}, {"connection": "close"}
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if self._local and name not in LOCAL:
            # A page of the web that has its name point here must not read what only this machine may.
            return 403, {"what": "this service answers to localhost alone", "where": "Host",
                         "fix": "ask http://localhost, or set a token"}, {}  # fmt: skip
        if self._token is None or scope["path"] in OPEN:
            return None
        scheme, _, shown = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(_digest(shown.strip()), self._token):
            return None
        return (
            401,
            {"what": "a token is needed", "where": "Authorization", "fix": "Authorization: Bearer TOKEN"},
            {"www-authenticate": "Bearer"},
        )

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """All of it; None where it is too large."""
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._max_body:
            return None
        message = await receive()
        if not message.get("more_body"):
            found = bytes(message.get("body", b""))
            return found if len(found) <= self._max_body else None
        parts, size = [message.get("body", b"")], len(message.get("body", b""))
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._max_body:
                return None
        return b"".join(parts)

    async def _too_large(self, receive: Receive, send: Send) -> None:
        """Answers at once, and hears out who still sends: otherwise the answer is lost with the connection."""
        said = {"what": f"the body has more than {self._max_body // 1024} KB", "fix": "send less, or serve.max_body_kb"}
        body = json.dumps({"error": said}).encode()
        await send(_start(413, body, {"connection": "close"}))
        await send({"type": "http.response.body", "body": body, "more_body": True})
        left = DISCARDED
        while left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                break
        await send({"type": "http.response.body", "body": b""})


async def answer(send: Send, status: int, said: dict[str, str], headers: dict[str, str]) -> None:
    """An error in JSON."""
    body = json.dumps({"error": said}).encode()
    await send(_start(status, body, headers))
    await send({"type": "http.response.body", "body": body})


def _start(status: int, body: bytes, headers: dict[str, str]) -> Message:
    pairs = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    return {
        "type": "http.response.start", "status": status,
        "headers": [(name.encode(), value.encode()) for name, value in pairs.items()],
    }  # fmt: skip


def _digest(text: bytes) -> bytes:
    """Of one length, so that comparing tells nothing of it."""
    return hashlib.sha256(text).digest()
