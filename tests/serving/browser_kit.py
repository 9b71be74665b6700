"""A real browser without a window, driven over its own protocol by a few lines of sockets."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
         "--disable-dev-shm-usage", "--disable-background-networking", "--remote-debugging-port=0")  # fmt: skip


def browser() -> str | None:
    """The program, where one is installed."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Page:
    """A page in a browser of its own.

    Args:
        folder: for its profile.
        size: of the window.
    """

    def __init__(self, folder: Path, size: tuple[int, int] = (1280, 800)):
        program = browser()
        assert program is not None
        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env={**os.environ, "HOME": str(folder)},
        )  # fmt: skip
        assert self._process.stderr is not None
        found = next(m for line in self._process.stderr if (m := re.search(r"ws://\S+", line)))
        self._calls, self.problems = 0, []  # type: tuple[int, list[str]]
        self._session = None
        self._socket = _upgraded(found[0])
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False
        )

    def close(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.communicate()

    def call(self, method: str, **parameters: Any) -> Any:
        """One command of the protocol, and its answer."""
        self._calls += 1
        message: dict[str, Any] = {"id": self._calls, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        _send(self._socket, json.dumps(message).encode())
        while True:
            said = json.loads(_receive(self._socket))
            logged = said.get("method") == "Log.entryAdded" and said["params"]["entry"]["level"] in ("error", "warning")
            if logged or said.get("method") == "Runtime.exceptionThrown":
                self.problems.append(json.dumps(said["params"]))
            if said.get("id") == self._calls:
                assert "error" not in said, said
                return said["result"]

    def open(self, url: str) -> None:
        """Goes there, and waits until its scripts have begun."""
        self.call("Page.navigate", url=url)
        self.wait(f"location.href.startsWith({url!r}) && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        said = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def wait(self, script: str, seconds: float = 20) -> Any:
        """Its value, once it is true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := self.run(script):
                return found
            time.sleep(0.05)
        raise AssertionError(f"{script}: {self.run('document.body.innerText')} {self.problems}")

    def type(self, field: str, text: str) -> None:
        """Types into a field as a person does."""
        self.run(f"document.getElementById('{field}').focus()")
        self.run(f"document.getElementById('{field}').select()")
        self.call("Input.insertText", text=text)

    def press(self, key: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            more = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)

    def picture(self, file: Path) -> bytes:
        """A screenshot."""
        content = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        file.write_bytes(content)
        return content


def _upgraded(url: str) -> socket.socket:
    """A web socket."""
    parts = urlsplit(url)
    opened = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30)
    key = base64.b64encode(os.urandom(16)).decode()
    opened.sendall(
        f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += opened.recv(1)
    assert b" 101 " in head, head
    return opened


def _send(opened: socket.socket, payload: bytes) -> None:
    size = len(payload)
    length = bytes([128 | size]) if size < 126 else bytes([254]) + size.to_bytes(2, "big") if size < 65536 else (
        bytes([255]) + size.to_bytes(8, "big"))  # fmt: skip
    opened.sendall(b"\x81" + length + b"\0\0\0\0" + payload)  # a mask of zeros changes nothing


def _receive(opened: socket.socket) -> bytes:
    """A whole message, of one frame or several."""
    whole = b""
    while True:
        first, size = _exactly(opened, 2)
        size &= 127
        if size > 125:
            size = int.from_bytes(_exactly(opened, 2 if size == 126 else 8), "big")
        part = _exactly(opened, size)
        if first & 15 in (0, 1, 2):
            whole += part
            if first & 128:
                return whole


def _exactly(opened: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = opened.recv(size - len(found))
        assert part, "the browser is gone"
        found += part
    return found
