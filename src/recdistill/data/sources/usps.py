"""USPS: handwritten digits of envelopes in one HDF5 file."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Interval

from recdistill.data.archives import LEAST, RATIO, unpack
from recdistill.data.sources.base import RawLog, Source, hash_arguments, hash_files
from recdistill.data.sources.files import existing_file, names_in
from recdistill.data.sources.images import Classes, Images, image_table, some_classes
from recdistill.errors import InputError

_NAMES = ("usps.h5", "usps.h5.zip")
_PARTS = ("train", "test")


class USPS(Source):
    """Grey images of 16 × 16 pixels with their digits, as rows of a class and the feature ``image``.

    Source: Hull, A database for handwritten text recognition research, IEEE TPAMI 16(5), 1994. The file has the data
    sets ``train/data`` and ``test/data``, floats ``[N, 256]`` of 0 to 1, and ``train/target`` and ``test/target``.

    Args:
        path: the ``.h5`` file, a ``.zip`` that holds it, or the folder of either.
        valid: share of the training images that validates, under data/split=given.
        resize: side of a square that images are scaled to, such as MNIST's 28; None leaves them as they are.
        classes: labels that are kept, the first of them as class 0; None for all.
    """

    def __init__(
        self,
        path: str,
        valid: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        resize: Annotated[int, Ge(1)] | None = None,
        classes: Classes | None = None,
    ):
        self.path = Path(path).expanduser()
        self.valid, self.resize, self.classes = valid, resize, classes

    def fingerprint(self) -> str:
        return hash_arguments(
            kind="usps",
            file=hash_files(self._file()),
            valid=self.valid,
            resize=self.resize,
            **some_classes(self.classes),
        )

    def read(self) -> RawLog:
        file = self._file()
        with tempfile.TemporaryDirectory() as folder:
            parts = _parts(_unzipped(file, Path(folder)), file)
        return image_table(
            parts, valid=self.valid, resize=self.resize, where=str(file), warnings=[], classes=self.classes
        )

    def where(self) -> str:
        return str(self.path)

    def _file(self) -> Path:
        if not self.path.is_dir():
            return existing_file(self.path, or_folder=True)
        for name in _NAMES:
            if (self.path / name).is_file():
                return existing_file(self.path / name)
        raise InputError(
            f"'{self.path}' has no {' or '.join(_NAMES)}",
            where="data.path",
            why=f"in it: {names_in(self.path)}",
            fix=f"data.path={self.path}/FILE",
        )


def _unzipped(file: Path, folder: Path) -> Path:
    """The file itself, or the HDF5 file in it, unpacked into the folder."""
    if file.suffix.lower() != ".zip":
        return file
    try:
        with zipfile.ZipFile(file) as archive:
            members = [name for name in archive.namelist() if name.endswith((".h5", ".hdf5"))]
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"'{file}' is damaged", where=str(file), why=str(error), fix="copy the file again") from error
    if len(members) != 1:
        raise InputError(
            f"'{file}' holds {len(members)} HDF5 files, and one is needed",
            where=str(file),
            fix="unpack it: data.path=FILE.h5",
        )
    return unpack(file, members, folder)[0]


def _parts(path: Path, file: Path) -> dict[str, Images]:
    """The images of each part.

    Args:
        path: of the HDF5 file.
        file: what the user named, for messages.
    """
    try:
        import h5py
    except ImportError as error:
        raise InputError(
            "reading HDF5 needs h5py, which is not installed", where=str(file), fix='pip install "recdistill[hdf5]"'
        ) from error
    try:
        with h5py.File(path, "r") as content:
            return {name: _images(content, name, file) for name in _PARTS}
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"'{file}' is no HDF5 file, or is damaged", where=str(file), why=str(error), fix="copy the file again"
        ) from error


def _images(content: Any, part: str, file: Path) -> Images:
    """The images of a part, checked: pixels of 0 to 1 in squares, and a class for each."""
    pixels, label = (_array(content, f"{part}/{name}", file) for name in ("data", "target"))
    side = round(pixels.shape[-1] ** 0.5)
    if pixels.ndim != 2 or label.shape != pixels.shape[:1] or side**2 != pixels.shape[1] or not pixels.size:
        raise _odd(file, part, f"data {list(pixels.shape)}, target {list(label.shape)}", "[N, side²] and [N]")
    if not ((pixels >= 0) & (pixels <= 1)).all():  # NaN is neither
        raise _odd(file, part, "pixels that are no numbers of 0 to 1", "pixels of 0 to 1")
    if label.dtype.kind == "f" or label.min() < 0:
        raise _odd(file, part, "targets that are no classes", "whole numbers from 0 on")
    return Images(pixels.astype(np.float32).reshape(-1, side, side), label.astype(np.int64))


def _array(content: Any, name: str, file: Path) -> np.ndarray[Any, Any]:
    """A data set that lies in the file itself: HDF5 can point at others, and promise more than it holds."""
    import h5py

    node: Any = content
    for key in name.split("/"):
        link = node.get(key, getlink=True) if isinstance(node, h5py.Group) else None
        if not isinstance(link, h5py.HardLink):
            raise _odd(file, name, "no data set of that name" if link is None else "a link", "data and target")
        node = node[key]
    if not isinstance(node, h5py.Dataset) or node.is_virtual or node.external or not node.shape:
        raise _odd(file, name, "no data of its own", "data and target")
    if node.dtype.kind not in "fiu":
        raise _odd(file, name, f"values of type {node.dtype}", "numbers")
    if node.nbytes > max(LEAST, file.stat().st_size * RATIO):
        raise _odd(file, name, f"{node.nbytes:,} bytes, more than {RATIO} times the file's size", "less")
    found: np.ndarray[Any, Any] = node[()]
    return found


def _odd(file: Path, name: str, found: str, wanted: str) -> InputError:
    return InputError(
        f"'{file}' is not of the form of USPS: {name} has {found}",
        where=f"{file}:{name}",
        why=f"wanted: {wanted}",
        fix="take the file as it is published",
    )
