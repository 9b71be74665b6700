"""Amazon reviews in their three forms: ids, times and texts in, names of people never."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from recdistill.data.filters import Filters
from recdistill.data.interactions import Dataset
from recdistill.data.prepare import prepare
from recdistill.data.sources.amazon import AmazonReviews
from recdistill.data.sources.base import RawLog
from recdistill.data.splits import RandomSplit
from recdistill.errors import InputError

OLD = [
    {"reviewerID": "A1", "asin": "0001", "reviewerName": "Jo Doe", "helpful": [0, 1], "reviewText": "Good 👍",
     "overall": 5.0, "summary": "fine", "unixReviewTime": 1393545600, "reviewTime": "02 28, 2014"},
    {"reviewerID": "A2", "asin": "0002", "reviewText": "", "overall": 1, "summary": "no", "unixReviewTime": 1363392000},
]  # fmt: skip
NEW = [
    {"rating": 4.0, "title": "Nice", "text": "It is.", "images": [{"a": 1}], "asin": "B1", "parent_asin": "P1",
     "user_id": "AG", "timestamp": 1588687728923, "helpful_vote": 0, "verified_purchase": True},
    {"rating": 2.0, "title": "", "text": None, "images": [], "asin": "B2", "parent_asin": "P1", "user_id": "AH",
     "timestamp": 1588615855070, "helpful_vote": 2, "verified_purchase": False},
]  # fmt: skip


def write(folder: Path, rows: list[dict[str, object]], name: str = "reviews.jsonl") -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (folder / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    return folder / name


def read(folder: Path, rows: list[dict[str, object]], name: str = "reviews.jsonl", **arguments: object) -> RawLog:
    return AmazonReviews(str(write(folder, rows, name)), **arguments).read()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["reviews.jsonl", "reviews.json", "reviews.jsonl.gz", "reviews.json.gz"])
def test_the_form_of_2014(tmp_path: Path, name: str) -> None:
    log = read(tmp_path, OLD, name)
    assert log.events.select("user", "item", "value", "time", "review", "summary").rows() == [
        ("A1", "0001", 5.0, 1393545600, "Good 👍", "fine"),
        ("A2", "0002", 1.0, 1363392000, None, "no"),
    ]
    assert log.time_unit == "s"
    assert log.facts == {"review texts": 1, "summary texts": 2}
    assert log.kinds == {"context": {"review": "text", "summary": "text"}}


def test_the_form_of_2023(tmp_path: Path) -> None:
    log = read(tmp_path, NEW)
    assert log.events.select("user", "item", "value", "time", "review", "summary").rows() == [
        ("AG", "P1", 4.0, 1588687728923, "It is.", "Nice"),
        ("AH", "P1", 2.0, 1588615855070, None, None),
    ]
    assert log.time_unit == "ms"
    assert read(tmp_path, NEW, item="asin").events["item"].to_list() == ["B1", "B2"]
    older = [{key: value for key, value in row.items() if key != "parent_asin"} for row in NEW]
    assert read(tmp_path, older).events["item"].to_list() == ["B1", "B2"]


def test_names_of_people_are_not_read(tmp_path: Path) -> None:
    log = read(tmp_path, OLD)
    assert set(log.events.columns) == {"user", "item", "value", "time", "review", "summary"}
    assert "Doe" not in str(log.events.to_dict(as_series=False))


def test_texts_may_be_left_out_or_absent(tmp_path: Path) -> None:
    assert read(tmp_path, OLD, texts=False).kinds == {"context": {}}
    bare = [{key: value for key, value in row.items() if key != "reviewText"} for row in OLD]
    assert read(tmp_path, bare).kinds == {"context": {"summary": "text"}}


def test_a_text_that_names_a_key_is_no_key(tmp_path: Path) -> None:
    rows = [{**OLD[0], "reviewText": 'my "user_id": and "parent_asin": here'}, OLD[1]]
    assert read(tmp_path, rows).events["item"].to_list() == ["0001", "0002"]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"overall": "five"}, "reviews.jsonl:2:overall"),
        ({"asin": None}, "reviews.jsonl:2:asin"),
        ({"reviewerID": " "}, "reviews.jsonl:2:reviewerID"),
        ({"unixReviewTime": "yesterday"}, "reviews.jsonl:2:unixReviewTime"),
        ({"unixReviewTime": 1393545600000}, "reviews.jsonl:2:unixReviewTime"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, change: dict[str, object], where: str) -> None:
    rows = [OLD[0], {**OLD[1], **change}, OLD[0]]
    with pytest.raises(InputError) as caught:
        read(tmp_path, rows)
    assert where in str(caught.value.where)


def test_bad_rows_may_be_dropped(tmp_path: Path) -> None:
    log = read(tmp_path, [*OLD, {**OLD[0], "overall": None}], on_bad_rows="drop")
    assert log.events.height == 2
    assert sum(log.dropped.values()) == 1


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, OLD)
    path.write_text(path.read_text() + '{"reviewerID": "A3", "asin"\n')
    with pytest.raises(InputError) as caught:
        AmazonReviews(str(path)).read()
    assert str(caught.value.where).endswith("reviews.jsonl:3")


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no reviewerID or user_id") as caught:
        read(tmp_path, [{"who": "a", "what": "b"}])
    assert "data=jsonl" in str(caught.value.fix)
    with pytest.raises(InputError, match="no overall"):
        read(tmp_path, [{"reviewerID": "A1", "asin": "1", "unixReviewTime": 1}])
    with pytest.raises(InputError, match="no file"):
        AmazonReviews(str(tmp_path / "nothing.jsonl")).read()


def test_the_order_of_lines_has_no_say(tmp_path: Path) -> None:
    rows = [
        {**OLD[0], "reviewerID": f"A{n % 7}", "asin": f"{n % 11:04}", "unixReviewTime": 10**9 + n} for n in range(60)
    ]
    prints = []
    for _ in range(2):
        dataset = prepare(AmazonReviews(str(write(tmp_path, rows))), Filters(), RandomSplit())
        assert isinstance(dataset, Dataset)
        assert len(dataset.train.context.text["review"]) == len(dataset.train)
        prints.append(dataset.fingerprint)
        random.Random(0).shuffle(rows)
    assert prints[0] == prints[1]


def test_the_fingerprint_is_of_content_and_arguments(tmp_path: Path) -> None:
    path = write(tmp_path, OLD)
    first = AmazonReviews(str(path)).fingerprint()
    assert AmazonReviews(str(path), texts=False).fingerprint() != first
    write(tmp_path, OLD[:1])
    assert AmazonReviews(str(path)).fingerprint() != first
