"""Texts of items: against a loop over items, and of the training part alone."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.content.template import item_texts
from recdistill.data.filters import Filters
from recdistill.data.interactions import Dataset
from recdistill.data.prepare import prepare
from recdistill.data.sources.base import RawLog, Source
from recdistill.data.splits.given import GivenSplit
from recdistill.errors import InputError

KEY = "data.encode.text.template"
REVIEWS = [  # user, item, part, time, review
    ("u", "a", 0, 1, "old"), ("u", "b", 0, 2, ""), ("v", "a", 0, 3, "new"), ("v", "b", 1, 4, "valid"),
    ("u", "c", 2, 5, "test"),
]  # fmt: skip


class Log(Source):
    """Three items, two of them in the training part, and a sixth of a title each."""

    def __init__(self, titles: list[str | None] | None = None):
        self.titles = titles or ["A  a", None, "C"]

    def fingerprint(self) -> str:
        return "x"

    def where(self) -> str:
        return "here"

    def read(self) -> RawLog:
        columns = list(zip(*REVIEWS, strict=True))
        names = ("user", "item", "part", "time", "review")
        events = pl.DataFrame(dict(zip(names, columns, strict=True))).with_columns(pl.col("part").cast(pl.Int8))
        items = pl.DataFrame({
            "item": ["a", "b", "c"], "title": self.titles, "brand": ["X", "Y", None], "tags": [["p", "q"], [], ["p"]],
            "said": ["it {is}", None, "so"],
        })  # fmt: skip
        kinds = {"item": {"brand": "categorical", "tags": "multi", "said": "text"}, "context": {"review": "text"}}
        return RawLog(events, items, kinds=kinds)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def data() -> Dataset:
    made = prepare(Log(), Filters(k_core=0), GivenSplit())
    assert isinstance(made, Dataset)
    return made


def test_every_kind_of_name(data: Dataset) -> None:
    assert list(data.items) == ["a", "b", "c"]
    texts = item_texts("{title}, by {brand} ({tags}): {said}. {train.review}", data, KEY)
    # The vocabularies are the training part's: c is in the test part alone, so that its tag of a is known, no other.
    assert texts.to_list() == ["A a, by X (p, q): it {is}. new old", ", by Y (): .", "C, by (p): so."]


def test_reviews_of_other_parts_are_never_read(data: Dataset) -> None:
    """And an item of which nothing is known has no text, whatever stands around the names."""
    assert item_texts("Reviews: {train.review}", data, KEY).to_list() == ["Reviews: new old", "", ""]


def test_an_item_without_a_title_is_not_called_by_its_id(data: Dataset) -> None:
    assert item_texts("{title}", data, KEY).to_list() == ["A a", "", "C"]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{titel}", "{title}"), ("{train.reviews}", "{train.review}"), ("{title", "is no template"),
        ("plain", "holds no name"),
        ("{title!r}", "has a format"), ("{}", "braces without a name"), ("{title:>10}", "has a format"),
    ],
)  # fmt: skip
def test_a_wrong_template_says_what_there_is(template: str, said: str, data: Dataset) -> None:
    with pytest.raises(InputError) as caught:
        item_texts(template, data, KEY)
    assert said in str(caught.value)
    assert caught.value.where == KEY


WORD = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Z"]), max_size=4)


@given(st.lists(WORD, min_size=3, max_size=3), st.text("ab :{}", max_size=6))
def test_as_a_loop_would(words: list[str], text: str) -> None:
    data = prepare(Log([word or None for word in words]), Filters(k_core=0), GivenSplit())
    assert isinstance(data, Dataset)
    literal = text.replace("{", "{{").replace("}", "}}")
    found = item_texts(literal + "{title}", data, KEY)
    title = dict(zip("abc", words, strict=True))
    expected = [" ".join((text + title[i]).split()) if title[i] and title[i] != i else "" for i in data.items]
    assert found.to_list() == expected
