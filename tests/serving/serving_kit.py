"""Small bundles, an application that is asked without a socket, and a server in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
import torch
from answers_kit import data_of, task_of, walks
from contract_kit import node

from recdistill.data.csr import Csr
from recdistill.evaluation.ranking import recommend
from recdistill.export.bundle import load_model, save_model
from recdistill.export.packing import Codec
from recdistill.models.base import ClosedFormModel
from recdistill.models.build import build
from recdistill.serving.app import PATHS, make_app
from recdistill.serving.guard import Guard
from recdistill.serving.metrics import Metrics
from recdistill.serving.served import places_of
from recdistill.serving.settings import PREFIX, settings_of
from recdistill.serving.shelf import Shelf
from recdistill.stages.export import export

MODELS: dict[str, tuple[Any, ...]] = {
    "mf": ("ranking", "mf_tiny"), "int8": ("ranking", "mf_tiny", 8), "ease": ("ranking", "ease"),
    "next": ("sequence", "sasrec_tiny"), "clicks": ("ctr", "dcnv2_tiny"), "bags": ("ctr", "din"),
    "digits": ("classification", "mlp_tiny"),
}  # fmt: skip
K = 12
FORMATS = {
    "bundle": {"_target_": "recdistill.export.folder.Bundle"},
    "onnx": {"_target_": "recdistill.export.onnx.Onnx", "form": "graph", "k": K},
}
T = TypeVar("T")


@cache
def titled() -> Any:
    """The walks, whose items have titles; one of them is no friend of HTML, JSON or ASCII."""
    n = len(walks().items)
    titles = [f"Film {n - number}" for number in range(n)]
    titles[3] = '<img src=x onerror="document.title=1"> & "Æon" \\ 🎬'
    return replace(walks(), titles=np.array(titles, dtype=object))


def data(task: str) -> Any:
    return titled() if task in ("ranking", "sequence") else data_of(task)


def make_bundle(folder: Path, task: str, option: str, bits: int | None = None, *, seed: int = 0,
                formats: tuple[str, ...] = ("bundle", "onnx"), histories: bool = True) -> Path:  # fmt: skip
    """An untrained model, whose numbers differ from each other, as a bundle with a graph; its folder."""
    torch.manual_seed(seed)
    model = build(node("model", option), task_of(task).schema(data(task)))
    model.bind(data(task).train)
    if isinstance(model, ClosedFormModel):
        model.fit(data(task).train)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    codecs = {name: Codec(bits) for name, part in model.state_dict().items() if bits and part.dim() > 1}  # type: ignore[arg-type]
    save_model(folder / "model", model.eval(), node("model", option), codecs=codecs, data=data(task).fingerprint)
    nodes = {name: dict(FORMATS[name]) for name in formats}
    if "bundle" in nodes:
        nodes["bundle"]["histories"] = histories
    export({"export": nodes}, task_of(task), data(task), folder / "model", folder, None)
    return folder / "export"


def offline(bundle: Path, task: str, k: int) -> dict[str, list[str]]:
    """What ``recdistill recommend`` writes: user to items."""
    whole = data(task)
    users = torch.arange(whole.train.n_users)
    known_user, known_item = whole.seen("test").rows(users)
    kept = known_item < whole.train.n_items
    known = Csr.from_pairs(known_user[kept], known_item[kept], len(users))
    model = load_model(bundle.parent / "model", whole.train)
    items, _ = recommend(task_of(task).scorer(model, whole), users, known, k)
    return {str(whole.users[u]): [str(whole.items[i]) for i in row if i >= 0] for u, row in enumerate(items.tolist())}


class Client:
    """Asks the application, by ASGI, in a loop of its own.

    Args:
        words: bundles and settings, as ``recdistill serve`` takes them.
        token: that the service wants.
        loaded: whether its models are open.
    """

    def __init__(self, words: list[str], token: str | None = None, loaded: bool = True):
        self.settings = settings_of([word for word in words if word.startswith(PREFIX)])
        self.metrics, self._loaded = Metrics(), loaded
        self.loop = asyncio.new_event_loop()
        places = places_of([word for word in words if not word.startswith(PREFIX)])
        self.shelf = Shelf(places, self.settings, self.metrics)
        self.app = Guard(make_app(self.shelf, self.settings, self.metrics), self.settings, token, self.metrics, PATHS)

    def __enter__(self) -> Client:
        if self._loaded:
            self.run(self.shelf.open_all())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()

    def run(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(work)

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        return self.run(self.ask("GET", path, b"", headers))

    def post(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.run(self.ask("POST", path, content, headers))

    async def ask(
        self, method: str, path: str, body: bytes, headers: dict[str, str] | None = None, chunks: int = 1
    ) -> tuple[int, Any]:
        """Status and answer; parsed where it is JSON."""
        url = urlsplit(path)
        named = {"host": "localhost:8080", "content-length": str(len(body)), **(headers or {})}
        if named.get("transfer_encoding"):
            del named["content-length"]
        scope = {
            "type": "http", "method": method, "path": url.path, "raw_path": url.path.encode(), "root_path": "",
            "query_string": url.query.encode(), "scheme": "http", "http_version": "1.1", "asgi": {"version": "3.0"},
            "headers": [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in named.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8080), "state": {},
        }  # fmt: skip
        size = -(-len(body) // chunks) or 1
        parts = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            if not parts:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        answer = b"".join(message.get("body", b"") for message in sent[1:])
        kind = dict(sent[0]["headers"]).get(b"content-type", b"")
        return sent[0]["status"], json.loads(answer) if kind == b"application/json" else answer.decode()


class Server:
    """``recdistill serve`` in a process of its own, on a free port."""

    def __init__(self, *words: str | Path, ready: bool = True, **environment: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "recdistill", "serve", *map(str, words), "serve.port=0"], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        )  # fmt: skip
        self.said = self.until("to try it")
        found = re.search(r"http://\S+?:(\d+)/", self.said)
        self.port = int(found[1]) if found else 0
        if ready:
            self.said += self.until("ready:")

    def until(self, word: str) -> str:
        """What it prints, to the line with the word."""
        assert self.process.stdout is not None
        said = ""
        for line in self.process.stdout:
            said += line
            if word in line:
                return said
        assert self.process.stderr is not None
        raise AssertionError(said + self.process.stderr.read())

    def ask(self, path: str, body: Any = None, *, raw: bytes | None = None, timeout: float = 20) -> tuple[int, Any]:
        """One request on a connection of its own."""
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as opened:
            opened.sendall(raw or f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            return answer_of(opened)

    def memory(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self, number: int = signal.SIGTERM, timeout: float = 20) -> tuple[int, str]:
        """Exit code, and what it said on its way."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            raise AssertionError(f"it did not stop: {out} {err}") from None
        return self.process.returncode, out + err


def answer_of(opened: socket.socket) -> tuple[int, Any]:
    """Status and JSON, or text, of an answer whose connection is closed at its end."""
    received = b""
    while part := opened.recv(65536):
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    return status, json.loads(body) if b"application/json" in head.lower() else body.decode()
