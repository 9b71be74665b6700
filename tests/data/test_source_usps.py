"""USPS's HDF5 file: its parts, what HDF5 can hide, and the published digits."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recdistill.data.filters import Filters
from recdistill.data.interactions import TableDataset
from recdistill.data.prepare import prepare
from recdistill.data.sources.usps import USPS
from recdistill.data.splits import GivenSplit
from recdistill.errors import InputError

h5py = pytest.importorskip("h5py", reason="reads HDF5")
SHARED = Path(__file__).parents[3] / "shared" / "data" / "usps"


def arrays(train: int = 20, test: int = 6, side: int = 4) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "train/data": rng.random((train, side**2), dtype=np.float32),
        "train/target": rng.integers(0, 3, train, dtype=np.int32),
        "test/data": rng.random((test, side**2), dtype=np.float32),
        "test/target": rng.integers(0, 3, test, dtype=np.int32),
    }


def write(path: Path, content: dict[str, Any], change: Callable[[Any], None] = lambda _file: None) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in content.items():
            file.create_dataset(name, data=array)
        change(file)
    return path


def zipped(path: Path, member: str = "deep/usps.h5") -> Path:
    target = path.with_name("usps.h5.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, member)
    return target


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        USPS(str(path)).read()
    assert caught.value.where
    return str(caught.value)


def test_the_file_a_zip_and_a_folder_are_one(tmp_path: Path) -> None:
    content = arrays()
    plain = USPS(str(write(tmp_path / "usps.h5", content)), valid=0.25).read()
    assert plain.events["image"].to_numpy().tolist() == np.concatenate(
        [content["train/data"], content["test/data"]]
    ).tolist()  # fmt: skip
    assert plain.events["value"].to_list() == [*content["train/target"], *content["test/target"]]
    assert np.bincount(plain.events["part"].to_numpy()).tolist() == [15, 5, 6]
    assert plain.facts["size of an image"] == "4 × 4 pixels of 0 to 1"
    for path in (zipped(tmp_path / "usps.h5"), tmp_path):
        assert USPS(str(path), valid=0.25).read().events.equals(plain.events)
    (tmp_path / "usps.h5").unlink()
    assert USPS(str(tmp_path), valid=0.25).read().events.equals(plain.events)


def test_images_share_a_size_with_others(tmp_path: Path) -> None:
    source = USPS(str(write(tmp_path / "usps.h5", arrays())), resize=7)
    dataset = prepare(source, Filters(), GivenSplit())
    assert dataset.schema.features == {"vector": {"image": 49}}
    assert source.fingerprint() != USPS(str(tmp_path / "usps.h5")).fingerprint()


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no squares": ({"train/data": np.zeros((20, 15), np.float32)}, "train has data [20, 15], target [20]"),
    "another number of labels": ({"test/target": np.zeros(5, np.int32)}, "test has data [6, 16], target [5]"),
    "bytes": ({"train/data": np.full((20, 16), 255.0)}, "no numbers of 0 to 1"),
    "not a number": ({"train/data": np.full((20, 16), np.nan)}, "no numbers of 0 to 1"),
    "negative labels": ({"train/target": np.full(20, -1)}, "no classes"),
    "fractions": ({"train/target": np.full(20, 0.5)}, "no classes"),
    "text": ({"train/target": np.array([b"a"] * 20)}, "values of type"),
    "one number": ({"train/target": np.int32(3)}, "no data of its own"),
    "no rows": ({"train/data": np.zeros((0, 16), np.float32), "train/target": np.zeros(0, np.int32)}, "data [0, 16]"),
    "no such part": ({"test/data": None}, "test/data has no data set of that name"),
}


@pytest.mark.parametrize("name", BAD)
def test_other_content_is_refused(tmp_path: Path, name: str) -> None:
    change, what = BAD[name]
    content = {key: array for key, array in (arrays() | change).items() if array is not None}
    assert what in refused(write(tmp_path / "usps.h5", content))


def _external_link(file: Any) -> None:
    del file["train/data"]
    file["train/data"] = h5py.ExternalLink("other.h5", "/train/data")


def _soft_link(file: Any) -> None:
    del file["train/data"]
    file["train/data"] = h5py.SoftLink("/test/data")


def _external_storage(file: Any) -> None:
    del file["train/data"]
    file.create_dataset("train/data", (20, 16), "f4", external=[("secret.bin", 0, 20 * 16 * 4)])


def _virtual(file: Any) -> None:
    del file["train/data"]
    layout = h5py.VirtualLayout((20, 16), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "train/data", (20, 16))
    file.create_virtual_dataset("train/data", layout)


@pytest.mark.parametrize("change", [_external_link, _soft_link, _external_storage, _virtual])
def test_no_other_file_is_read(tmp_path: Path, change: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "other.h5", arrays())
    (tmp_path / "secret.bin").write_bytes(bytes(20 * 16 * 4))
    said = refused(write(tmp_path / "usps.h5", arrays(), change))
    assert "train/data has a link" in said or "train/data has no data of its own" in said


def test_a_file_that_promises_too_much(tmp_path: Path) -> None:
    def change(file: Any) -> None:
        del file["train/data"]
        file.create_dataset("train/data", (2**40, 16), "f4", chunks=(64, 16))

    assert "more than 100 times" in refused(write(tmp_path / "usps.h5", arrays(), change))


def test_damaged_files(tmp_path: Path) -> None:
    path = write(tmp_path / "usps.h5", arrays(train=2000))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "no HDF5 file, or is damaged" in refused(path)
    path.write_text("label,pixel\n")
    assert "no HDF5 file, or is damaged" in refused(path)
    bad = tmp_path / "usps.h5.zip"
    bad.write_bytes(b"PK\x03\x04" + b"junk" * 20)
    assert "damaged" in refused(bad)


def test_a_zip_with_two_or_none(tmp_path: Path) -> None:
    path = zipped(write(tmp_path / "usps.h5", arrays()), "readme.txt")
    assert "holds 0 HDF5 files" in refused(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a.h5", b"x")
        archive.writestr("b.h5", b"x")
    assert "holds 2 HDF5 files" in refused(path)


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "usps.h5.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("usps.h5", bytes(40_000_000))
    assert "unsafe" in refused(tmp_path / "usps.h5.zip")


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    said = refused(tmp_path)
    assert "usps.h5.zip" in said
    assert "notes.txt" in said
    assert "no file" in refused(tmp_path / "usps.h5")


def test_without_h5py_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "usps.h5", arrays())
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError) as caught:
        USPS(str(path)).read()
    assert caught.value.fix == 'pip install "recdistill[hdf5]"'


def test_some_classes_are_kept(tmp_path: Path) -> None:
    source = USPS(str(write(tmp_path / "usps.h5", arrays(200, 60))), classes=[1, 0])
    whole = USPS(str(tmp_path / "usps.h5")).read().events
    found = source.read().events
    assert found["value"].to_list() == [1 - label for label in whole["value"].to_list() if label < 2]
    assert source.fingerprint() != USPS(str(tmp_path / "usps.h5")).fingerprint()


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data/usps")
def test_the_published_digits(tmp_path: Path) -> None:
    dataset = prepare(USPS(str(SHARED / "usps.h5.zip")), Filters(), GivenSplit())
    assert isinstance(dataset, TableDataset)
    assert [len(part) for part in (dataset.train, dataset.valid, dataset.test)] == [7291 - 729, 729, 2007]
    assert dataset.schema.features == {"vector": {"image": 256}}
    assert dataset.report["facts"]["rows by part"].endswith("train and valid 7,291")
    with zipfile.ZipFile(SHARED / "usps.h5.zip") as archive:
        archive.extract("usps.h5", tmp_path)
    log = USPS(str(SHARED), resize=None).read()
    with h5py.File(tmp_path / "usps.h5") as file:
        for row in (0, 7290):
            assert log.events["image"][row].to_list() == file["train/data"][row].tolist()
            assert log.events["value"][row] == file["train/target"][row]
        assert log.events["image"][-1].to_list() == file["test/data"][2006].tolist()
