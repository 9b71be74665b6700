"""An image encoder of random weights, from files, against the same encoder called by hand."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recdistill.content.base import with_vectors
from recdistill.content.pictures import PictureEncoder
from recdistill.content.rows import NewRows
from recdistill.data.interactions import Dataset
from recdistill.errors import InputError

KEY = "data.encode.image"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    config = transformers.ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                                    image_size=16, patch_size=8)  # fmt: skip
    transformers.ViTModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}, "do_resize": true, '
        '"do_rescale": true, "do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}'
    )
    return folder


@pytest.fixture
def pictures(data: Dataset, tmp_path: Path) -> Path:
    """One of each item but the third, of several kinds and sizes."""
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for at, item in enumerate(data.items.astype(str)):
        if at != 2:
            pixels = rng.integers(0, 256, (12 + at, 30, 3 if at % 2 else 4), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{item}.{'JPG' if at % 2 else 'png'}")
    (folder / "notes.txt").write_text("no picture")
    return folder


def vectors(data: Dataset, encoder: PictureEncoder, cache: Path) -> torch.Tensor:
    found = with_vectors(data, {"image": encoder}, cache)
    assert isinstance(found, Dataset)
    return found.item_features.vector["image"]


def by_hand(model: Path, file: Path) -> np.ndarray:  # type: ignore[type-arg]
    """From the pixels up: resized, to [-1, 1], through the library's model, its pooled output."""
    from PIL import Image
    from transformers import ViTModel

    picture = Image.open(file).convert("RGB").resize((16, 16), Image.Resampling.BILINEAR)
    pixels = (np.asarray(picture, dtype=np.float32) / 255 - 0.5) / 0.5
    with torch.no_grad():
        answer = ViTModel.from_pretrained(model).eval()(torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None])
    return answer.pooler_output[0].numpy()  # type: ignore[no-any-return]


def test_as_the_library_does(data: Dataset, model: Path, pictures: Path, tmp_path: Path) -> None:
    found = vectors(data, PictureEncoder(str(pictures), str(model), batch_size=7), tmp_path / "cache")
    assert found[2].isnan().all()
    assert found.isnan().any(1).sum() == 1
    for at in (0, 1, 5, len(found) - 1):
        file = next(pictures.glob(f"{data.items[at]}.*"))
        np.testing.assert_allclose(found[at].numpy(), by_hand(model, file), atol=1e-5)


def test_another_picture_is_another_vector(data: Dataset, model: Path, pictures: Path, tmp_path: Path) -> None:
    encoder = PictureEncoder(str(pictures), str(model))
    before = vectors(data, encoder, tmp_path / "cache")
    shutil.copy(pictures / f"{data.items[0]}.png", pictures / f"{data.items[4]}.png")
    after = vectors(data, encoder, tmp_path / "cache")
    assert torch.equal(before[0], after[4])
    changed = (before != after).any(1) & before.isfinite().all(1)
    assert changed.nonzero().flatten().tolist() == [4]


def test_new_items_have_pictures_in_the_same_folder(data: Dataset, model: Path, pictures: Path, tmp_path: Path) -> None:
    shutil.copy(pictures / f"{data.items[0]}.png", pictures / "new.png")
    encoder = PictureEncoder(str(pictures), str(model))
    rows = NewRows(tmp_path / "new.csv", np.array(["unseen", "new"], dtype=object))
    found = encoder.of_new(rows, KEY)
    assert found[0].isnan().all()
    torch.testing.assert_close(found[1], vectors(data, encoder, tmp_path / "cache")[0], atol=1e-6, rtol=0)
    with pytest.raises(InputError, match="holds vectors"):
        encoder.of_new(replace(rows, vectors=True), KEY)


def refused(data: Dataset, encoder: PictureEncoder, cache: Path, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        vectors(data, encoder, cache)
    assert caught.value.fix


def test_what_can_not_be_read_is_named(data: Dataset, model: Path, pictures: Path, tmp_path: Path) -> None:
    cache: Any = tmp_path / "cache"
    refused(data, PictureEncoder(str(tmp_path / "nowhere"), str(model)), cache, "there is no folder")
    refused(data, PictureEncoder(str(model), str(model)), cache, "none of the .* items has a picture")
    refused(data, PictureEncoder(str(pictures), str(pictures)), cache, "can't be loaded as an image encoder")
    broken = pictures / f"{data.items[6]}.png"
    broken.write_bytes(broken.read_bytes()[:60])
    refused(data, PictureEncoder(str(pictures), str(model)), cache, f"'{broken}' can't be read as a picture")
