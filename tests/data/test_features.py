"""Features: codes, means, sets and vectors against loops, and their way through plain containers and rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recdistill.data.encoding import encode
from recdistill.data.features import UNKNOWN, Features, take
from recdistill.data.hashing import hash_features
from recdistill.data.sources.base import Kind

KINDS: dict[str, Kind] = {
    "genre/main": "categorical",
    "age": "numeric",
    "tags": "multi",
    "about": "text",
    "image": "vector",
}
WIDTH = 3
WORDS = st.sampled_from(["NA", "0", "01", "1", "a b", "naïve", "😀", "x|y", "\x1b[31m", "null"])
NUMBERS = st.floats(-1e6, 1e6, width=32)
ROW = st.tuples(
    st.none() | WORDS,
    st.none() | NUMBERS,
    st.none() | st.lists(WORDS, max_size=4),
    st.none() | WORDS,
    st.none() | st.lists(NUMBERS, min_size=WIDTH, max_size=WIDTH),
    st.booleans(),
)
ROWS = st.lists(ROW, min_size=1, max_size=12)
Row = tuple[str | None, float | None, list[str] | None, str | None, list[float] | None, bool]


def frame_of(rows: list[Row]) -> pl.DataFrame:
    columns = list(zip(*rows, strict=True))
    dtypes = (pl.String(), pl.Float64(), pl.List(pl.String), pl.String(), pl.Array(pl.Float32, WIDTH))
    return pl.DataFrame(
        [pl.Series(name, column, dtype=dtype) for name, column, dtype in zip(KINDS, columns, dtypes, strict=False)]
    )


def encoded(rows: list[Row]) -> Features:
    return encode(frame_of(rows), KINDS, np.array([row[-1] for row in rows]))


def plain(features: Features, n: int) -> list[list[Any]]:
    """The features of each row in words, NaN as None."""
    words, tags = (features.vocabularies[name] for name in ("genre/main", "tags"))
    sets = features.multi["tags"]
    out = []
    for row in range(n):
        code = int(features.categorical["genre/main"][row])
        number = float(features.numeric["age"][row])
        members = sets.indices[sets.indptr[row] : sets.indptr[row + 1]].tolist()
        vector = features.vector["image"][row].tolist()
        out.append(
            [
                words[code] if code else None,
                None if math.isnan(number) else number,
                [tags[member] for member in members],
                features.text["about"][row],
                None if math.isnan(vector[0]) else vector,
            ]
        )
    return out


def by_loops(rows: list[Row]) -> list[list[Any]]:
    """The same, written down from the definition."""
    fitted = [row for row in rows if row[-1]]
    genres = {row[0] for row in fitted} - {None}
    tags = {tag for row in fitted for tag in row[2] or []}
    return [
        [
            genre if genre in genres else None,
            None if age is None else float(np.float32(age)),
            sorted({tag for tag in members or [] if tag in tags}),
            about or "",
            None if image is None else [float(np.float32(number)) for number in image],
        ]
        for genre, age, members, about, image, _ in rows
    ]


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_encode_agrees_with_loops(rows: list[Row]) -> None:
    features = encoded(rows)
    assert plain(features, len(rows)) == by_loops(rows)
    known = [row[1] for row in rows if row[-1] and row[1] is not None]
    mean, deviation = features.moments["age"]
    assert mean == pytest.approx(np.mean(known) if known else 0, rel=1e-9, abs=1e-9)
    assert deviation == pytest.approx(np.std(known) if known else 0, rel=1e-9, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.lists(st.integers(0, 11), max_size=8))
def test_take_is_a_choice_of_rows(rows: list[Row], chosen: list[int]) -> None:
    at = [number % len(rows) for number in chosen]
    taken = take(encoded(rows), torch.tensor(at, dtype=torch.int64))
    expected = by_loops(rows)
    assert plain(taken, len(at)) == [expected[row] for row in at]


@settings(max_examples=40, deadline=None)
@given(ROWS)
def test_plain_containers_hold_everything(rows: list[Row]) -> None:
    features = encoded(rows)
    again = Features.from_plain(*features.to_plain())
    assert plain(again, len(rows)) == plain(features, len(rows))
    assert again.moments == features.moments
    assert hash_features(again) == hash_features(features)


@settings(max_examples=30, deadline=None)
@given(ROWS, st.randoms())
def test_vocabularies_know_the_fitted_rows_only(rows: list[Row], random: Any) -> None:
    features = encoded(rows)
    others = [row for row in rows if row[-1]] + [row for row in rows if not row[-1]][:1]
    random.shuffle(others)
    fewer = encoded(others)
    for name in ("genre/main", "tags"):
        assert fewer.vocabularies[name].tolist() == features.vocabularies[name].tolist()
        assert features.vocabularies[name][UNKNOWN] == ""


def test_a_change_of_any_feature_changes_the_hash() -> None:
    row: Row = ("NA", 1.0, ["a"], "words", [1.0, 2.0, 3.0], True)
    changed: list[Row] = [
        ("na", *row[1:]),
        (row[0], 2.0, *row[2:]),
        (*row[:2], ["b"], *row[3:]),
        (*row[:3], "other", *row[4:]),
        (*row[:4], [1.0, 2.0, 4.0], True),
        (None, *row[1:]),
        (row[0], None, *row[2:]),
        (*row[:4], None, True),
    ]
    hashes = {hash_features(encoded([other, row])) for other in [row, *changed]}
    assert len(hashes) == len(changed) + 1


@pytest.mark.parametrize("place", range(len(KINDS)))
def test_whose_feature_it_is_changes_the_hash(place: int) -> None:
    rows: list[Row] = [("a", 1.0, ["x"], "one", [1.0, 2.0, 3.0], True), ("b", 2.0, ["y"], "two", [3.0, 2.0, 1.0], True)]
    one, other = list(rows[0]), list(rows[1])
    one[place], other[place] = other[place], one[place]
    swapped: list[Row] = [tuple(one), tuple(other)]  # type: ignore[list-item]
    assert hash_features(encoded(swapped)) != hash_features(encoded(rows))


def test_nothing_known_at_all() -> None:
    row: Row = (None, None, None, None, None, True)
    features = encoded([row, row])
    assert features.categorical["genre/main"].tolist() == [UNKNOWN, UNKNOWN]
    assert features.multi["tags"].counts().tolist() == [0, 0]
    assert features.vector["image"].shape == (2, WIDTH)
    assert features.vector["image"].isnan().all()
    assert features.moments["age"] == (0.0, 0.0)


def test_no_rows() -> None:
    features = take(encoded([("a", 1.0, ["b"], "c", [1.0, 2.0, 3.0], True)]), torch.zeros(0, dtype=torch.int64))
    assert features.vector["image"].shape == (0, WIDTH)
    assert plain(features, 0) == []
    assert features.vocabularies["tags"].tolist() == ["", "b"]


def test_dtypes_are_those_of_the_contract() -> None:
    features = encoded([("a", 1.0, ["b"], "c", [1.0, 2.0, 3.0], True)])
    assert features.categorical["genre/main"].dtype == features.multi["tags"].indices.dtype == torch.int64
    assert features.numeric["age"].dtype == features.vector["image"].dtype == torch.float32
    assert bool(features)
    assert not bool(Features())
