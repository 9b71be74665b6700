"""S10: who may ask, and how much; without a socket. Sockets: test_process.py."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from serving_kit import Client

from recdistill.errors import InputError
from recdistill.serving.settings import settings_of, token_of

TOKEN = "a-token-of-some-length-0123"
OPEN = ("/", "/docs", "/openapi.json", "/healthz", "/readyz")
CLOSED = ("/v1/models", "/v1/items", "/metrics", "/v1/history?user=1")


@pytest.fixture
def locked(bundles: dict[str, Path], serving: Callable[..., Client]) -> Client:
    return serving(bundles["mf"], "serve.max_body_kb=2", token=TOKEN)


def test_a_token_is_wanted(locked: Client) -> None:
    for path in CLOSED:
        for shown in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}, {"authorization": "Basic x"},
                      {"authorization": f"Bearer {TOKEN}x"}, {"authorization": "Bearer \xe9"}):  # fmt: skip
            status, said = locked.get(path, **shown)
            assert status == 401
            assert TOKEN not in str(said)
        assert locked.get(path, authorization=f"Bearer {TOKEN}")[0] == 200
    assert locked.post("/v1/recommend", {"user": "1"})[0] == 401
    assert locked.post("/v1/recommend", {"user": "1"}, authorization=f"bearer  {TOKEN}")[0] == 200
    for path in OPEN:
        assert locked.get(path)[0] == 200


def test_a_body_may_be_so_large(locked: Client) -> None:
    head = {"authorization": f"Bearer {TOKEN}"}
    fits = b'{"user": "1"' + b" " * 2000 + b"}"
    assert locked.run(locked.ask("POST", "/v1/recommend", fits, head))[0] == 200
    assert locked.run(locked.ask("POST", "/v1/recommend", fits, {**head, "transfer_encoding": "chunked"}, 3))[0] == 200
    for size in (2049, 10 * 2**20):
        body = b'{"user": "' + b"x" * size + b'"}'
        for more in ({}, {"transfer_encoding": "chunked"}, {"content-length": "1"}, {"content-length": "-1"},
                     {"content-length": "x"}):  # fmt: skip
            status, said = locked.run(locked.ask("POST", "/v1/recommend", body, {**head, **more}, 40))
            assert status == 413
            assert "2 KB" in said["error"]["what"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "", "127.0.0.1.nip.io"])
def test_a_page_of_the_web_can_not_read_it(host: str, client: Client) -> None:
    """A name that someone has pointed at this machine is refused, as long as no token keeps others out."""
    status, said = client.get("/v1/models", host=host)
    assert (status, said["error"]["where"]) == (403, "Host")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:8080", "[::1]", "LOCALHOST:80"])
def test_this_machine_can(host: str, client: Client) -> None:
    assert client.get("/v1/models", host=host)[0] == 200


def test_other_names_with_a_token(locked: Client) -> None:
    assert locked.get("/v1/models", host="recs.example", authorization=f"Bearer {TOKEN}")[0] == 200


def test_nothing_but_loopback_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECDISTILL_TOKEN", raising=False)
    for host in ("127.0.0.1", "localhost", "::1", "127.8.9.1"):
        assert token_of(settings_of([f"serve.host={host}"])) is None
    for host in ("0.0.0.0", "::", "192.168.1.4", "recs.example", "1270.0.0.1"):
        with pytest.raises(InputError, match="needs a token"):
            token_of(settings_of([f"serve.host={host}"]))
    monkeypatch.setenv("MINE", TOKEN)
    assert token_of(settings_of(["serve.host=0.0.0.0", "serve.token=MINE"])) == TOKEN
    for short in ("short", "with a space in between", "über" * 8):
        monkeypatch.setenv("MINE", short)
        with pytest.raises(InputError, match="must have 16") as caught:
            token_of(settings_of(["serve.token=MINE"]))
        assert short not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("serve.prot=1", "did you mean serve.port"), ("serve.port=x", "serve.port"), ("serve.port=70000", "65535"),
        ("serve.max_batch=0", "greater"), ("serve.fallback=best", "popular"), ("student=mf", "has no key student"),
        ("serve.log=trace", "debug"), ("serve.request_seconds=nan", "greater"),
    ],
)  # fmt: skip
def test_settings_are_checked(word: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        settings_of([word])


def test_a_line_for_each_request_and_no_token_in_it(
    locked: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("recdistill.serving")
    # Whatever other tests of the process made of the loggers, such as a run whose config sets them up.
    for name, value in (("disabled", False), ("propagate", False), ("handlers", [caplog.handler])):
        monkeypatch.setattr(logger, name, value)
    with caplog.at_level(logging.DEBUG, "recdistill.serving"):
        locked.get(f"/v1/items?token={TOKEN}", authorization=f"Bearer {TOKEN}")
        locked.get(f"/{TOKEN}", authorization=f"Bearer {TOKEN}")
    assert len(caplog.messages) == 2
    assert '"path": "/v1/items"' in caplog.messages[0]
    assert '"status": 200' in caplog.messages[0]
    assert TOKEN not in caplog.text


def test_metrics_are_of_the_format(client: Client) -> None:
    for _ in range(3):
        client.post("/v1/recommend", {"user": "1"})
    client.get("/v1/unknown/path")
    status, text = client.get("/metrics")
    assert status == 200
    line = re.compile(r'^[a-z_]+(\{[a-z]+="[^"\n]*"(,[a-z]+="[^"\n]*")*\})? [0-9.e+-]+$')
    for one in text.strip().split("\n"):
        assert one.startswith(("# HELP ", "# TYPE ")) or line.match(one), one
    found = dict(one.rsplit(" ", 1) for one in text.strip().split("\n") if not one.startswith("#"))
    assert float(found['recdistill_requests_total{path="/v1/recommend",status="200"}']) >= 3
    assert 'recdistill_requests_total{path="other",status="404"}' in found
    assert found['recdistill_request_seconds_bucket{path="/v1/recommend",le="+Inf"}'] == found[
        'recdistill_request_seconds_count{path="/v1/recommend"}']  # fmt: skip
    assert float(found["process_resident_memory_bytes"]) > 2**20
    assert "unknown/path" not in text


def test_pages_carry_nothing_from_elsewhere(client: Client) -> None:
    for path in ("/", "/docs"):
        _, page = client.get(path)
        assert page.startswith("<!doctype html>")
        assert not re.search(r'(src|href)="(https?:)?//', page)
        assert "innerHTML" not in page
    described = client.get("/openapi.json")[1]["paths"]
    assert {"/v1/recommend", "/v1/similar", "/v1/score", "/healthz", "/readyz", "/metrics"} <= set(described)
    schema = described["/v1/recommend"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["k"]["maximum"] == 1000
