"""S11: whatever is sent, the answer is JSON and names what was wrong; never a 5xx, never a stack trace."""

from __future__ import annotations

import gc
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_kit import Client

POSTS = ("/v1/recommend", "/v1/similar", "/v1/score")


def refused(answer: tuple[int, Any]) -> dict[str, Any]:
    """The error of an answer that is one."""
    status, said = answer
    assert 400 <= status < 500, answer
    assert said["error"]["what"]
    assert "Traceback" not in str(said)
    error: dict[str, Any] = said["error"]
    return error


@pytest.mark.parametrize("k", [0, -1, 1e9, 10**9, "10", True, None, 2**63, 10.0, [], {}, 1e400])
@pytest.mark.parametrize("path", POSTS[:2])
def test_k(k: Any, path: str, client: Client) -> None:
    body = {"user": "1", "k": k} if path.endswith("recommend") else {"item": "1", "k": k}
    assert "k" in refused(client.post(path, body))["where"]


@pytest.mark.parametrize("one", [-1, 2**63, 1.5, True, {}, [], ["1"], float("nan"), "x" * 513])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/recommend", lambda one: {"user": one}), ("/v1/similar", lambda one: {"item": one}),
        ("/v1/recommend", lambda one: {"model": "next", "history": [one]}),
        ("/v1/recommend", lambda one: {"user": "1", "deny": [one]}),
        ("/v1/recommend", lambda one: {"user": "1", "allow": one if isinstance(one, str) else [one]}),
        ("/v1/recommend", lambda one: {"user": "1", "model": one}),
    ],
)  # fmt: skip
def test_ids(one: Any, path: str, body: Any, client: Client) -> None:
    assert refused(client.post(path, body(one)))


@pytest.mark.parametrize(
    "content",
    [
        b"", b"null", b"[]", b"1", b'"x"', b"{", b"{}", b"\xff\xfe", b'{"user": "\xc3\x28"}', b'{"user": "\\ud800"}',
        b'{"user": NaN}', b'{"user": "1", "k": NaN}', b'{"user": "1", "k": Infinity}', b"[" * 100_000,
        b'{"rows": ' * 5000, b'{"user":' + b"[" * 500 + b"]" * 500 + b"}", b'{"user": "1", "more": 1}',
        b'{"user": "1", "history": ["1"]}', b'{"user": null}', b'{"rows": []}', b'{"rows": [1]}', b'{"rows": {}}',
        b'{"rows": [[]]}', b'{"model": "clicks", "rows": [{"number": NaN}]}', b'{"item": "1", "k": 1, "k": "x"}',
        b'{"model": "clicks", "rows": [{"genre": ' + b"9" * 5000 + b"}]}", b'{"user": "1", "k": ' + b"9" * 5000 + b"}",
        b'{"rows": [' + b"{}," * 1024 + b"{}]}", b'{"history": [' + b'"1",' * 10_000 + b'"1"]}', b"\x00" * 1000,
        b'{"user": "1\\u0000"}', "{\"user\": \"\u202e\U0001f600\"}".encode(), b'{"user": 1e999}',
    ],
)  # fmt: skip
def test_bodies(content: bytes, client: Client) -> None:
    for path in POSTS:
        assert refused(client.post(path, content))


@pytest.mark.parametrize(
    "path",
    [
        "/v1/items?limit=0", "/v1/items?limit=x", "/v1/items?limit=1000000000", "/v1/items?model=none", "/v1/history",
        "/v1/history?user=%ff", "/v1/items?search=" + "x" * 600, "/v1/recommend", "/nothing", "/v1/../../etc/passwd",
        "/v1/items?limit=NaN", "/v1/items?limit=-1", "/v1/history?user=1&limit=1e3", "//", "/metrics/",
    ],
)  # fmt: skip
def test_paths(path: str, client: Client) -> None:
    assert refused(client.get(path))


def test_methods(client: Client) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "post", "\u00e9"):
        status, said = client.run(client.ask(method, "/v1/recommend", b"{}"))
        assert status == 405, method
        assert said["error"]["what"] == "Method Not Allowed"


def test_a_name_that_breaks_nothing(client: Client) -> None:
    """Titles and names go through JSON whole, and are cut in messages."""
    answer = client.post("/v1/recommend", {"user": "<script>\n\x1b[31m" + "x" * 400})
    assert len(refused(answer)["what"]) < 200
    assert "\x1b" not in json.dumps(answer[1], ensure_ascii=False)
    assert client.get("/v1/items?search=onerror")[1]["items"][0]["title"].startswith("<img src=x")


# Anything that a machine makes up.

words = st.one_of(
    st.sampled_from(["user", "history", "item", "rows", "k", "model", "allow", "deny", "exclude_seen", "genre",
                     "number", "tags", "mf", "next", "ease", "clicks", "bags", "int8", "digits", "v1", "1", "5", ""]),
    st.text(max_size=8),
)  # fmt: skip
numbers = st.one_of(st.integers(-(2**70), 2**70), st.floats(), st.sampled_from([0, 1, 5, 12, 13, 10**9]))
leaves = st.one_of(st.none(), st.booleans(), numbers, words)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4), max_leaves=12
)
ids = st.lists(st.sampled_from([*map(str, range(30)), "", "none"]), max_size=30)
k = st.one_of(st.integers(-2, 14), leaves)
ranked = st.sampled_from(["mf", "int8", "ease", "next"])
near = st.one_of(
    st.fixed_dictionaries({"user": words}, optional={"k": k, "model": ranked, "deny": ids, "allow": ids}),
    st.fixed_dictionaries({"history": ids}, optional={"k": k, "model": ranked, "deny": ids, "exclude_seen": leaves}),
    st.fixed_dictionaries({"item": words}, optional={"k": k, "model": ranked, "allow": ids, "deny": anything}),
    st.fixed_dictionaries({"rows": st.lists(st.dictionaries(
        st.sampled_from(["genre", "number", "tags", "user", "item", "history", "image"]), anything), max_size=4)},
        optional={"model": st.sampled_from(["clicks", "bags", "digits"])}),
)  # fmt: skip
bodies = st.one_of(
    near.map(lambda body: json.dumps(body).encode()),
    st.dictionaries(words, anything, max_size=5).map(lambda body: json.dumps(body).encode()),
    anything.map(lambda body: json.dumps(body).encode()),
    st.binary(max_size=64),
    st.tuples(near, st.integers(0, 60), st.binary(min_size=1, max_size=3)).map(lambda part: _broken(*part)),
)
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def _broken(body: Any, at: int, more: bytes) -> bytes:
    text = json.dumps(body).encode()
    return text[:at] + more + text[at + 1 :]


def check(client: Client, path: str, body: bytes) -> None:
    status, said = client.post(path, body)
    assert status == 200 or 400 <= status < 500, (path, body, said)
    assert isinstance(said, dict)
    assert ("error" in said) == (status != 200)
    if status == 200:
        json.dumps(said, allow_nan=False)


@given(path=st.sampled_from(POSTS), body=bodies)
@settings(max_examples=500, deadline=None, suppress_health_check=QUIET)
def test_no_body_breaks_it(path: str, body: bytes, client: Client) -> None:
    check(client, path, body)


@given(path=st.sampled_from(["/v1/items", "/v1/history", "/v1/models", "/", "/readyz"]),
       query=st.dictionaries(words, st.text(max_size=20), max_size=3))  # fmt: skip
@settings(max_examples=200, deadline=None, suppress_health_check=QUIET)
def test_no_query_breaks_it(path: str, query: dict[str, str], client: Client) -> None:
    from urllib.parse import quote

    text = "&".join(f"{quote(key)}={quote(value)}" for key, value in query.items())
    status, _ = client.get(f"{path}?{text}")
    assert status < 500


# Many more, drawn by hand: Hypothesis takes ten times as long for as many.

WORDS = ("user", "history", "item", "rows", "k", "model", "allow", "deny", "exclude_seen", "genre", "number", "tags",
         "mf", "next", "ease", "clicks", "bags", "digits", "v1", "1", "5", "", "\ud800", "Æ", "\x00")  # fmt: skip
NUMBERS = (0, 1, -1, 5, 12, 13, 10**9, 2**63, -(2**63), 2**70, 0.5, 1e29, 1e300, float("nan"), float("inf"), -0.0)
KEYS = ("user", "history", "item", "rows", "k", "model", "allow", "deny", "exclude_seen")


def made_up(rng: random.Random, depth: int = 3) -> Any:
    """Anything that JSON can say."""
    kind = rng.randrange(7 if depth else 5)
    if kind == 5:
        return [made_up(rng, depth - 1) for _ in range(rng.randrange(5))]
    if kind == 6:
        return {rng.choice(WORDS): made_up(rng, depth - 1) for _ in range(rng.randrange(4))}
    return (None, rng.random() < 0.5, rng.choice(NUMBERS), rng.choice(WORDS), str(rng.randrange(30)))[kind]


def drawn(rng: random.Random) -> bytes:
    """A body: right, nearly right, anything, or with a few bytes changed."""
    ids = [str(rng.randrange(28)) for _ in range(rng.randrange(30))]
    right: list[dict[str, Any]] = [
        {"user": str(rng.randrange(95)), "k": rng.randrange(14)}, {"model": "next", "history": ids, "deny": ids[:3]},
        {"model": "ease", "history": ids, "allow": ids}, {"item": str(rng.randrange(26)), "model": "int8"},
        {"model": rng.choice(("clicks", "bags")), "rows": [
            {"genre": "v1", "number": rng.gauss(0, 1), "tags": ["v1", "v2"], "history": ids} for _ in ids]},
    ]  # fmt: skip
    body = rng.choice(right)
    for _ in range(rng.randrange(3)):
        body[rng.choice(KEYS)] = made_up(rng)
    if body.get("rows") and isinstance(body["rows"], list) and rng.random() < 0.5:
        body["rows"][0] = {rng.choice(WORDS): made_up(rng) for _ in range(3)}
    content = bytearray(json.dumps(made_up(rng) if rng.random() < 0.1 else body).encode())
    for _ in range(rng.choice((0, 0, 0, 1, 3))):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content[: rng.randrange(len(content)) if rng.random() < 0.05 else len(content)])


def test_ten_thousand_requests_and_no_more_memory(client: Client) -> None:
    """No 5xx, and what the process holds does not grow with them."""
    rng = random.Random(7)
    held: list[int] = []
    for _ in range(5):
        for _ in range(2000):
            body = drawn(rng)
            path = POSTS[2] if b'"rows"' in body else POSTS[1] if b'"item"' in body else POSTS[0]
            check(client, path if rng.random() < 0.8 else rng.choice(POSTS), body)
        gc.collect()
        held.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    answered = {status: n for (path, status), n in client.metrics._requests.items() if path == "/v1/recommend"}
    assert answered[200] > 500
    assert sum(n for (_, status), n in client.metrics._requests.items() if status >= 500) == 0
    assert held[-1] - held[1] < 20 * 2**20, held
