"""What is offered where a folder is given and its files lie one level down, or beside files of other kinds."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from recdistill.data.sources.adjacency import Adjacency
from recdistill.data.sources.amazon import AmazonReviews
from recdistill.data.sources.base import Source
from recdistill.data.sources.files import existing_file
from recdistill.data.sources.given import Given
from recdistill.data.sources.movielens import MovieLens
from recdistill.data.sources.recbole import RecBole
from recdistill.data.sources.table import Table
from recdistill.errors import InputError

REVIEW = '{"reviewerID": "u", "asin": "i", "overall": 5, "unixReviewTime": 1400000000}\n'
INTER = "user_id:token\titem_id:token\nu\ti\n"


def refused(source: Source) -> InputError:
    messages = []
    for act in (source.fingerprint, source.read):
        with pytest.raises(InputError) as caught:
            act()
        messages.append(caught.value)
    assert str(messages[0]) == str(messages[1])
    return messages[0]


def put(folder: Path, *names: str, text: str = "user,item\nu,i\n") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("source", "names", "arguments"),
    [
        (Given, ["train.csv", "valid.csv", "test.csv"], {}),
        (Adjacency, ["train.txt", "test.txt"], {}),
        (MovieLens, ["ratings.dat"], {}),
        (MovieLens, ["u.data"], {}),
    ],
)
def test_files_one_level_down(tmp_path: Path, source: Any, names: list[str], arguments: dict[str, Any]) -> None:
    put(tmp_path, "README.txt", "other/x.txt", *(f"split/{name}" for name in names))
    error = refused(source(str(tmp_path), **arguments))
    assert error.fix == f"data.path={tmp_path / 'split'}"
    assert "README.txt, other/, split/" in (error.why or "")


def test_two_draws_one_level_down(tmp_path: Path) -> None:
    put(tmp_path, "b/train.csv", "a/train.csv")
    assert refused(Given(str(tmp_path))).fix == f"data.path={tmp_path / 'a'}, or data.path={tmp_path / 'b'}"


def test_atomic_files_one_level_down(tmp_path: Path) -> None:
    put(tmp_path, "ml/ml.inter", text=INTER)
    assert refused(RecBole(str(tmp_path))).fix == f"data.path={tmp_path / 'ml' / 'ml.inter'}"


def test_atomic_files_are_no_release(tmp_path: Path) -> None:
    put(tmp_path, "ml-100k.inter", text=INTER)
    assert refused(MovieLens(str(tmp_path))).fix == f"data=ml100k data.path={tmp_path}"


def test_the_only_file_of_reviews(tmp_path: Path) -> None:
    put(tmp_path, "README.txt")
    (tmp_path / "reviews.jsonl.gz").write_bytes(gzip.compress(REVIEW.encode()))
    log = AmazonReviews(str(tmp_path)).read()
    assert log.events.rows() == [("u", "i", 5.0, 1_400_000_000)]
    assert AmazonReviews(str(tmp_path)).fingerprint() == AmazonReviews(str(tmp_path / "reviews.jsonl.gz")).fingerprint()
    put(tmp_path, "more.json", text=REVIEW)
    assert "README.txt, more.json, reviews.jsonl.gz" in (refused(AmazonReviews(str(tmp_path))).why or "")


def test_a_folder_with_one_table(tmp_path: Path) -> None:
    put(tmp_path, "README.txt", "log.csv")
    assert refused(Table(str(tmp_path))).fix == f"data.path={tmp_path / 'log.csv'}"
    put(tmp_path, "more.csv")
    assert refused(Table(str(tmp_path))).fix == f"one file, or a pattern: 'data.path=\"{tmp_path / '*.csv*'}\"'"


def test_a_folder_of_folders(tmp_path: Path) -> None:
    put(tmp_path, "2024/log.csv", "2025/log.csv")
    (tmp_path / "empty").mkdir()
    error = refused(Table(str(tmp_path)))
    assert error.fix == f"data.path={tmp_path / '2024'}, or data.path={tmp_path / '2025'}"
    assert error.why == "in it: 2024/, 2025/, empty/"


def test_one_file_in_a_folder_is_offered(tmp_path: Path) -> None:
    put(tmp_path, "one file.csv", "sub/x.csv")
    with pytest.raises(InputError, match="is a folder") as caught:
        existing_file(tmp_path)
    assert caught.value.fix == f"'data.path=\"{tmp_path / 'one file.csv'}\"'"
    assert caught.value.why == "in it: one file.csv, sub/"


def test_counts_of_a_graph_beside_the_log(tmp_path: Path) -> None:
    put(tmp_path, "x.inter", text=INTER)
    put(tmp_path, "x.kg", text="head_id:token\trelation_id:token\ttail_id:token\na\tr\tb\nb\tr\tc\na\tq\tc\n")
    put(tmp_path, "x.link", text="item_id:token\tentity_id:token\ni\ta\nj\tb\ni\tc\n")
    before = RecBole(str(tmp_path)).fingerprint()
    expected = {"knowledge graph": "3 triples, 2 relations, 3 entities", "items linked to the graph": 2}
    assert RecBole(str(tmp_path)).read().facts == expected
    put(tmp_path, "x.kg", text="something:token\nelse\n")
    assert RecBole(str(tmp_path)).read().facts == {"items linked to the graph": 2}
    assert RecBole(str(tmp_path)).fingerprint() != before
