"""CiteULike-a: libraries, tags and citations by number of line."""

from __future__ import annotations

from pathlib import Path

import pytest

from recdistill.data.filters import Filters
from recdistill.data.prepare import prepare
from recdistill.data.sources.citeulike import CiteULikeA
from recdistill.data.splits import RandomSplit
from recdistill.errors import InputError

FILES = {
    "users.dat": "2 0 2\n0\n1 1",
    "item-tag.dat": "2 1 0\n0\n1 2\n",
    "citations.dat": "1 2\n0\n2 0 1\n",
    "tags.dat": "ecoli\nmachine|learning\nNA\n",
}


def folder(where: Path, **changes: str) -> Path:
    for name, text in FILES.items():
        (where / name).write_text(changes.get(name.split(".")[0].replace("-", "_"), text))
    return where


def test_lines_are_ids(tmp_path: Path) -> None:
    log = CiteULikeA(str(folder(tmp_path))).read()
    assert log.events.rows() == [("0", "0"), ("0", "2"), ("2", "1")]
    assert log.dropped == {"user without items": 1}
    assert log.items is not None
    assert log.items["item"].to_list() == ["0", "1", "2"]
    assert log.items["tags"].to_list() == [["machine|learning", "ecoli"], None, ["NA"]]
    assert log.items["citations"].to_list() == [["2"], [], ["0", "1"]]
    assert log.facts == {
        "items listed": 3,
        "tags": 3,
        "item-tag links": 3,
        "citation links": 3,
        "items without": "tags 1, citations 1",
    }


@pytest.mark.parametrize(
    ("changes", "where", "what"),
    [
        ({"users": "2 0 2\n1 0 1\n"}, "users.dat:2", "the line says 1 ids and has 2"),
        ({"users": "2 0 2\n\n1 1\n"}, "users.dat:2", "a blank line"),
        ({"users": "1 0\n1 3\n"}, "users.dat:2", "id 3 is beyond the last line, 2"),
        ({"item_tag": "0\n0\n1 3\n"}, "item-tag.dat:3", "id 3 is beyond the last line, 2"),
        ({"citations": "0\n1 7\n0\n"}, "citations.dat:2", "id 7 is beyond"),
        ({"citations": "0\n0\n"}, "", "item-tag.dat lists 3 items and citations.dat 2"),
        ({"tags": ""}, "tags.dat", "is empty"),
    ],
)
def test_bad_lines(tmp_path: Path, changes: dict[str, str], where: str, what: str) -> None:
    with pytest.raises(InputError) as caught:
        CiteULikeA(str(folder(tmp_path, **changes))).read()
    assert what in caught.value.what
    assert caught.value.where == f"{tmp_path}/{where}".rstrip("/")
    assert caught.value.fix


def test_the_order_in_a_line_has_no_say(tmp_path: Path) -> None:
    found = []
    for step in (1, -1):
        rows = [[str((user * 3 + n * n) % 19) for n in range(4)] for user in range(9)]
        lines = "".join(f"4 {' '.join(row[::step])}\n" for row in rows)
        tags = "".join(f"2 {' '.join(['0', '2'][::step])}\n" for _ in range(19))
        path = folder(tmp_path, users=lines, item_tag=tags, citations=tags)
        found.append(prepare(CiteULikeA(str(path)), Filters(), RandomSplit()).fingerprint)
    assert found[0] == found[1]


def test_fingerprint_follows_the_files(tmp_path: Path) -> None:
    source = CiteULikeA(str(folder(tmp_path)))
    prints = {source.fingerprint()}
    for name in FILES:
        (folder(tmp_path) / name).write_text(FILES[name].rstrip() + "\n\n")
        prints.add(source.fingerprint())
    assert len(prints) == 5
