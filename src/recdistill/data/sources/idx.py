"""IDX, the format of MNIST: a file of images and a file of labels, gzip or plain."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Interval, Len

from recdistill.data.archives import LEAST, RATIO, Capped
from recdistill.data.sources.base import RawLog, Source, hash_arguments, hash_files
from recdistill.data.sources.files import broken_archive, existing_file, names_in, open_bytes
from recdistill.data.sources.images import Classes, Images, cropped, image_table, some_classes
from recdistill.data.sources.labelled import WHOLE
from recdistill.errors import InputError

_BYTES = 8  # the code of unsigned bytes, the only type that images and labels have
_TYPES = {8: "unsigned bytes", 9: "signed bytes", 11: "shorts", 12: "integers", 13: "floats", 14: "doubles"}
_MEANING = {1: "labels", 3: "images"}

Pair = Annotated[Sequence[str], Len(2, 2)]
"""File names of images and of their labels."""


class IDX(Source):
    """Labelled grey images, as rows of a class and the feature ``image``: pixels of 0 to 1, 255 being 1.

    Source: LeCun, Cortes and Burges, The MNIST database of handwritten digits, "File formats": two zero bytes, a byte
    for the type, one for the number of dimensions, their sizes as 4 bytes each, the highest first, then the values.
    Fashion-MNIST, KMNIST and EMNIST are published in the same form.

    Args:
        path: a folder.
        train, test: names of the files of images and of labels in it, with or without ``.gz``; None for no such files.
            Where those of one of the two are absent, the others are a table without parts, and the report says so.
        valid: share of the training images that validates; it counts where both are there, under data/split=given.
        resize: side of a square that images are scaled to, for an input that data sets share; None leaves them as they
            are.
        classes: labels that are kept, the first of them as class 0; None for all.
        crop: pixels that are cut off at each side before images are scaled: MNIST's digits have 4 around them, those
            of USPS none.
    """

    def __init__(
        self,
        path: str,
        train: Pair | None = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        test: Pair | None = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
        valid: Annotated[float, Interval(ge=0, lt=1)] = 0.1,
        resize: Annotated[int, Ge(1)] | None = None,
        classes: Classes | None = None,
        crop: Annotated[int, Ge(0)] = 0,
    ):
        self.path = Path(path).expanduser()
        self.pairs = {"train": train, "test": test}
        self.valid, self.resize, self.classes, self.crop = valid, resize, classes, crop

    def fingerprint(self) -> str:
        files = {part: hash_files(*pair) for part, pair in self._files().items()}
        more = {**some_classes(self.classes), **({"crop": self.crop} if self.crop else {})}
        return hash_arguments(kind="idx", files=files, valid=self.valid, resize=self.resize, **more)

    def read(self) -> RawLog:
        files = self._files()
        images = {part: cropped(_read(*pair), self.crop, self.where()) for part, pair in files.items()}
        return image_table(
            images, valid=self.valid, resize=self.resize, where=self.where(), warnings=self._warnings(files),
            classes=self.classes,
        )  # fmt: skip

    def where(self) -> str:
        return str(self.path)

    def _files(self) -> dict[str, tuple[Path, Path]]:
        """Images and labels of each part whose images are there; a single pair under ``WHOLE``."""
        if not self.path.is_dir():
            existing_file(self.path, or_folder=True)
            raise InputError(f"'{self.path}' is no folder", where="data.path", fix=f"data.path={self.path.parent}")
        named = {part: pair for part, pair in self.pairs.items() if pair}
        there = {part: pair for part, pair in named.items() if _find(self.path, pair[0]).is_file()}
        if not there:
            raise InputError(
                f"'{self.path}' has no file {' and no '.join(pair[0] for pair in named.values())}, with or without .gz",
                where="data.path",
                why=f"in it: {names_in(self.path)}",
                fix="data.path=FOLDER, or data.train=[IMAGES,LABELS] data.test=[IMAGES,LABELS]",
            )
        found = {
            part: (_find(self.path, images), existing_file(_find(self.path, labels), f"data.{part}"))
            for part, (images, labels) in there.items()
        }
        return found if len(found) > 1 else {WHOLE: next(iter(found.values()))}

    def _warnings(self, files: dict[str, tuple[Path, Path]]) -> list[str]:
        absent = [pair[0] for pair in self.pairs.values() if pair and not _find(self.path, pair[0]).is_file()]
        if WHOLE not in files or not absent:
            return []
        name = files[WHOLE][0].name
        return [f"{absent[0]} is not there: the images of {name} are one table; published figures are of other parts"]


def _find(folder: Path, name: str) -> Path:
    """The file of that name, or the one packed with gzip."""
    plain, packed = folder / name, folder / f"{name}.gz"
    return packed if packed.is_file() and not plain.is_file() else plain


def _read(images: Path, labels: Path) -> Images:
    """A file of images with its labels.

    Raises:
        InputError: for a file that is none of images or of labels, or numbers that differ.
    """
    pixels, label = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(label):
        raise InputError(
            f"'{images.name}' holds {len(pixels):,} images, '{labels.name}' {len(label):,} labels",
            where=str(labels),
            why="one label an image is needed, in the same order",
            fix="take both files from one release",
        )
    return Images(pixels.astype(np.float32) / np.float32(255), label.astype(np.int64))


def read_idx(path: Path, dimensions: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The array of unsigned bytes in an IDX file.

    Args:
        path: of the file, packed with gzip or not.
        dimensions: that it has to have: 3 for images ``[N, height, width]``, 1 for labels.

    Raises:
        InputError: for another kind of file, one that is truncated or too long, or one that unpacks to more than
            ``RATIO`` times its size.
    """
    path = existing_file(path)
    budget = [max(LEAST, path.stat().st_size * RATIO)]
    try:
        with open_bytes(path) as packed:
            stream = Capped(packed, budget, str(path))
            shape = _shape(_exactly(stream, 4), stream, path, dimensions)
            size = int(np.prod(shape, dtype=object))
            content = _exactly(stream, size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise broken_archive(path, str(error)) from error
    if len(content) != size or not size:
        more = "more" if len(content) > size else f"{len(content):,}"
        sides = " × ".join(map(str, shape))
        raise InputError(
            f"'{path}' is truncated or damaged" if size else f"'{path}' holds no {_MEANING[dimensions]}",
            where=str(path),
            why=f"its header says {sides} = {size:,} bytes; {more} follow",
            fix="download or copy the file again",
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _shape(magic: bytes, stream: Capped, path: Path, dimensions: int) -> list[int]:
    """The sizes in the header, checked to be that of images or of labels."""
    if magic != bytes((0, 0, _BYTES, dimensions)):
        raise InputError(
            f"'{path}' is no IDX file of {_MEANING[dimensions]}",
            where=str(path),
            why=_says(magic),
            fix="name the file of images first, then that of labels: data.train=[IMAGES,LABELS]",
        )
    header = _exactly(stream, 4 * dimensions)
    if len(header) < 4 * dimensions:
        raise InputError(f"'{path}' is truncated: its header ends early", where=str(path), fix="copy the file again")
    return [int(size) for size in np.frombuffer(header, ">u4")]


def _says(magic: bytes) -> str:
    """What the first four bytes say."""
    if len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in _TYPES:
        return f"it holds {_TYPES[magic[2]]} in {magic[3]} dimensions"
    return f"it starts with {magic.hex(' ') or 'nothing'}"


def _exactly(stream: Capped, size: int) -> bytes:
    """``size`` bytes, or all that are left."""
    chunks = []
    while size > 0 and (chunk := stream.read(size)):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)
