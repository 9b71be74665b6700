"""The process: opens a port, loads models beside it, answers until it is told to stop, and finishes what it began."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from recdistill.errors import EXIT_OK, InputError, ResourceError
from recdistill.serving.ranker import missing_extra
from recdistill.serving.served import Place, places_of
from recdistill.serving.settings import Settings, settings_of, token_of

BACKLOG = 2048
log = logging.getLogger("recdistill.serving")


def serve(folders: Sequence[str], words: Sequence[str]) -> int:
    """``recdistill serve``.

    Args:
        folders: of bundles or runs, with or without ``NAME=``.
        words: such as ``serve.port=8080``.

    Returns:
        The exit code, 0 also after SIGTERM and Ctrl-C, when what was asked has been answered.

    Raises:
        InputError: what is given can't be served.
        ResourceError: the port is taken.
    """
    settings = settings_of(words)
    token = token_of(settings)
    places = places_of(folders)
    _log_to_stderr(settings)
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise missing_extra(error.name or "fastapi") from error
    with _listening(settings) as listener:
        asyncio.run(_run(places, settings, token, listener))
    return EXIT_OK


async def _run(places: Sequence[Place], settings: Settings, token: str | None, listener: socket.socket) -> None:
    """Serves until a signal.

    Raises:
        RecDistillError: a bundle can't be opened.
    """
    import uvicorn

    from recdistill.serving.app import PATHS, make_app
    from recdistill.serving.guard import Guard
    from recdistill.serving.metrics import Metrics
    from recdistill.serving.protocol import limited, sweep
    from recdistill.serving.shelf import Shelf

    counted = Metrics()
    shelf = Shelf(places, settings, counted)
    app: Any = Guard(make_app(shelf, settings, counted), settings, token, counted, PATHS)
    config = uvicorn.Config(
        app, http=limited(settings.max_connections, settings.request_seconds), ws="none", lifespan="off",
        loop="asyncio", log_config=None, log_level="critical", access_log=False, server_header=False,
        proxy_headers=False, h11_max_incomplete_event_size=settings.max_header_kb * 1024,
        timeout_keep_alive=settings.idle_seconds, timeout_graceful_shutdown=settings.drain_seconds,
    )  # fmt: skip
    server = uvicorn.Server(config)
    connections = server.server_state.connections
    counted.gauges["recdistill_connections"] = ("Open connections.", lambda: {(): len(connections)})
    counted.gauges["recdistill_ready"] = ("1 once all models are warm.", lambda: {(): int(shelf.ready)})
    _on_signals(server, shelf)
    print(_where(places, settings, listener), flush=True)
    serving = asyncio.create_task(server._serve([listener]))  # serve() would take the signals over
    beside = [asyncio.create_task(sweep(connections)), asyncio.create_task(shelf.watch())]
    try:
        if await _opened(shelf, serving):
            print("ready: " + ", ".join(served.name for served in shelf.models), flush=True)
        await serving
    finally:
        server.should_exit = True
        for task in beside:
            task.cancel()
        await asyncio.gather(serving, *beside, return_exceptions=True)


async def _opened(shelf: Any, serving: asyncio.Task[None]) -> bool:
    """Opens all models; False when it was told to stop meanwhile."""
    opening = asyncio.create_task(shelf.open_all())
    await asyncio.wait([opening, serving], return_when=asyncio.FIRST_COMPLETED)
    if not opening.done():
        opening.cancel()
        return False
    opening.result()
    return True


def _on_signals(server: Any, shelf: Any) -> None:
    """SIGTERM and Ctrl-C stop, the second Ctrl-C at once; SIGHUP looks for replaced bundles."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        log.info("stopping: open requests are answered, no new ones taken")
        server.force_exit = server.should_exit
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, shelf.look_now)


def _where(places: Sequence[Place], settings: Settings, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    lines = [f"serving {place.name} from {place.folder}" for place in places]
    lines.append(f"http://{shown}:{port}/ to try it, /docs for the API")
    if not settings.loopback:
        lines.append("others can reach it; every request needs the token. TLS is the work of a proxy before it")
    return "\n".join(lines)


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    """The socket.

    Raises:
        InputError: there is no such address here.
        ResourceError: it is taken.
    """
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise InputError(f"there is no address {settings.host}", where="serve.host", why=str(error),
                         fix="serve.host=127.0.0.1") from error  # fmt: skip
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ResourceError(f"{settings.host}:{settings.port} can't be listened on", where="serve.port",
                            why=error.strerror, fix=f"serve.port={settings.port + 1}, or serve.port=0 for any that is"
                            " free") from error  # fmt: skip
    with listener:
        yield listener


def _log_to_stderr(settings: Settings) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    own = logging.getLogger("recdistill.serving")
    own.handlers, own.propagate = [handler], False
    own.setLevel(logging.DEBUG if settings.log == "debug" else logging.INFO)
    errors = logging.getLogger("uvicorn.error")
    errors.handlers, errors.propagate = [handler], False
