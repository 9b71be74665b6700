"""The page that tries the service, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_kit import Page, browser
from serving_kit import Server, data

pytestmark = pytest.mark.skipif(browser() is None, reason="no chromium or chrome is installed")
TITLES = "[...document.querySelectorAll('section')].map(s => [...s.querySelectorAll('.name')].map(e => e.textContent))"
CARDS = "document.querySelectorAll('section').length"


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path]) -> Iterator[Server]:
    names = ("mf", "int8", "ease", "next", "bags")
    one = Server(*(f"{name}={bundles[name]}" for name in names))
    yield one
    one.stop()


@pytest.fixture
def page(tmp_path: Path, server: Server) -> Iterator[Page]:
    one = Page(tmp_path)
    one.open(f"http://127.0.0.1:{server.port}/")
    one.wait("document.querySelectorAll('#ways input').length")
    yield one
    assert not one.problems
    one.close()


def listed(server: Server, path: str, **body: Any) -> list[str]:
    status, said = server.ask(path, {"k": 10, **body})
    assert status == 200, said
    return [one["title"] for one in said["items"]]


def test_a_user_is_shown_the_lists_of_all_models_side_by_side(page: Page, server: Server, tmp_path: Path) -> None:
    page.wait(f"{CARDS} === 4")
    names = page.run("[...document.querySelectorAll('section h2')].map(e => e.textContent)")
    assert sorted(names) == ["ease", "int8", "mf", "next"]
    page.type("user", "7")
    page.press("Enter", 13)
    page.wait("document.location.search.includes('user=7')")
    for name, titles in zip(names, page.run(TITLES), strict=True):
        assert titles == listed(server, "/v1/recommend", model=name, user="7")
    rows = page.run("[...document.querySelectorAll('section')].map(s => Math.round(s.getBoundingClientRect().top))")
    assert len(set(rows)) == 1, "side by side in a wide window"
    page.wait("document.getElementById('had').textContent.includes('Film')")
    assert page.picture(tmp_path / "page.png")[:4] == b"\x89PNG"


def test_items_are_picked_by_title_with_the_keyboard(page: Page, server: Server) -> None:
    page.run("document.querySelector('[value=history]').click()")
    for words in ("Film 20", "<img"):
        page.type("item", words)
        page.wait("document.querySelectorAll('#found li').length === 1")
        page.press("ArrowDown", 40)
        page.press("Enter", 13)
        page.wait("document.getElementById('found').hidden")
    chips = page.run("[...document.querySelectorAll('.chip')].map(e => e.firstChild.textContent)")
    assert chips == ["Film 20", data("ranking").titles[3]]
    page.run("document.getElementById('form').requestSubmit()")
    page.wait("document.location.search.includes('item=4&item=3')")
    page.wait(f"{CARDS} === 4")  # factor models, too
    names = page.run("[...document.querySelectorAll('section h2')].map(e => e.textContent)")
    for name, titles in zip(names, page.run(TITLES), strict=True):
        assert titles == listed(server, "/v1/recommend", model=name, history=["4", "3"])
    assert page.run("document.title") == "RecDistill: try it", "a title is text, whatever is in it"
    page.run("document.querySelector('.chip button').click()")
    assert page.run("document.querySelectorAll('.chip').length") == 1


def test_similar_items_and_rows(page: Page, server: Server) -> None:
    page.open(f"http://127.0.0.1:{server.port}/?way=similar&item=5&k=4")
    page.wait(f"{CARDS} === 4")
    names = page.run("[...document.querySelectorAll('section h2')].map(e => e.textContent)")
    for name, titles in zip(names, page.run(TITLES), strict=True):
        assert titles == listed(server, "/v1/similar", model=name, item="5", k=4)
    page.run("document.querySelector('[value=row]').click()")
    page.type("f-genre", "v2")
    page.type("f-number", "0.5")
    page.type("f-tags", "v1, v3")
    page.run("document.getElementById('form').requestSubmit()")
    found = float(page.wait("document.querySelector('.big')?.textContent"))
    row = {"genre": "v2", "number": 0.5, "tags": ["v1", "v3"]}
    said = server.ask("/v1/score", {"model": "bags", "rows": [row]})[1]
    assert found == pytest.approx(said["predictions"][0], abs=1e-4)


def test_errors_are_said_in_words(page: Page) -> None:
    page.wait(f"{CARDS} === 4")
    page.type("user", "<b>nobody</b>")
    page.press("Enter", 13)
    page.wait("document.querySelectorAll('section .problem').length === 4")
    assert "there is no user '<b>nobody</b>'" in page.run("document.querySelector('section').textContent")
    page.problems.clear()  # the browser logs every 404


def test_fields_have_labels_and_nothing_is_cut_on_a_phone(tmp_path: Path, server: Server) -> None:
    page = Page(tmp_path, (390, 800))
    page.open(f"http://127.0.0.1:{server.port}/")
    page.wait(f"{CARDS} === 4")
    assert page.run("document.documentElement.scrollWidth") <= 390
    fields = "[...document.querySelectorAll('input, button')]"
    assert page.run(f"{fields}.filter(e => !(e.labels?.length || e.textContent || e.ariaLabel)).map(e => e.id)") == []
    assert page.run("document.documentElement.lang") == "en"
    page.open(f"http://127.0.0.1:{server.port}/docs")
    page.wait("document.body.textContent.includes('POST /v1/recommend')")
    assert page.run("document.documentElement.scrollWidth") <= 390
    assert not page.problems
    page.close()


def test_a_token_is_asked_for(tmp_path: Path, bundles: dict[str, Path]) -> None:
    token = "a-token-of-some-length-0123"
    server = Server(bundles["mf"], RECDISTILL_TOKEN=token)
    page = Page(tmp_path)
    page.open(f"http://127.0.0.1:{server.port}/")
    page.wait("!document.getElementById('tokenbox').hidden")
    page.type("token", token)
    page.press("Enter", 13)
    page.wait(f"{CARDS} === 1")
    assert len(page.run(TITLES)[0]) == 10
    assert token not in page.run("document.location.href")
    page.close()
    server.stop()
