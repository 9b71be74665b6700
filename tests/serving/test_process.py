"""S10 and S12: a real server on a loopback port: sockets that misbehave, how it starts, stops and swaps."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from serving_kit import Client, Server, answer_of, make_bundle, offline

Start = Callable[..., Server]
ASK = {"user": "1", "k": 5}


@pytest.fixture
def start() -> Iterator[Start]:
    made: list[Server] = []

    def begin(*words: str | Path, **more: Any) -> Server:
        made.append(Server(*words, **more))
        return made[-1]

    yield begin
    for server in made:
        server.process.kill()
        server.process.communicate()


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path]) -> Iterator[Server]:
    words = ("serve.request_seconds=2", "serve.max_connections=600", "serve.max_body_kb=64",
             "serve.idle_seconds=1")  # fmt: skip
    one = Server(f"mf={bundles['mf']}", f"clicks={bundles['clicks']}", *words)
    yield one
    one.process.kill()
    one.process.communicate()


def test_it_answers_as_offline_and_never_imports_torch(server: Server, bundles: dict[str, Path]) -> None:
    for user, items in offline(bundles["mf"], "ranking", 10).items():
        status, said = server.ask("/v1/recommend", {"user": user})
        assert status == 200
        assert [item["item"] for item in said["items"]] == items
    maps = Path(f"/proc/{server.process.pid}/maps")
    if maps.is_file():
        assert "onnxruntime" in maps.read_text()
        assert "/torch/" not in maps.read_text()
        assert server.memory() < 250 * 2**20


def test_what_is_imported() -> None:
    """Nothing of training, and nothing heavy beside what serves."""
    code = (
        "import sys, recdistill.serving.server, recdistill.serving.app, recdistill.serving.protocol, "
        "recdistill.serving.shelf, recdistill.serving.guard, polars, onnxruntime;"
        "bad = {'torch', 'pytorch_lightning', 'hydra', 'omegaconf', 'wandb', 'scipy', 'pandas'} & set(sys.modules);"
        "parts = {m.split('.')[1] for m in sys.modules if m.startswith('recdistill.')};"
        "assert not bad, bad; assert parts <= {'serving', 'export', 'runs', 'errors', 'config'}, parts"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr


def test_bytes_that_are_no_request(server: Server) -> None:
    for raw in (b"\r\n\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00" * 20, b"GET / HTTP/9.9\r\n\r\n",
                b"\x00" * 4096, b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: x\r\n\r\n",
                b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 40_000 + b"\r\n\r\n",
                b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000 + b"\r\n"):  # fmt: skip
        status, said = server.ask("", raw=raw)
        assert 400 <= status < 500, raw[:40]
        assert said["error"]["what"]


def test_ten_megabytes_are_refused_and_heard(server: Server) -> None:
    for length in (2**16 + 1, 10 * 2**20):
        body = b'{"user": "' + b"x" * length
        head = f"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        chunked = b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        parts = b"".join(b"10000\r\n" + b"x" * 65536 + b"\r\n" for _ in range(length // 65536)) + b"0\r\n\r\n"
        assert server.ask("", raw=head + body)[0] == 413
        assert server.ask("", raw=chunked + parts)[0] == (413 if length > 2**17 else 422)
    assert server.memory() < 250 * 2**20


def p99(server: Server, n: int = 400) -> float:
    """Seconds; the 99th percentile of requests on one connection."""
    body = json.dumps(ASK).encode()
    head = f"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    times = []
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as opened:
        for _ in range(n):
            began = time.perf_counter()
            opened.sendall(head + body)
            received = opened.recv(65536)
            assert received.startswith(b"HTTP/1.1 200")
            while not received.endswith(b"]}"):
                received += opened.recv(65536)
            times.append(time.perf_counter() - began)
    return sorted(times)[int(0.99 * n)]


def test_slow_sockets_slow_nobody_else(server: Server) -> None:
    """500 that send a byte now and then: others are answered as before, and those are closed in their time."""
    alone = min(p99(server) for _ in range(3))
    slow = []
    for n in range(500):
        one = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        body = b"Content-Length: 90\r\n\r\n{" if n % 2 else b""
        one.sendall(b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\n" + body)
        slow.append(one)
    for one in slow[::5]:
        one.sendall(b" ")
    beside = min(p99(server) for _ in range(3))
    assert beside <= 2 * alone + 0.002, (alone, beside)
    time.sleep(3)
    closed = [answer_of(one) for one in slow]
    assert {status for status, _ in closed} == {408}
    assert server.ask("/healthz")[0] == 200


def test_too_many_connections(server: Server) -> None:
    """Beyond the cap those that wait longest make room, so that who really asks is answered."""
    idle = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(650)]
    assert server.ask("/v1/recommend", ASK)[0] == 200
    status, _ = answer_of(idle[0])
    assert status == 503
    for one in idle:
        one.close()


def test_requests_in_one_packet_and_in_pieces(server: Server) -> None:
    body = json.dumps(ASK).encode()
    one = f"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    last = one.replace(b"Host:", b"Connection: close\r\nHost:")
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as opened:
        opened.sendall(one * 3 + last)
        received = b""
        while part := opened.recv(65536):
            received += part
    assert received.count(b"HTTP/1.1 200") == 4
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as opened:
        for at in range(0, len(last), 17):
            opened.sendall(last[at : at + 17])
            time.sleep(0.002)
        assert answer_of(opened)[0] == 200


def test_sigterm_finishes_what_was_asked(bundles: dict[str, Path], start: Start) -> None:
    """The batch that waits when the signal comes is run; the port takes nobody new; the exit code is 0."""
    server = start(bundles["mf"], "serve.max_wait_ms=800")
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(server.ask, "/v1/recommend", ASK) for _ in range(8)]
        time.sleep(0.4)
        code, said = server.stop()
        answers = [one.result() for one in asked]
    assert [status for status, _ in answers] == [200] * 8
    assert code == 0, said
    assert "Traceback" not in said
    with pytest.raises(OSError, match=r"."):
        socket.create_connection(("127.0.0.1", server.port), timeout=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_with_slow_sockets_open(number: int, bundles: dict[str, Path], start: Start) -> None:
    server = start(bundles["mf"], "serve.drain_seconds=1")
    with (
        socket.create_connection(("127.0.0.1", server.port)) as slow,
        socket.create_connection(("127.0.0.1", server.port)) as half,
    ):
        slow.sendall(b"GET / HT")
        half.sendall(b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90\r\n\r\n{")
        time.sleep(0.2)
        code, said = server.stop(number, timeout=6)
    assert code == 0, said
    assert "Traceback" not in said


def replaced(folder: Path, by: Path) -> None:
    """As an export does it: made beside, then renamed."""
    shutil.copytree(by, folder.with_name("new"))
    folder.rename(folder.with_name("old"))
    folder.with_name("new").rename(folder)
    shutil.rmtree(folder.with_name("old"))


def test_a_bundle_is_swapped_whole(tmp_path: Path, bundles: dict[str, Path], start: Start) -> None:
    """While requests come: each is answered by the old model or by the new one, none by neither."""
    other = make_bundle(tmp_path / "other", "ranking", "mf_tiny", seed=5)
    old, new = (offline(bundle, "ranking", 5)["1"] for bundle in (bundles["mf"], other))
    assert old != new
    folder = tmp_path / "run" / "export"
    shutil.copytree(bundles["mf"], folder)
    server = start(folder, "serve.reload_seconds=0.2")
    found: list[list[str]] = []

    def load() -> None:
        end = time.time() + 2.5
        while time.time() < end:
            status, said = server.ask("/v1/recommend", ASK)
            assert status == 200, said
            found.append([item["item"] for item in said["items"]])

    with ThreadPoolExecutor(2) as pool:
        clients = [pool.submit(load) for _ in range(2)]
        time.sleep(0.5)
        replaced(folder, other)
        for client in clients:
            client.result()
    assert found[0] == old
    assert found[-1] == new
    assert all(one in (old, new) for one in found)
    assert 'result="swapped"} 1' in server.ask("/metrics")[1]


def test_a_broken_bundle_is_not_swapped_in(tmp_path: Path, bundles: dict[str, Path], start: Start) -> None:
    """What is damaged is refused, with its reason, once; SIGHUP looks again; a link may be what moves."""
    link, good, bad = tmp_path / "current", tmp_path / "good", tmp_path / "bad"
    shutil.copytree(bundles["mf"], good)
    shutil.copytree(bundles["int8"], bad)
    content = bytearray((bad / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bad / "model.onnx").write_bytes(bytes(content))
    link.symlink_to(good)
    server = start(link, "serve.reload_seconds=0.1")
    before = server.ask("/v1/recommend", ASK)[1]["items"]

    def point(to: Path) -> None:
        (tmp_path / "next").symlink_to(to)
        (tmp_path / "next").rename(link)

    point(bad)
    time.sleep(1)
    assert server.ask("/readyz")[0] == 200
    assert server.ask("/v1/recommend", ASK)[1]["items"] == before
    assert 'result="refused"} 1' in server.ask("/metrics")[1]
    server.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert 'result="refused"} 2' in server.ask("/metrics")[1]
    point(bundles["int8"])
    deadline = time.time() + 10
    while time.time() < deadline and 'result="swapped"} 1' not in server.ask("/metrics")[1]:
        time.sleep(0.1)
    assert server.ask("/v1/recommend", ASK)[1]["items"] != before
    code, said = server.stop()
    assert code == 0
    assert "model.onnx is not the file that was exported" in said


def test_ready_only_when_warm(bundles: dict[str, Path], serving: Callable[..., Client]) -> None:
    cold = serving(bundles["mf"], loaded=False)
    assert cold.get("/healthz")[0] == 200
    for answer in (cold.get("/readyz"), cold.post("/v1/recommend", ASK), cold.get("/v1/items")):
        assert answer[0] == 503
        assert "not loaded yet" in answer[1]["error"]["what"]
    assert cold.get("/v1/models") == (200, {"models": []})
    cold.run(cold.shelf.open_all())
    assert cold.get("/readyz") == (200, {"status": "ready", "models": [cold.shelf.models[0].name]})
    assert cold.post("/v1/recommend", ASK)[0] == 200


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["{mf}", "serve.host=0.0.0.0"], 2, "needs a token"), (["nowhere"], 2, "there is no bundle"),
        ([], 2, "needs RUN"), (["{mf}", "--cfg", "job"], 2, "takes no --cfg"),
        (["{bundle}"], 2, "export=[bundle,onnx]"), (["{onnx}"], 2, "export=[bundle,onnx]"),
        (["{mf}", "serve.port=1x"], 2, "serve.port"), (["{mf}", "serve.prot=1"], 2, "did you mean serve.port"),
        (["{mf}", "{mf}"], 2, "name them"), (["{mf}", "serve.host=203.0.113.7", "TOKEN"], 4, "listened on"),
        (["{mf}", "student=mf"], 2, "no bundle in mf"),
        (["{mf}", "port=9000"], 2, "serve.port=9000"), (["{mf}", "-m"], 2, "takes no -m"),
    ],
)  # fmt: skip
def test_what_can_not_start(words: list[str], code: int, said: str, bundles: dict[str, Path], tmp_path: Path) -> None:
    folders = {"mf": bundles["mf"]}
    for name in ("bundle", "onnx"):
        if f"{{{name}}}" in words:
            folders[name] = make_bundle(tmp_path / name, "ranking", "mf_tiny", formats=(name,))
    given = [word.format(**folders) for word in words if word != "TOKEN"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "RECDISTILL_TOKEN": ""}
    if "TOKEN" in words:
        environment["RECDISTILL_TOKEN"] = "x" * 32
    done = subprocess.run([sys.executable, "-m", "recdistill", "serve", *given], capture_output=True, text=True,
                          check=False, env=environment, timeout=60)  # fmt: skip
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken(server: Server, bundles: dict[str, Path]) -> None:
    words = ["serve", str(bundles["mf"]), f"serve.port={server.port}"]
    done = subprocess.run(
        [sys.executable, "-m", "recdistill", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ},
    )
    assert done.returncode == 4
    assert "serve.port=" in done.stderr
