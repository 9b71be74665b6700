"""IDX files: every pixel and label, files that are not what they say, and the published digits."""

from __future__ import annotations

import gzip
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recdistill.data.filters import Filters
from recdistill.data.interactions import TableDataset
from recdistill.data.prepare import prepare
from recdistill.data.sources.idx import IDX, read_idx
from recdistill.data.sources.images import resized
from recdistill.data.splits import GivenSplit, RandomSplit
from recdistill.errors import InputError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "mnist-t10k"
NAMES = {part: (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte") for part in ("train", "t10k")}


def packed(array: np.ndarray[Any, Any], code: int = 8) -> bytes:
    """An array as an IDX file of the given type."""
    return struct.pack(f">4B{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


def digits(n: int, height: int = 4, width: int = 4, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, height, width), dtype=np.uint8), rng.integers(0, 3, n, dtype=np.uint8)


def write(folder: Path, part: str, images: Any, labels: Any, gz: bool = False) -> None:
    for name, array in zip(NAMES[part], (images, labels), strict=True):
        content = packed(array)
        (folder / (name + ".gz" * gz)).write_bytes(gzip.compress(content) if gz else content)


def folder_of_both(folder: Path) -> Path:
    write(folder, "train", *digits(20), gz=True)
    write(folder, "t10k", *digits(6, seed=1))
    return folder


def refused(source: IDX) -> InputError:
    with pytest.raises(InputError) as caught:
        source.read()
    assert caught.value.fix
    return caught.value


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)),
    st.booleans(),
)
def test_every_byte_is_read(tmp_path_factory: pytest.TempPathFactory, array: Any, gz: bool) -> None:
    path = tmp_path_factory.mktemp("idx") / "any-name"
    path.write_bytes(gzip.compress(packed(array)) if gz else packed(array))
    assert np.array_equal(read_idx(path, 3), array)


def test_one_pair_is_a_table_without_parts(tmp_path: Path) -> None:
    images, labels = digits(5, 3, 2)
    write(tmp_path, "t10k", images, labels, gz=True)
    log = IDX(str(tmp_path)).read()
    assert log.kinds == {"context": {"image": "vector"}}
    assert log.events.columns == ["value", "image"]
    assert log.events["value"].to_list() == labels.tolist()
    rows = [[pixel / 255 for line in image for pixel in line] for image in images.tolist()]
    assert np.allclose(log.events["image"].to_numpy(), rows, rtol=1e-7)
    assert log.facts == {"classes": np.unique(labels).size, "size of an image": "3 × 2 pixels of 0 to 1"}
    (warning,) = log.warnings
    assert "train-images-idx3-ubyte is not there" in warning
    assert IDX(str(tmp_path), train=None).read().warnings == []


def test_the_parts_are_those_of_the_files(tmp_path: Path) -> None:
    source = IDX(str(folder_of_both(tmp_path)), valid=0.2)
    log = source.read()
    assert Counter(log.events["part"].to_list()) == {0: 16, 1: 4, 2: 6}
    assert log.events["part"].to_list()[20:] == [2] * 6
    assert log.events.equals(source.read().events)
    assert log.warnings == []
    whole = IDX(str(tmp_path), valid=0.0).read()
    assert Counter(whole.events["part"].to_list()) == {0: 20, 2: 6}
    dataset = prepare(source, Filters(), GivenSplit())
    assert isinstance(dataset, TableDataset)
    assert [len(part) for part in (dataset.train, dataset.valid, dataset.test)] == [16, 4, 6]
    assert dataset.schema.features == {"vector": {"image": 16}}
    assert dataset.report["parts"]["test"]["labels"] == dataset.test.label.unique().numel()


def test_the_fingerprint_is_of_content_and_arguments(tmp_path: Path) -> None:
    folder_of_both(tmp_path)
    first = IDX(str(tmp_path)).fingerprint()
    assert first == IDX(str(tmp_path)).fingerprint()
    others = [IDX(str(tmp_path), resize=2).fingerprint(), IDX(str(tmp_path), valid=0.3).fingerprint()]
    write(tmp_path, "t10k", *digits(6, seed=2))
    assert len({first, *others, IDX(str(tmp_path)).fingerprint()}) == 4


@pytest.mark.parametrize("sides", [(28, 16), (16, 28), (28, 14), (5, 5)])
def test_scaling_is_that_of_pillow(sides: tuple[int, int]) -> None:
    Image = pytest.importorskip("PIL.Image", reason="compares with Pillow")
    pixels = np.random.default_rng(0).random((3, sides[0], sides[0]), dtype=np.float32)
    wanted = [Image.fromarray(image).resize((sides[1],) * 2, Image.Resampling.BILINEAR) for image in pixels]
    assert np.allclose(resized(pixels, sides[1]), np.stack([np.asarray(image) for image in wanted]), atol=1e-5)


def test_parts_of_two_sizes_need_one(tmp_path: Path) -> None:
    write(tmp_path, "train", *digits(4, 4, 4))
    write(tmp_path, "t10k", *digits(2, 3, 5))
    error = refused(IDX(str(tmp_path)))
    assert "3 × 5 and 4 × 4" in str(error)
    log = IDX(str(tmp_path), resize=6).read()
    assert log.events["image"].dtype.shape == (36,)  # type: ignore[attr-defined]


BAD = {
    "labels first": (packed(digits(3)[1]), "no IDX file of images", "unsigned bytes in 1 dimensions"),
    "floats": (packed(np.zeros((3, 4, 4), ">f4"), 13), "no IDX file of images", "floats in 3 dimensions"),
    "text": (b"label,pixel\n1,2\n", "no IDX file of images", "6c 61 62 65"),
    "short magic": (b"\0\0", "no IDX file of images", "00 00"),
    "short header": (packed(digits(3)[0])[:9], "its header ends early", ""),
    "truncated": (packed(digits(3)[0])[:-1], "truncated", "3 × 4 × 4 = 48 bytes; 47 follow"),
    "too long": (packed(digits(3)[0]) + b"x", "truncated or damaged", "48 bytes; more follow"),
    "truncated gzip": (gzip.compress(packed(digits(30, 9, 9)[0]))[:-20], "can't be decompressed", ""),
    "no gzip": (b"\x1f\x8b" + b"junk" * 9, "can't be decompressed", ""),
    "no images": (packed(np.zeros((0, 4, 4), np.uint8)), "holds no images", ""),
    "a header that promises too much": (
        struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(48), "truncated", "48 follow",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_images_are_refused(tmp_path: Path, name: str) -> None:
    content, what, why = BAD[name]
    write(tmp_path, "t10k", *digits(3))
    (tmp_path / NAMES["t10k"][0]).write_bytes(content)
    error = refused(IDX(str(tmp_path)))
    assert what in str(error)
    assert why in str(error)
    assert "t10k-images" in str(error.where)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    write(tmp_path, "t10k", *digits(3))
    zeros = struct.pack(">4B3I", 0, 0, 8, 3, 80_000, 28, 28) + bytes(80_000 * 784)
    (tmp_path / NAMES["t10k"][0]).write_bytes(gzip.compress(zeros))
    with pytest.raises(InputError, match="unsafe") as caught:
        IDX(str(tmp_path)).read()
    assert "more than 100 times" in str(caught.value)


def test_a_label_each(tmp_path: Path) -> None:
    images, labels = digits(5)
    write(tmp_path, "t10k", images, labels[:4])
    error = refused(IDX(str(tmp_path)))
    assert "5 images" in str(error)
    assert "4 labels" in str(error)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "digits.csv").write_text("1\n")
    error = refused(IDX(str(tmp_path)))
    assert "digits.csv" in str(error)
    assert "t10k-images-idx3-ubyte" in str(error)
    write(tmp_path, "t10k", *digits(3))
    (tmp_path / NAMES["t10k"][1]).unlink()
    assert refused(IDX(str(tmp_path))).where == "data.test"
    assert refused(IDX(str(tmp_path / "nothing"))).where == "data.path"
    assert str(tmp_path) in str(refused(IDX(str(tmp_path / "digits.csv"))).fix)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data/mnist-t10k")
def test_the_published_digits() -> None:
    log = IDX(str(SHARED)).read()
    assert log.events.height == 10_000
    assert log.events["image"].dtype.shape == (784,)  # type: ignore[attr-defined]
    images = gzip.decompress((SHARED / (NAMES["t10k"][0] + ".gz")).read_bytes())
    labels = gzip.decompress((SHARED / (NAMES["t10k"][1] + ".gz")).read_bytes())
    for row in (0, 1, 4_999, 9_999):
        pixels = struct.unpack_from(">784B", images, 16 + 784 * row)
        assert np.allclose(log.events["image"][row].to_list(), [pixel / 255 for pixel in pixels])
        assert log.events["value"][row] == struct.unpack_from("B", labels, 8 + row)[0]
    assert log.events["value"].to_list()[:5] == [7, 2, 1, 0, 4]
    dataset = prepare(IDX(str(SHARED)), Filters(), RandomSplit())
    assert isinstance(dataset, TableDataset)
    assert [len(part) for part in (dataset.train, dataset.valid, dataset.test)] == [8000, 1000, 1000]
    assert sum(counts["rows"] for counts in dataset.report["parts"].values()) == 10_000
    assert {counts["labels"] for counts in dataset.report["parts"].values()} == {10}


def test_some_classes_are_kept_and_numbered_in_their_order(tmp_path: Path) -> None:
    images, labels = digits(40)
    write(tmp_path, "t10k", images, labels)
    log = IDX(str(tmp_path), classes=[2, 0]).read()
    kept = [row for row, label in enumerate(labels) if label in (0, 2)]
    assert log.events["value"].to_list() == [float(labels[row] == 0) for row in kept]
    assert log.events["image"].to_list() == [(images[row].ravel() / np.float32(255)).tolist() for row in kept]
    assert IDX(str(tmp_path), classes=[2, 0]).fingerprint() != IDX(str(tmp_path), classes=[0, 2]).fingerprint()
    for wrong in ([0, 7], [1, 1]):
        assert "classes of the images" in refused(IDX(str(tmp_path), classes=wrong)).what


def test_a_border_is_cut_off(tmp_path: Path) -> None:
    images, labels = digits(6, height=5, width=6)
    write(tmp_path, "t10k", images, labels)
    log = IDX(str(tmp_path), crop=1).read()
    wanted = (images[:, 1:-1, 1:-1] / np.float32(255)).reshape(6, -1)
    assert log.events["image"].to_list() == wanted.tolist()
    assert IDX(str(tmp_path), crop=1).fingerprint() != IDX(str(tmp_path)).fingerprint()
    assert "leaves nothing" in refused(IDX(str(tmp_path), crop=3)).what
